"""``stop``: end what costs money, see it end, and say what may still cost money."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.deploy import show_endpoint, waiting_for
from lora_packer.cli.ends import same_command
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import ApiOption, ApiVersion
from lora_packer.duration import parse_duration
from lora_packer.errors import InputError, Interrupted

_CUT_OFF = "What was scaled to zero goes on stopping, and costs nothing once it has; what was not may still cost money."


@command
def stop(
    *,
    endpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="ENDPOINT", help="The endpoint's id or name, or a model's name: then all that serves it is stopped."
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Stop every endpoint of the account or project.")] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it for good. A stopped one may not be startable again.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has stopped.")] = True,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="How long to wait until it has stopped, like 10m.")
    ] = "10m",
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Stop an endpoint, so that it costs nothing any more.

    Everything is scaled to zero first, whatever else is refused; then it is waited for, and deleted where that was
    asked. The last line says what may still cost money.
    """
    from lora_packer.together import stop_all

    if (endpoint is None) is not everything:
        raise InputError("It is not clear what to stop.", hint="Give an endpoint or a model, or --all; not both.")
    if delete and not wait:
        raise InputError("What still runs cannot be deleted.", hint="Give --delete without --no-wait.")
    limit = parse_duration(timeout)
    with connected(output, api, endpoint or "") as (client, choice):
        targets: tuple[tuple[str, str | None], ...]
        if endpoint is None:
            targets = tuple((one.id, None) for one in choice.api.all_endpoints(client))
        else:
            targets = choice.api.to_stop(client, endpoint)
        waiting = waiting_for(output, limit) if wait else None
        try:
            stopped = stop_all(choice.api, client, targets, delete=delete, waiting=waiting)
        except KeyboardInterrupt:
            raise Interrupted(f"Go on with: {same_command()}\n{_CUT_OFF}") from None
    if endpoint is not None and len(stopped) == 1:
        show_endpoint(output, stopped[0], choice.name, go_on=False)
        return
    lines = [f"{one.id}  {one.state}" for one in stopped]
    costing = [one for one in stopped if not one.is_stopped]
    lines += [f"{one.id} {one.cost}" for one in costing] or ["nothing of it runs, so nothing of it costs money"]
    data = {"schema_version": 1, "api": choice.name, "endpoints": [one.to_dict() for one in stopped]}
    output.result("\n".join(lines), data)
