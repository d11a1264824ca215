"""``lora-packer diff``: what changed between two adapters, and by how much each update moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.named_files import require_place, write_named
from lora_packer.cli.progress import ProgressDisplay
from lora_packer.errors import InputError

if TYPE_CHECKING:
    from lora_packer.inspector.changes import Diff

_LARGE = 256_000_000  # bytes
_FORMS = "A folder, a .zip or .tar.gz, hf://org/repo[@revision], s3://... or an https:// URL"
_ABOVE, _INCONCLUSIVE = 1, 3


@command
def diff(
    *,
    old: Annotated[str, typer.Argument(metavar="OLD", help=f"The adapter as it was. {_FORMS}.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The adapter as it is: the same forms.")],
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            metavar="PERCENT",
            help="Exit 1 where a module moved more than this. One that was added or removed counts as 100.",
        ),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the result to this file instead; - is standard output."),
    ] = None,
    output: Output,
) -> None:
    """Say what changed between two adapters: config, modules, and by how much each module's update moved.

    A module's update is scale x B x A. How far it moved is the Frobenius norm of the difference, in percent of that of
    the old update; 0 is the very same. However the product is stored, as another rank, dtype or scale, is no move.

    Exit 0: compared. 1: something moved more than --fail-above. 2: nothing could be read. 3: some of it could not be
    compared.
    """
    from lora_packer.inspector.diff import diff as run_diff

    if fail_above is not None and not 0 <= fail_above < float("inf"):
        raise InputError("--fail-above is to be a number of percent, 0 or more.", hint="Like --fail-above 25.")
    for adapter in (old, new):
        require_place(output_file, "--output", adapter)
    display = ProgressDisplay(output, "diff")

    def progress(done: int, total: int) -> None:
        if total >= _LARGE:
            display(done, total)

    found = run_diff(old, new, progress=progress)
    display.clear()
    above = fail_above is not None and bool(found.above(fail_above))
    if output_file is not None:
        write_named(output_file, _rendered(found, replace(output, no_color=True), fail_above), "--output")
    else:
        output.result(_rendered(found, output, fail_above) if output.is_text else "", found.to_dict())
    raise typer.Exit(_ABOVE if above else _INCONCLUSIVE if found.not_compared else 0)


def _rendered(found: Diff, output: Output, fail_above: float | None) -> str:
    import json

    from lora_packer.report.diff import render

    return render(found, output, fail_above) if output.is_text else json.dumps(found.to_dict(), indent=2)
