"""A check's report as text for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.redact import escape
from lora_packer.report.canvas import Canvas

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report
    from lora_packer.inspector.suppression import Suppressed

_WIDEST = 360  # characters of one value from a file
_REASON = 140  # characters of a target's first reason in the table
_COLORS = {"error": "red", "warning": "yellow", "info": "cyan"}


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
    for codes, reason in _unchecked(report):
        lines.append(f"{canvas.style('not checked', 'cyan')} {codes}: {reason}")
    if (told or report.suppressed or report.unchecked) and not canvas.quiet:
        lines.append("")
    lines.append(_verdict(report, canvas))
    return "\n".join(lines)


def _heading(report: Report) -> list[str]:
    adapter, base = report.adapter, report.base_model
    ranks = f", rank {_span(adapter.ranks)}" if adapter.ranks else ""
    dtypes = f", {'/'.join(adapter.dtypes)}" if adapter.dtypes else ""
    size = f"{adapter.tensors} tensors, {adapter.parameters:,} parameters{dtypes}{ranks}, {adapter.bytes:,} bytes"
    lines = [f"adapter     {escape(adapter.source, _WIDEST)}", f"            {size}"]
    known = f"{base.model_type} ({base.config_source or 'given config'})" if base.model_type else "unknown"
    lines.append(f"base model  {escape(base.id, 120) + ', ' if base.id else ''}{known}")
    lines.append(f"target      {report.target}")
    return lines


def _span(ranks: tuple[int, ...]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def _table(report: Report, canvas: Canvas) -> list[str]:
    """One line a target: its name, its verdict, and the first reason for that."""
    width = max(len(item.label) for item in report.targets)
    colors = {"ok": "green", "failed": "red", "inconclusive": "yellow"}
    lines = []
    for at, item in enumerate(report.targets):
        status = canvas.style(f"{item.status:<12}", colors[item.status])
        counted = f"{_count(item.errors, 'error')}, {_count(item.warnings, 'warning')}"
        reason = f"  {escape(item.reason, _REASON)}" if item.reason else ""
        mark = "*" if at < report.deciding < len(report.targets) else " "
        lines.append(f"{mark} {item.label:<{width}}  {status}  {counted:<23}{reason}".rstrip())
    return ["targets" + (" (* decides)" if report.deciding < len(report.targets) else ""), *lines]


def _finding_lines(finding: Finding, canvas: Canvas, *, several: bool = False) -> list[str]:
    label = canvas.style(finding.severity, "bold", _COLORS[finding.severity])
    lines = [f"{label} {finding.code} {finding.name}: {finding.message}"]
    if finding.tensor is not None:
        named = finding.tensors if canvas.verbose else ()
        more = f" (and {finding.count - 1} more)" if finding.count > 1 and not named else ""
        lines.append(f"    tensor    {finding.tensor}{more}")
        lines += [f"              {name}" for name in named[1:]]
    elif finding.field is not None:
        lines.append(f"    field     {finding.field}")
    if finding.expected is not None:
        lines.append(f"    expected  {_value(finding.expected)}")
    if finding.actual is not None:
        lines.append(f"    actual    {_value(finding.actual)}")
    if several and finding.targets is not None:
        lines.append(f"    targets   {', '.join(finding.targets)}")
    if finding.hint is not None:
        lines.append(f"    next      {finding.hint}")
    return lines


def _taken(item: Suppressed) -> str:
    finding = item.finding
    return f"{finding.code} {finding.name}: {finding.message} (because: {escape(item.reason, _WIDEST)})"


def _value(value: object) -> str:
    if isinstance(value, list):
        joint = " x " if all(isinstance(item, int) for item in value) else ", "
        return escape(joint.join(map(str, value)), _WIDEST)
    return escape(str(value), _WIDEST)


def _unchecked(report: Report) -> list[tuple[str, str]]:
    """Group what was not checked by its reason: [(codes, reason)]."""
    reasons: dict[str, list[str]] = {}
    for item in report.unchecked:
        reasons.setdefault(item.reason, []).append(item.code)
    return [(", ".join(codes) if len(codes) < 8 else f"{codes[0]} to {codes[-1]}", r) for r, codes in reasons.items()]


def _verdict(report: Report, canvas: Canvas) -> str:
    severities = [item.severity for item in report.decisive]
    counted = f"{_count(severities.count('error'), 'error')}, {_count(severities.count('warning'), 'warning')}"
    if report.suppressed:
        counted += f", {len(report.suppressed)} suppressed"
    if report.status == "ok":
        return f"{canvas.style('ok', 'bold', 'green')}: {counted}"
    if report.status == "failed":
        return f"{canvas.style('failed', 'bold', 'red')}: {counted}"
    return f"{canvas.style('inconclusive', 'bold', 'yellow')}: a required check could not run; {counted}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
