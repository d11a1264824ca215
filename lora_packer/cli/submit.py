"""``submit``: create the upload job for an adapter that the service can fetch."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.ends import command_line
from lora_packer.cli.left import told_where_it_stops
from lora_packer.cli.named_files import read_url
from lora_packer.cli.options import CheckFirst
from lora_packer.cli.service import chosen
from lora_packer.cli.service_options import ApiOption, ApiVersion, Names, SkipOption, TimeoutOption
from lora_packer.cli.stages import Stages, show_failed_check
from lora_packer.cli.status import show_job, watch
from lora_packer.duration import format_duration, parse_duration
from lora_packer.errors import InputError
from lora_packer.files import is_stream
from lora_packer.redact import PresignedUrl, Secret, escape, shell_word

if TYPE_CHECKING:
    from lora_packer.hub import HubRepo
    from lora_packer.pipeline.check import CheckOptions
    from lora_packer.together import Client, ModelSource


@command
def submit(
    *,
    names: Names,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A Hub repo (hf://org/repo, https://huggingface.co/org/repo, org/repo), or - for a presigned URL on "
            "standard input.",
        ),
    ] = None,
    url_file: Annotated[
        Path | None,
        typer.Option("--url-file", metavar="FILE", help="Read the presigned URL from this file; - is standard input."),
    ] = None,
    api: ApiOption = ApiVersion.auto,
    skip_existing: SkipOption = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the job ends.")] = False,
    timeout: TimeoutOption = "60m",
    first: CheckFirst,
    output: Output,
) -> None:
    """Submit the upload job: from a presigned URL, or from a Hugging Face repo (its token from HF_TOKEN).

    A repo is checked first, without its weights. A presigned URL is a secret, so it is not taken as an argument: give
    --url-file, or - and pipe it in.
    """
    from lora_packer.pipeline.existing import require_base, require_same_source
    from lora_packer.together import Client, Submission, ask_ahead, option, validate_names

    limit = parse_duration(timeout)
    given = _given(source, url_file)
    validate_names(names.model_name, names.base_model)
    with Client.from_environment() as client:
        place, hf_token, commit = _place(output, client, given, first.of(names.base_model))
        submission = Submission(names.model_name, place, names.base_model, names.description or None, hf_token)
        if not skip_existing:
            _require_life(output, place)
        choice = chosen(output, client, api)
        existing = ask_ahead(
            choice.api,
            client,
            names.model_name,
            names.base_model,
            lambda stage, text: output.note(f"{stage}: {text}"),
            skip_existing=skip_existing,
        )
        if existing is not None:
            reason = require_same_source(existing, names.model_name, place, commit)
            reason += require_base(choice.api, client, existing, names.model_name, names.base_model)
            show_job(output, existing, choice.name, commit=commit, skipped=reason)
            return
        if skip_existing:  # where the name exists, a URL that is dead by now is as good as any
            _require_life(output, place)
        output.note(f"submitting {place} to {client.base_url}")
        doubt = f"The job may exist: look for '{names.model_name}' among the service's models and jobs first."
        with told_where_it_stops(lambda: (doubt,)):
            job = choice.api.submit(client, submission)
        if not wait:
            words = option(choice.name, job.id)
            steps = (f"lora-packer wait {shell_word(job.id)}{words}", f"lora-packer status {shell_word(job.id)}{words}")
            show_job(output, job, choice.name, next_steps=steps, commit=commit)
            return
        output.note(f"{job.status:<10} as job {job.id}")
        ended = watch(
            output,
            choice.api,
            client,
            job.id,
            limit,
            place,
            go_on=_wait_on(job.id, timeout, url_file, choice.name, output),
        )
    named = replace(ended, model_name=ended.model_name or job.model_name, model_id=job.model_id)
    show_job(output, named, choice.name, commit=commit)


def _wait_on(job_id: str, timeout: str, url_file: Path | None, api: str, output: Output) -> str:
    """The command that waits on for a job that was submitted, with all that this one was told."""
    words = ["wait", job_id, "--api", api, "--timeout", timeout]
    if url_file is not None and not is_stream(url_file):
        words += ["--url-file", str(url_file)]
    return command_line(*words, *output.words)


def _place(
    output: Output, client: Client, given: HubRepo | Secret, options: CheckOptions
) -> tuple[ModelSource, Secret | None, str | None]:
    """Return what the service is told to fetch, with which token, and the commit that was checked."""
    from lora_packer.hub import HubRepo
    from lora_packer.pipeline.by_hub import check_repo
    from lora_packer.redact import read_token
    from lora_packer.together import parse_presigned

    if not isinstance(given, HubRepo):
        if options.base_config is not None:
            raise InputError("--base-config goes with a Hub repo.", hint="`publish` checks what is behind a URL.")
        return parse_presigned(given.reveal(), allow_loopback=client.is_loopback), None, None
    hf_token = read_token(os.environ, "HF_TOKEN")
    with show_failed_check(output):
        checked = check_repo(given, options, Stages(output).note)
    return (checked.repo, hf_token, checked.commit) if checked else (given, hf_token, None)


def _given(source: str | None, url_file: Path | None) -> HubRepo | Secret:
    """Return what is to be submitted: a Hub repo, or the text that should be a presigned URL. Raises InputError."""
    from lora_packer.together import parse_source

    if (source is None) == (url_file is None):
        raise InputError(
            "Give either SOURCE or --url-file, and not both.",
            hint="SOURCE is a Hub repo, or - for a presigned URL on standard input.",
        )
    if url_file is not None:
        return read_url(url_file)
    assert source is not None
    if source == "-":
        return read_url(Path("-"))
    if "://" not in source and os.path.exists(source):  # noqa: PTH110 - unlike Path.exists it takes any text
        raise InputError(
            f"'{escape(source)}' is a local path; the service fetches from S3 or the Hub only.",
            hint="Upload it first with `lora-packer publish`; for a Hub repo of that name write hf:// before it.",
        )
    return parse_source(source)


def _require_life(output: Output, place: ModelSource) -> None:
    """Refuse a presigned URL that does not live long enough with InputError."""
    from lora_packer.together import MINIMUM_LIFE, require_life

    if not isinstance(place, PresignedUrl):
        return
    left = require_life(place, now=datetime.now(UTC))
    if left is None:
        output.note(
            f"warning: the URL does not say when it expires; the service needs at least {format_duration(MINIMUM_LIFE)}"
        )
    else:
        output.detail(f"the URL lives {format_duration(left)} more")
