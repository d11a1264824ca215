"""The result of ``check`` as one text: printed alone, or written into the file that ``--output`` names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lora_packer.cli.common import CheckOutput
from lora_packer.cli.ends import print_result
from lora_packer.cli.named_files import write_named
from lora_packer.files import append_text
from lora_packer.frozen import frozen
from lora_packer.redact import escape

if TYPE_CHECKING:
    from lora_packer.inspector.many import Result


@frozen
class Told:
    """What a check is to tell.

    Attributes:
        results: of each adapter, in the order given.
        fail_on: from which severity on a finding fails.
        exit_code: what the command ends with.
        are_many: whether more than one adapter was asked about, be it that there is one.
    """

    results: Sequence[Result]
    fail_on: Literal["error", "warning"]
    exit_code: int
    are_many: bool = False


def tell(told: Told, output: CheckOutput, output_file: Path | None) -> None:
    """Print it, or write it into a file. Raises InputError and OutputError where that cannot be."""
    form = output.format.value
    text = text_of(told, output if output_file is None else replace(output, no_color=True))
    if form == "github":
        _summarise(told, output)
    if output_file is None:
        print_result(text, as_it_is=form == "github")
    else:
        write_named(output_file, text, "--output", as_it_is=form == "github")


def text_of(told: Told, output: CheckOutput) -> str:
    """Return it in the format that was asked for."""
    form = output.format.value
    if form == "json":
        from lora_packer.report import json

        return json.render_many(told.results) if told.are_many else json.render(told.results[0])
    if not output.is_text:
        from lora_packer.report.formats import render

        return render(form, told.results, exit_code=told.exit_code, fail_on=told.fail_on)
    from lora_packer.report import several

    if not told.are_many:
        return several.block(told.results[0], output).rstrip("\n")
    from lora_packer.inspector.many import summary_of

    lines = [several.line(item, output) if output.quiet else several.block(item, output) for item in told.results]
    return "\n".join([*lines, *([] if output.quiet else [several.total(summary_of(told.results), output)])])


def _summarise(told: Told, output: CheckOutput) -> None:
    """Add a summary to that of the job, where the runner names a file for it."""
    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    from lora_packer.report.github import summary

    try:
        append_text(Path(named), f"{summary(told.results)}\n")
    except OSError as error:
        output.note(f"The job's summary cannot be written to '{escape(named)}': {error.strerror}.")
