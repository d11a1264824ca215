"""``deploy``: an endpoint for a model, and what it costs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.left import told_where_it_stops
from lora_packer.cli.options import ApiOption, ApiVersion, HardwareOption, ModelArgument, TimeoutOption
from lora_packer.cli.service import connected
from lora_packer.cli.waiting import WaitingLine
from lora_packer.duration import parse_duration

if TYPE_CHECKING:
    from lora_packer.errors import ServiceError
    from lora_packer.together import Api, Client, Endpoint


@command
def deploy(
    *,
    model: ModelArgument,
    hardware: HardwareOption = None,
    display_name: Annotated[
        str | None, typer.Option("--display-name", metavar="NAME", help="What the dashboard calls the endpoint.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it serves.")] = False,
    timeout: TimeoutOption = "60m",
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Create a dedicated endpoint with one replica for a model. It costs money until `stop`.

    An endpoint of yours that serves the model already is taken, not paid for twice.
    """
    from lora_packer.together import ensure_endpoint

    limit = parse_duration(timeout)
    with connected(output, api) as (client, choice):
        with told_where_it_stops(lambda: ("The endpoint may exist, and then it costs money: the next run finds it.",)):
            endpoint, created = ensure_endpoint(
                choice.api, client, model, hardware_id=hardware, display_name=display_name or None
            )
        output.note(f"endpoint {endpoint.id} {'created' if created else 'was there already'}; it {endpoint.cost}")
        if wait:
            endpoint = _until_serving(output, choice.api, client, endpoint, limit)
    show_endpoint(output, endpoint, choice.name, asked=model)


def _until_serving(output: Output, chosen: Api, client: Client, endpoint: Endpoint, timeout: timedelta) -> Endpoint:
    from lora_packer.together import serve

    line = WaitingLine(output)

    def on_change(endpoint: Endpoint) -> None:
        line.state = endpoint.state
        output.note(f"{endpoint.state:<10}{' ' + endpoint.reason if endpoint.reason else ''}".rstrip())

    def on_trouble(error: ServiceError) -> None:
        output.note(f"{error.message} Looking again.")

    with told_where_it_stops(lambda: (f"Endpoint {endpoint.id} goes on, and {endpoint.cost}.",)):
        return serve(
            chosen,
            client,
            endpoint,
            timeout=timeout,
            on_change=on_change,
            on_trouble=on_trouble,
            sleep=line.sleep,
        )


def show_endpoint(output: Output, endpoint: Endpoint, api: str, *, asked: str | None = None) -> None:
    """Print an endpoint as the command's result, and what keeps costing money."""
    from lora_packer.together import option

    lines = [f"endpoint  {endpoint.id}"]
    if endpoint.model or asked:
        lines.append(f"model     {endpoint.model or asked}")
    if endpoint.hardware:
        lines.append(f"hardware  {endpoint.hardware}")
    lines.append(f"state     {endpoint.state}")
    lines.append(f"cost      {endpoint.cost}")
    if not endpoint.is_ending:
        lines.append(f"next      lora-packer ask {endpoint.id} 'Hello'{option(api, endpoint.id)}")
        lines.append(f"          {endpoint.stop_command}")
    output.result("\n".join(lines), {"schema_version": 1, "api": api, "endpoint": endpoint.to_dict()})
