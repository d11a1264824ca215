"""What ``fix`` did, as text for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.report.canvas import Canvas
from lora_packer.report.text import render as render_check

if TYPE_CHECKING:
    from lora_packer.pipeline.fix import Fixed

_MOST_LINES = 40


def render(fixed: Fixed, canvas: Canvas, *, diff: bool) -> str:
    """Return each repair with its proof, what was not mended and why, and the check of the result."""
    lines: list[str] = []
    if diff:
        lines += [*_diff(fixed, canvas), ""] if fixed.repairs else []
    for item in fixed.repairs:
        code = f"{item.code} " if item.code else ""
        lines.append(f"{canvas.style('repaired', 'bold', 'green')} {code}{item.name}: {item.message}")
        if not canvas.quiet:
            lines.append(f"    proof     {item.proof}")
    for left in fixed.skipped:
        code = f"{left.code} " if left.code else ""
        lines.append(f"{canvas.style('left', 'bold', 'yellow')} {code}{left.name}: {left.reason}")
    if lines and not canvas.quiet:
        lines.append("")
    lines.append(render_check(fixed.report, canvas))
    lines.append(_end(fixed, diff=diff))
    return "\n".join(lines)


def _diff(fixed: Fixed, canvas: Canvas) -> list[str]:
    lines: list[str] = []
    for title, changes in (("config", fixed.difference.config), ("tensors", fixed.difference.tensors)):
        shown = changes if canvas.verbose else changes[:_MOST_LINES]
        lines += (
            [title, *(canvas.style(line, "red" if line.startswith("-") else "green") for line in shown)]
            if shown
            else []
        )
        if len(changes) > len(shown):
            lines.append(f"  and {len(changes) - len(shown)} more lines (--verbose shows them)")
    return lines


def _end(fixed: Fixed, *, diff: bool) -> str:
    count = len(fixed.repairs)
    repairs = "1 repair" if count == 1 else f"{count} repairs"
    if diff:
        return f"{fixed.status}: {repairs}, nothing was written"
    if fixed.output is None:
        return f"{fixed.status}: nothing could be repaired, and nothing was written"
    what = "a copy, nothing was to be done" if not count else repairs
    return f"{fixed.status}: {fixed.output}: {what}"
