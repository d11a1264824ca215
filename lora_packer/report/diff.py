"""What changed between two adapters, as text for a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_packer.redact import escape
from lora_packer.report.canvas import Canvas

if TYPE_CHECKING:
    from lora_packer.inspector.changes import Diff, ModuleChange

_MOST_ROWS = 20
_WIDEST = 160  # characters of one value of the config
_SMALLEST = 0.0001  # percent that are told as a number
_COLORS = {"added": "green", "removed": "red", "changed": "yellow"}


def render(found: Diff, canvas: Canvas, fail_above: float | None = None) -> str:
    """Return the fields that changed, the modules by how far they moved, what was not compared, and the verdict."""
    lines: list[str] = []
    if not canvas.quiet:
        lines += [f"old       {escape(found.old, 360)}", f"new       {escape(found.new, 360)}", ""]
        lines += _config(found) + _modules(found, canvas)
    lines += _not_compared(found, canvas)
    if found.modules and all(item.change in ("added", "removed") for item in found.modules):
        lines.append(f"{canvas.style('nothing in common:', 'bold', 'yellow')} the two have no module of the same name")
    if lines and lines[-1] and not canvas.quiet:
        lines.append("")
    above = found.above(fail_above) if fail_above is not None else ()
    if above:
        count = "1 module" if len(above) == 1 else f"{len(above)} modules"
        label = canvas.style("above", "bold", "red")
        lines.append(f"{label}: {count} moved more than {_number(fail_above)} %, {above[0].module} first")
    lines.append(_verdict(found, canvas))
    return "\n".join(lines)


def _config(found: Diff) -> list[str]:
    return [f"config    {item.field}: {_value(item.old)} -> {_value(item.new)}" for item in found.config]


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    return escape(f'"{value}"' if isinstance(value, str) else json.dumps(value), _WIDEST)


def _modules(found: Diff, canvas: Canvas) -> list[str]:
    """The modules that changed, the one that moved most first."""
    told = [item for item in found.modules if item.change != "same" and item.moved is not None]
    if not told:
        return []
    shown = told if canvas.verbose else told[:_MOST_ROWS]
    rows = [(item, f"{_number(item.moved)} %", _rank(item)) for item in shown]
    wide = max(8, *(len(moved) for _, moved, _ in rows))
    narrow = max(4, *(len(rank) for _, _, rank in rows))
    lines = ["", f"{'moved by':>{wide}}  {'rank':<{narrow}}  module"]
    for item, moved, rank in rows:
        change = canvas.style(f"  {item.change}", _COLORS[item.change]) if item.change != "changed" else ""
        lines.append(f"{moved:>{wide}}  {rank:<{narrow}}  {item.module}{change}")
    if len(told) > len(shown):
        lines.append(f"and {len(told) - len(shown)} more that moved less (--verbose shows them)")
    return lines if found.config else lines[1:]


def _rank(item: ModuleChange) -> str:
    if item.kind == "tensor":
        return "-"
    if item.old_rank == item.new_rank or item.change == "added":
        return str(item.new_rank or "?")
    old = str(item.old_rank or "?")
    return old if item.change == "removed" else f"{old} -> {item.new_rank or '?'}"


def _number(value: float | None) -> str:
    """A percentage with three digits that count."""
    if value is None:
        return "?"
    if 0 < value < _SMALLEST:
        return f"< {_SMALLEST:g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _not_compared(found: Diff, canvas: Canvas) -> list[str]:
    """What could not be compared, by its reason."""
    reasons: dict[str, list[str]] = {}
    for item in found.not_compared:
        reasons.setdefault(item.not_compared or "", []).append(item.module)
    lines = []
    for reason, modules in reasons.items():
        more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
        label = canvas.style("not compared", "bold", "yellow")
        lines.append(f"{label} {modules[0]}{more}: {reason}")
        if canvas.verbose:
            lines += [f"    {name}" for name in modules[1:]]
    return lines


def _verdict(found: Diff, canvas: Canvas) -> str:
    count = len(found.modules)
    if found.status == "same":
        return f"{canvas.style('same', 'bold', 'green')}: {_counted(count)}, config and values alike"
    parts = [part for name in ("changed", "added", "removed") if (part := _count(found.modules, name))]
    modules = f"{', '.join(parts)} of {_counted(count)}" if parts else f"the config alone; {_counted(count)} as before"
    is_known = any(item.change != "same" and item.kind == "update" and item.moved is not None for item in found.modules)
    overall = (
        f"; overall the update moved by {_number(found.overall)} %" if is_known and found.overall is not None else ""
    )
    return f"{canvas.style('changed', 'bold', 'yellow')}: {modules}{overall}"


def _count(modules: Sequence[ModuleChange], change: str) -> str:
    number = sum(item.change == change for item in modules)
    return f"{number} {change}" if number else ""


def _counted(number: int) -> str:
    return "1 module" if number == 1 else f"{number} modules"
