"""``status`` and ``wait``: one look at an upload job, and a look until it ends."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.left import told_where_it_stops
from lora_packer.cli.named_files import read_url
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import ApiOption, ApiVersion, TimeoutOption
from lora_packer.cli.waiting import WaitingLine
from lora_packer.duration import format_duration, parse_duration

if TYPE_CHECKING:
    from lora_packer.errors import ServiceError
    from lora_packer.redact import PresignedUrl
    from lora_packer.together import Api, Client, Job, ModelSource

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, as `submit` printed it.")]
UrlOption = Annotated[
    Path | None,
    typer.Option(
        "--url-file",
        metavar="FILE",
        help="The presigned URL that was submitted: where the job stands still, it is tried.",
    ),
]


@command
def status(
    *,
    job: JobArgument,
    url_file: UrlOption = None,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Look at an upload job once. Exits 5 where it has failed."""
    from lora_packer.together import why_it_stands_still

    with connected(output, api, job) as (client, choice):
        url = _submitted_url(url_file, client)
        found = choice.api.job(client, job)
    if url is not None and not (found.is_complete or found.has_failed):
        output.note(why_it_stands_still(url))
    show_job(output, found, choice.name)
    if found.has_failed:
        raise typer.Exit(5)


@command
def wait(
    *,
    job: JobArgument,
    timeout: TimeoutOption = "60m",
    url_file: UrlOption = None,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Wait until an upload job ends. Exits 5 where it fails, 6 where it still runs when the time is up."""
    limit = parse_duration(timeout)
    with connected(output, api, job) as (client, choice):
        ended = watch(output, choice.api, client, job, limit, _submitted_url(url_file, client))
    show_job(output, ended, choice.name)


def _submitted_url(url_file: Path | None, client: Client) -> PresignedUrl | None:
    from lora_packer.together import parse_presigned

    if url_file is None:
        return None
    return parse_presigned(read_url(url_file).reveal(), allow_loopback=client.is_loopback)


def watch(
    output: Output,
    api: Api,
    client: Client,
    job_id: str,
    timeout: timedelta,
    source: ModelSource | None = None,
    *,
    go_on: str | None = None,
) -> Job:
    """Wait for a job, telling each change on stderr; where it is interrupted, say how to go on.

    ``source`` is what was submitted, where it is at hand: it is tried where the job stands still. ``go_on`` is the
    command that waits on, where that is not the one that runs.
    """
    from lora_packer.together import StatusUpdate, news, wait_for_job, why_it_stands_still

    started = time.monotonic()
    heard: set[StatusUpdate] = set()
    line = WaitingLine(output)

    def on_change(job: Job) -> None:
        line.state = job.status
        elapsed = format_duration(timedelta(seconds=time.monotonic() - started))
        said = news(job, heard)
        output.note(f"{job.status:<10} after {elapsed}{': ' if said else ''}{said}")

    def on_trouble(error: ServiceError) -> None:
        output.note(f"{error.message} Looking again.")

    def on_stale(job: Job, still: timedelta) -> None:
        output.note(f"{job.status:<10} for {format_duration(still)}: {why_it_stands_still(source)}")

    with told_where_it_stops(lambda: (f"Job {job_id} goes on at the service.",), go_on=go_on):
        return wait_for_job(
            api,
            client,
            job_id,
            timeout=timeout,
            on_change=on_change,
            on_trouble=on_trouble,
            on_stale=on_stale,
            sleep=line.sleep,
        )


def show_job(
    output: Output,
    job: Job,
    api: str,
    *,
    next_steps: tuple[str, ...] = (),
    commit: str | None = None,
    skipped: str | None = None,
) -> None:
    """Print a job as the command's result; ``commit`` is what was checked of a Hub repo, ``skipped`` why nothing was
    submitted."""
    lines = [f"job     {job.id}"]
    if job.model_name:
        lines.append(f"model   {job.model_name}")
    if commit:
        lines.append(f"commit  {commit}")
    lines.append(f"status  {_styled(output, job)}")
    if output.verbose or job.has_failed or job.is_in_trouble:
        lines += [f"        {update.timestamp} {update.status}: {update.message}" for update in job.updates]
    lines += [f"next    {step}" for step in next_steps]
    if skipped:
        lines.append(f"skipped {skipped}")
    checked = {"commit": commit} if commit else {}
    left_out = {"skipped": True, "reason": skipped} if skipped else {}
    output.result("\n".join(lines), {"schema_version": 1, "api": api, "job": job.to_dict(), **checked, **left_out})


def _styled(output: Output, job: Job) -> str:
    if job.is_complete:
        return output.style(job.status, "green")
    return output.style(job.status, "red") if job.has_failed else job.status
