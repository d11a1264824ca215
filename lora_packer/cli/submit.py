"""``submit``: create the upload job for an adapter that the service can fetch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from lora_packer.cli.common import Format, FormatOption, NoColorOption, Output, QuietOption, VerboseOption, guarded
from lora_packer.cli.status import ApiOption, TimeoutOption, api_words, chosen_api, show_job, watch
from lora_packer.duration import format_duration, parse_duration
from lora_packer.redact import Secret, escape

if TYPE_CHECKING:
    from lora_packer.redact import PresignedUrl
    from lora_packer.together import HubRepo, ModelSource

_MAX_INPUT = 65_536  # characters that a file or standard input with one URL may have


@guarded
def submit(
    model_name: Annotated[
        str, typer.Option("--model-name", metavar="NAME", help="The new adapter's name, without the account's.")
    ],
    base_model: Annotated[
        str, typer.Option("--base-model", metavar="ID", help="The id under which the service hosts the base model.")
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A Hub repo (hf://org/repo, https://huggingface.co/org/repo, org/repo), or - for a presigned URL on "
            "standard input.",
        ),
    ] = None,
    url_file: Annotated[
        Path | None, typer.Option("--url-file", metavar="FILE", help="Read the presigned URL from this file.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="A description of the adapter.")
    ] = None,
    api: ApiOption = "v1",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the job ends.")] = False,
    timeout: TimeoutOption = "60m",
    output_format: FormatOption = Format.text,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Submit the upload job: from a presigned URL, or from a Hugging Face repo (its token from HF_TOKEN).

    A presigned URL is a secret, so it is not taken as an argument: give --url-file, or - and pipe it in.
    """
    from lora_packer.together import Client, HubRepo, Submission, parse_presigned, read_token

    output = Output(output_format, quiet, verbose, no_color)
    chosen, limit = chosen_api(api), parse_duration(timeout)
    given = _given(source, url_file)
    with Client.from_environment() as client:
        place: ModelSource
        if isinstance(given, HubRepo):
            place, hf_token = given, read_token(os.environ, "HF_TOKEN")
        else:
            place, hf_token = parse_presigned(given.reveal(), allow_loopback=client.is_loopback), None
            _require_life(output, place)
        submission = Submission(model_name, place, base_model, description or None, hf_token)
        output.note(f"submitting {place} to {client.base_url}")
        try:
            job = chosen.submit(client, submission)
        except KeyboardInterrupt:
            sys.stderr.write(
                f"The job may exist. Look for '{model_name}' among the service's models and jobs before you submit "
                "again.\n"
            )
            raise
        if not wait:
            steps = (f"lora-packer wait {job.id}{api_words(api)}", f"lora-packer status {job.id}{api_words(api)}")
            show_job(output, job, api, next_steps=steps)
            return
        output.note(f"{job.status:<10} as job {job.id}")
        ended = watch(output, api, client, job.id, limit)
    show_job(output, replace(ended, model_name=ended.model_name or job.model_name, model_id=job.model_id), api)


def _given(source: str | None, url_file: Path | None) -> HubRepo | Secret:
    """Return what is to be submitted: a Hub repo, or the text that should be a presigned URL. Raises InputError."""
    from lora_packer.errors import InputError
    from lora_packer.together import parse_source

    if (source is None) == (url_file is None):
        raise InputError(
            "Give either SOURCE or --url-file, and not both.",
            hint="SOURCE is a Hub repo, or - for a presigned URL on standard input.",
        )
    if url_file is not None:
        return _read_url(lambda: url_file.open(encoding="ascii"), "--url-file")
    assert source is not None
    if source == "-":
        return _read_url(lambda: nullcontext(sys.stdin), "standard input")
    if "://" not in source and os.path.exists(source):  # noqa: PTH110 - unlike Path.exists it takes any text
        raise InputError(
            f"'{escape(source)}' is a local path; the service fetches from S3 or the Hub only.",
            hint="Upload it first with `lora-packer publish`; for a Hub repo of that name write hf:// before it.",
        )
    return parse_source(source)


def _read_url(open_input: Callable[[], AbstractContextManager[TextIO]], name: str) -> Secret:
    from lora_packer.errors import InputError

    try:
        with open_input() as stream:
            return Secret(stream.read(_MAX_INPUT))
    except OSError as error:
        raise InputError(
            f"The presigned URL cannot be read from {name}: {error.strerror}.", hint="Check the path and its mode."
        ) from None
    except ValueError:
        raise InputError(
            f"The presigned URL cannot be read from {name}: it is not ASCII text.",
            hint="Give the URL alone, on one line.",
        ) from None


def _require_life(output: Output, url: PresignedUrl) -> None:
    from lora_packer.together import MINIMUM_LIFE, require_life

    left = require_life(url, now=datetime.now(UTC))
    if left is None:
        output.note(
            f"warning: the URL does not say when it expires; the service needs at least {format_duration(MINIMUM_LIFE)}"
        )
    else:
        output.detail(f"the URL lives {format_duration(left)} more")
