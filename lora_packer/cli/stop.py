"""``stop``: end what costs money."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_packer.cli.common import Format, FormatOption, NoColorOption, Output, QuietOption, VerboseOption, guarded
from lora_packer.cli.deploy import show_endpoint
from lora_packer.cli.status import ApiOption, chosen_api


@guarded
def stop(
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, as `deploy` printed it.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it for good. A stopped one may not be startable again.")
    ] = False,
    api: ApiOption = "v1",
    output_format: FormatOption = Format.text,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Stop an endpoint, so that it costs nothing any more."""
    from lora_packer.together import Client

    output = Output(output_format, quiet, verbose, no_color)
    with Client.from_environment() as client:
        stopped = chosen_api(api).stop(client, endpoint, delete=delete)
    show_endpoint(output, stopped, api)
