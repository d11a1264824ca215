"""``deploy``: an endpoint for a model, and what it costs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.left import told_where_it_stops
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import (
    ApiOption,
    ApiVersion,
    AttachOption,
    HardwareOption,
    ModelArgument,
    TimeoutOption,
)
from lora_packer.cli.waiting import WaitingLine
from lora_packer.duration import parse_duration
from lora_packer.errors import InputError
from lora_packer.redact import shell_word

if TYPE_CHECKING:
    from lora_packer.errors import ServiceError
    from lora_packer.together import Api, Choice, Client, Endpoint, Rehearsal, Waiting


@command
def deploy(
    *,
    model: ModelArgument,
    hardware: HardwareOption = None,
    display_name: Annotated[
        str | None, typer.Option("--display-name", metavar="NAME", help="What the dashboard calls the endpoint.")
    ] = None,
    min_replicas: Annotated[
        int | None, typer.Option("--min-replicas", metavar="N", help="How many replicas run at least. Default: 1.")
    ] = None,
    max_replicas: Annotated[
        int | None,
        typer.Option("--max-replicas", metavar="N", help="How many replicas run at most. Default: --min-replicas."),
    ] = None,
    inactive_timeout: Annotated[
        str | None,
        typer.Option(
            "--inactive-timeout",
            metavar="MINUTES",
            help="Stop by itself after so many minutes without a request (or a duration like 2h); 0 is never.",
        ),
    ] = None,
    attach: AttachOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Create nothing: tell the price, and let the service judge the deployment where it can."
        ),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it serves.")] = False,
    timeout: TimeoutOption = "60m",
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Create a dedicated endpoint for a model. It costs money until `stop`; the price is told first.

    An endpoint of yours that serves the model already is taken, not paid for twice. What was created is taken back
    where the next step is refused.
    """
    from lora_packer.together import Wanted, ensure_endpoint

    limit = parse_duration(timeout)
    wanted = Wanted(
        hardware=hardware,
        name=display_name or None,
        min_replicas=1 if min_replicas is None else min_replicas,
        max_replicas=max_replicas if max_replicas is not None else max(min_replicas or 1, 1),
        inactive_timeout=_minutes(inactive_timeout),
    )
    if attach is not None and wanted != Wanted():
        raise InputError(
            "An adapter that is attached runs on what runs already.",
            hint="Give --attach without options of a new endpoint.",
        )
    if dry_run and (attach is not None or wait):
        raise InputError(
            "What is created by nobody cannot be attached or waited for.",
            hint="Give --dry-run without --attach and --wait.",
        )
    with connected(output, api, attach or "") as (client, choice):
        if attach is not None:
            _attach(output, choice, client, model, attach, limit)
            return
        if dry_run:
            _show_rehearsal(output, choice.name, choice.api.rehearse(client, model, wanted))
            return
        with told_where_it_stops(lambda: ("The endpoint may exist, and then it costs money: the next run finds it.",)):
            endpoint, created = ensure_endpoint(choice.api, client, model, wanted, tell=output.note)
        output.note(f"endpoint {endpoint.id} {'created' if created else 'was there already'}; it {endpoint.cost}")
        if not created and wanted != Wanted(hardware=wanted.hardware, name=wanted.name):
            output.note("what was asked for of a new one, its replicas or its timeout, does not change it")
        if wait:
            endpoint = _until_serving(output, choice.api, client, endpoint, limit)
    show_endpoint(output, endpoint, choice.name, asked=model)


def _show_rehearsal(output: Output, api: str, seen: Rehearsal) -> None:
    """Print what a deployment would be like, and whether the service would take it."""
    asked = "the service would take it" if seen.judged_below else f"the service was not asked: {seen.why_not}"
    lines = [f"model     {seen.model}", f"hardware  {seen.hardware.id}"]
    lines += [f"cost      {seen.price}", f"dry run   {asked}"]
    if seen.there is not None:
        lines.append(f"there     endpoint {seen.there} has the model: `deploy` takes it, and creates nothing")
    output.result("\n".join(lines), {"schema_version": 1, "api": api, "dry_run": seen.to_dict()})
    output.note("nothing was created, and nothing costs money")


def _minutes(text: str | None) -> int | None:
    """The minutes of ``--inactive-timeout``: a bare number is minutes, as the service has it. Raises InputError."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    seconds = parse_duration(text).total_seconds()
    if seconds % 60:
        raise InputError("--inactive-timeout is a number of whole minutes.", hint="Write it like 30, 90m or 2h.")
    return int(seconds // 60)


def _attach(output: Output, choice: Choice, client: Client, model: str, where: str, limit: timedelta) -> None:
    from lora_packer.together import option

    with told_where_it_stops(lambda: ("The adapter stays attached where it was: the next run looks first.",)):
        waiting = waiting_for(output, limit)
        endpoint = choice.api.attach(client, model, where, waiting=waiting, tell=output.note)
    lines = [f"endpoint  {endpoint.id}"]
    for deployment in endpoint.deployments:
        lines.append(f"attached  {model} to {deployment.id}")
        lines += [f"          {cluster}" for one in deployment.adapters for cluster in one.clusters]
    if not endpoint.deployments:
        lines.append(f"attached  {model}")
    lines.append(f"cost      the endpoint {endpoint.cost}; the adapter costs nothing more")
    lines.append(f"next      lora-packer ask {shell_word(model)} 'Hello'{option(choice.name)}")
    data = {"schema_version": 1, "api": choice.name, "model": model, "endpoint": endpoint.to_dict()}
    output.result("\n".join(lines), data)
    if choice.name == "v2":
        output.note(
            "The service documents for version 1 only by which name an attached adapter is asked: its own, or "
            f"{endpoint.name}:{model}."
        )


def waiting_for(output: Output, timeout: timedelta) -> Waiting:
    """Return how a command waits: each change is a line on stderr, and a terminal counts between them."""
    from lora_packer.together import Waiting

    line = WaitingLine(output)

    def on_change(told: str) -> None:
        line.state = told
        output.note(told)

    def on_trouble(error: ServiceError) -> None:
        output.note(f"{error.message} Looking again.")

    return Waiting(timeout, on_change, on_trouble, sleep=line.sleep)


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


def show_endpoint(
    output: Output, endpoint: Endpoint, api: str, *, asked: str | None = None, go_on: bool = True
) -> None:
    """Print an endpoint as the command's result, and what keeps costing money; with ``go_on`` also what to do next."""
    from lora_packer.together import option

    lines = [f"endpoint  {endpoint.id}"]
    if asked or endpoint.model:
        lines.append(f"model     {asked or endpoint.model}")
    if endpoint.hardware:
        lines.append(f"hardware  {endpoint.hardware}")
    lines.append(f"state     {endpoint.state}")
    lines.append(f"cost      {endpoint.cost}")
    if go_on and not endpoint.is_ending:
        lines.append(f"next      lora-packer ask {shell_word(endpoint.id)} 'Hello'{option(api, endpoint.id)}")
        lines.append(f"          {endpoint.stop_command}")
    output.result("\n".join(lines), {"schema_version": 1, "api": api, "endpoint": endpoint.to_dict()})
