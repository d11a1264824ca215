"""``status`` and ``wait``: one look at an upload job, and a look until it ends."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Format, FormatOption, NoColorOption, Output, QuietOption, VerboseOption, guarded
from lora_packer.duration import format_duration, parse_duration

if TYPE_CHECKING:
    from lora_packer.errors import ServiceError
    from lora_packer.together import Api, Client, Job

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `submit` printed it.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the job, like 60m or 2h.")
]
ApiOption = Annotated[str, typer.Option("--api", metavar="VERSION", help="The version of the service's API: v1 or v2.")]


@guarded
def status(
    job: JobArgument,
    api: ApiOption = "v1",
    output_format: FormatOption = Format.text,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Look at an upload job once. Exits 5 where it has failed."""
    from lora_packer.together import Client

    output = Output(output_format, quiet, verbose, no_color)
    chosen = chosen_api(api)
    with Client.from_environment() as client:
        found = chosen.job(client, job)
    show_job(output, found, api)
    if found.has_failed:
        raise typer.Exit(5)


@guarded
def wait(
    job: JobArgument,
    timeout: TimeoutOption = "60m",
    api: ApiOption = "v1",
    output_format: FormatOption = Format.text,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Wait until an upload job ends. Exits 5 where it fails, 6 where it still runs when the time is up."""
    from lora_packer.together import Client

    output = Output(output_format, quiet, verbose, no_color)
    chosen_api(api)
    limit = parse_duration(timeout)
    with Client.from_environment() as client:
        ended = watch(output, api, client, job, limit)
    show_job(output, ended, api)


def api_words(api: str) -> str:
    """Return what a command that is told to the user needs to mean the same version of the API."""
    return "" if api == "v1" else f" --api {api}"


def chosen_api(name: str) -> Api:
    """Return the version of the service's API that ``--api`` names. Raises InputError."""
    from lora_packer.errors import InputError
    from lora_packer.together import APIS

    if name not in APIS:
        raise InputError(f"{name!r} is not a version of the API.", hint=f"Choose one of {', '.join(APIS)}.")
    return APIS[name]


def watch(output: Output, api: str, client: Client, job_id: str, timeout: timedelta) -> Job:
    """Wait for a job, telling each change on stderr; where it is interrupted, say how to go on."""
    words = api_words(api)
    started = time.monotonic()
    told = 0

    def on_change(job: Job) -> None:
        nonlocal told
        elapsed = format_duration(timedelta(seconds=time.monotonic() - started))
        said = "; ".join(update.message for update in job.updates[told:] if update.message)
        told = len(job.updates)
        output.note(f"{job.status:<10} after {elapsed}{': ' if said else ''}{said}")

    def on_trouble(error: ServiceError) -> None:
        output.note(f"{error.message} Looking again.")

    def on_stale(job: Job, still: timedelta) -> None:
        output.note(
            f"{job.status:<10} for {format_duration(still)}: the service accepts the key, so most often it cannot read "
            "the source. Check that the presigned URL has not expired, or for a Hub repo that HF_TOKEN may read it."
        )

    try:
        return chosen_api(api).wait(
            client, job_id, timeout=timeout, on_change=on_change, on_trouble=on_trouble, on_stale=on_stale
        )
    except KeyboardInterrupt:
        sys.stderr.write(f"The job goes on without this command. Go on with `lora-packer wait {job_id}{words}`.\n")
        raise


def show_job(output: Output, job: Job, api: str, *, next_steps: tuple[str, ...] = ()) -> None:
    """Print a job as the command's result."""
    lines = [f"job     {job.id}"]
    if job.model_name:
        lines.append(f"model   {job.model_name}")
    lines.append(f"status  {_styled(output, job)}")
    if output.verbose or job.has_failed:
        lines += [f"        {update.timestamp} {update.status}: {update.message}" for update in job.updates]
    lines += [f"next    {step}" for step in next_steps]
    output.result("\n".join(lines), {"schema_version": 1, "api": api, "job": job.to_dict()})


def _styled(output: Output, job: Job) -> str:
    if job.is_complete:
        return output.style(job.status, "green")
    return output.style(job.status, "red") if job.has_failed else job.status
