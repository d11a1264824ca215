"""Many reports for a person: one adapter after the other, or a line for each, and what all of them come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lora_packer.redact import escape, fit
from lora_packer.report.canvas import Canvas
from lora_packer.report.text import render

if TYPE_CHECKING:
    from lora_packer.inspector.many import Result

_WIDEST = 360
_COLOURS = {"ok": "green", "failed": "red", "inconclusive": "yellow", "unreadable": "red"}
_MOST_CODES = 8


def block(result: Result, canvas: Canvas) -> str:
    """Return one adapter's part: its report under its name, or why there is none."""
    from lora_packer.inspector.report import Report

    if isinstance(result, Report):
        return f"{render(result, canvas)}\n"
    error = result.error
    status = canvas.style(result.status, "bold", _COLOURS[result.status])
    lines = [f"adapter     {escape(result.adapter.source, _WIDEST)}", "", f"{status}: {fit(error.message)}"]
    if error.hint:
        lines += [f"    next      {line}" for line in fit(error.hint).splitlines()]
    return "\n".join(lines) + "\n"


def line(result: Result, canvas: Canvas) -> str:
    """Return one adapter on one line: its name, its status, and why."""
    from lora_packer.inspector.report import Report

    status = canvas.style(result.status, "bold", _COLOURS[result.status])
    told = _counts(result) if isinstance(result, Report) else fit(result.error.message).replace("\n", " ")
    return f"{escape(result.adapter.source, _WIDEST)}: {status}: {told}"


def total(summary: Mapping[str, int], canvas: Canvas) -> str:
    """Return what all of them come to, on one line."""
    count = summary["adapters"]
    parts = [
        f"{summary[name]} {canvas.style(name, 'bold', _COLOURS[name])}"
        for name in _COLOURS
        if summary[name] or name == "ok"
    ]
    return f"{count:,} adapter{'' if count == 1 else 's'}: {', '.join(parts)}"


def _counts(result: Result) -> str:
    counts = result.summary
    told = [f"{counts[name]} {name if counts[name] != 1 else name[:-1]}" for name in ("errors", "warnings")]
    told += [f"{counts['suppressed']} suppressed"] if "suppressed" in counts else []
    codes = sorted({item.code for item in result.findings if item.severity != "info"})
    more = f" and {len(codes) - _MOST_CODES} more" if len(codes) > _MOST_CODES else ""
    reason = ""
    if result.status == "inconclusive" and result.unchecked:
        reason = f"; {result.unchecked[0].reason}"
    return ", ".join(told) + (f" ({', '.join(codes[:_MOST_CODES])}{more})" if codes else "") + reason
