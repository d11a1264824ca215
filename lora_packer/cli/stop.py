"""``stop``: end what costs money."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.deploy import show_endpoint
from lora_packer.cli.options import ApiOption, ApiVersion
from lora_packer.cli.service import connected


@command
def stop(
    *,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, as `deploy` printed it.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it for good. A stopped one may not be startable again.")
    ] = False,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Stop an endpoint, so that it costs nothing any more."""
    with connected(output, api, endpoint) as (client, choice):
        stopped = choice.api.stop(client, endpoint, delete=delete)
    show_endpoint(output, stopped, choice.name)
