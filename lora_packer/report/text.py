"""A check's report as text for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.redact import escape
from lora_packer.report.canvas import Canvas
from lora_packer.report.told import WIDEST, counted, details, not_checked, verdict

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report
    from lora_packer.inspector.suppression import Suppressed

_REASON = 140  # characters of a target's first reason in the table
_COLORS = {"error": "red", "warning": "yellow", "info": "cyan"}
_STATUS_COLORS = {"ok": "green", "failed": "red", "inconclusive": "yellow"}


def render(report: Report, canvas: Canvas) -> str:
    """Return the report as text: what was checked, each finding with what to do, what was not checked, the verdict."""
    lines: list[str] = []
    if not canvas.quiet:
        lines += [*_heading(report), ""]
    if report.stats is not None:
        from lora_packer.report.heatmap import heatmap  # few ask for it

        lines += [*heatmap(report.stats, canvas), ""]
    if len(report.targets) > 1:
        lines += [*_table(report, canvas), ""]
    told = report.decisive
    for finding in told:
        lines += _finding_lines(finding, canvas, several=len(report.targets) > 1)
    lines += [f"{canvas.style('suppressed', 'cyan')} {_taken(item)}" for item in report.suppressed if not canvas.quiet]
    for item in not_checked(report):
        lines.append(f"{canvas.style('not checked', 'cyan')} {item.named}: {item.reason}")
    if (told or report.suppressed or report.unchecked) and not canvas.quiet:
        lines.append("")
    lines.append(_verdict(report, canvas))
    return "\n".join(lines)


def _heading(report: Report) -> list[str]:
    adapter, base = report.adapter, report.base_model
    ranks = f", rank {_span(adapter.ranks)}" if adapter.ranks else ""
    dtypes = f", {'/'.join(adapter.dtypes)}" if adapter.dtypes else ""
    size = f"{adapter.tensors} tensors, {adapter.parameters:,} parameters{dtypes}{ranks}, {adapter.bytes:,} bytes"
    lines = [f"adapter     {escape(adapter.source, WIDEST)}", f"            {size}"]
    known = f"{base.model_type} ({base.config_source or 'given config'})" if base.model_type else "unknown"
    lines.append(f"base model  {escape(base.id, 120) + ', ' if base.id else ''}{known}")
    lines.append(f"target      {report.target}")
    return lines


def _span(ranks: tuple[int, ...]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def _table(report: Report, canvas: Canvas) -> list[str]:
    """One line a target: its name, its verdict, and the first reason for that."""
    width = max(len(item.label) for item in report.targets)
    below = {item.reason for item in not_checked(report)}
    lines = []
    for at, item in enumerate(report.targets):
        status = canvas.style(f"{item.status:<12}", _STATUS_COLORS[item.status])
        counts = f"{counted(item.errors, 'error')}, {counted(item.warnings, 'warning')}"
        told_below = item.status == "inconclusive" and item.reason in below
        reason = "not checked, see below" if told_below else escape(item.reason or "", _REASON)
        mark = "*" if at < report.deciding < len(report.targets) else " "
        lines.append(f"{mark} {item.label:<{width}}  {status}  {counts:<23}  {reason}".rstrip())
    return ["targets" + (" (* decides)" if report.deciding < len(report.targets) else ""), *lines]


def _finding_lines(finding: Finding, canvas: Canvas, *, several: bool = False) -> list[str]:
    label = canvas.style(finding.severity, "bold", _COLORS[finding.severity])
    lines = [f"{label} {finding.code} {finding.name}: {finding.message}"]
    all_named = canvas.verbose and finding.tensor is not None and bool(finding.tensors)
    for name, told in details(finding, several_targets=several):
        if name == "tensor" and all_named:
            lines += [f"    tensor    {finding.tensor}", *(f"              {other}" for other in finding.tensors[1:])]
        else:
            lines.append(f"    {name:<8}  {told}")
    return lines


def _taken(item: Suppressed) -> str:
    finding = item.finding
    return f"{finding.code} {finding.name}: {finding.message} (because: {escape(item.reason, WIDEST)})"


def _verdict(report: Report, canvas: Canvas) -> str:
    status, _, told = verdict(report).partition(":")
    return f"{canvas.style(status, 'bold', _STATUS_COLORS[report.status])}:{told}"
