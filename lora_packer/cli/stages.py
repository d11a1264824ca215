"""What the commands with several steps share: telling each step, upload progress, a failed check's report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output
from lora_packer.errors import CheckFailedError, InconclusiveError, InputError
from lora_packer.files import write_whole

if TYPE_CHECKING:
    from lora_packer.pipeline import CheckOptions
    from lora_packer.redact import PresignedUrl

NoCheckOption = Annotated[bool, typer.Option("--no-check", help="Insist: go on without checking the adapter first.")]
DestinationOption = Annotated[
    str,
    typer.Option("--to", metavar="S3URI", help="Where to upload: s3://bucket/prefix/ (the name is content-addressed)."),
]
ExpiryOption = Annotated[
    str, typer.Option("--expires-in", metavar="DURATION", help="How long the URL shall live: 100m to 7d.")
]
EndpointOption = Annotated[
    str | None, typer.Option("--endpoint-url", metavar="URL", help="The endpoint of an S3-compatible store.")
]


class Stages:
    """Tells the steps of a command on stderr, one line each, and draws the upload's progress on a terminal."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._drawn = False
        self._started = time.monotonic()

    def note(self, stage: str, text: str) -> None:
        """Tell a step and what it proved."""
        self._clear()
        self._output.note(f"{self._output.style(f'{stage:<9}', 'bold', stream=sys.stderr)} {text}")

    def progress(self, sent: int, total: int) -> None:
        """Draw how far an upload is: only on a terminal."""
        if self._output.quiet or not sys.stderr.isatty() or not total:
            return
        rate = sent / max(time.monotonic() - self._started, 0.001)
        self._drawn = True
        sys.stderr.write(f"\r\x1b[Kupload    {sent / total:4.0%} of {total / 1e6:,.1f} MB, {rate / 1e6:,.1f} MB/s")
        sys.stderr.flush()
        if sent >= total:
            self._clear()

    def _clear(self) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            self._drawn = False


def check_options(base_config: str | None, base_model: str | None, target: str, no_check: bool) -> CheckOptions:
    """Return how to check, from the command's options."""
    from lora_packer.pipeline import CheckOptions

    return CheckOptions(base_config, base_model, target, skip=no_check)


@contextmanager
def show_failed_check(output: Output) -> Iterator[None]:
    """Print the report of a check that did not pass, before the error goes on its way."""
    try:
        yield
    except (CheckFailedError, InconclusiveError) as error:
        if error.report is not None and output.is_text:
            from lora_packer.cli.check import render

            output.result(render(error.report, output), {})
        raise


def write_url(url: PresignedUrl, path: Path) -> None:
    """Write a presigned URL into a file that only its owner can read. Raises InputError."""
    try:
        write_whole(path, url.reveal() + "\n", private=True)
    except OSError as error:
        raise InputError(
            f"{str(path)!r} cannot be written: {error.strerror}.", hint="Choose another --url-file."
        ) from None
