"""``lora-packer verify``: does this archive belong to this receipt?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.progress import ProgressDisplay

_LARGE = 256_000_000  # bytes
EXIT_CODES = {"ok": 0, "failed": 1}


@command
def verify(
    *,
    archive: Annotated[
        str,
        typer.Argument(
            metavar="ARCHIVE",
            help="The archive: a .zip or .tar.gz, s3://bucket/key.zip or a URL. Or the adapter's folder or "
            "hf://org/repo, of which the files are compared.",
        ),
    ],
    receipt: Annotated[
        Path | None,
        typer.Option(
            "--receipt",
            metavar="FILE",
            help="The receipt that release wrote. Default: NAME.*.receipt.json, after the archive's name, beside it or "
            "in the working folder.",
        ),
    ] = None,
    output: Output,
) -> None:
    """Say whether an archive belongs to a release's receipt: size, SHA-256, and the files inside.

    Where it does not, each difference is told: other weights, another config, the same files packed again, a copy that
    was cut off.

    Exit 0: it belongs. 1: something differs. 2: the archive or the receipt cannot be read. 3: the receipt records
    nothing to compare with.
    """
    from lora_packer.pipeline.verify import verify as run_verify
    from lora_packer.report.verify import render

    display = ProgressDisplay(output, "verify")

    def progress(done: int, total: int) -> None:
        if total >= _LARGE:
            display(done, total)

    result = run_verify(archive, receipt, progress=progress)
    display.clear()
    output.result(render(result, output) if output.is_text else "", result.to_dict())
    raise typer.Exit(EXIT_CODES[result.status])
