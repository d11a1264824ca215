"""The size of every module's update, as a picture: kinds of modules down, layers across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_packer.redact import escape
from lora_packer.report.canvas import Canvas
from lora_packer.report.layers import Stack, number, sizes_of

if TYPE_CHECKING:
    from lora_packer.inspector.norms import ModuleStats

# From nothing to the greatest norm; a "!" is not finite or could not be computed.
SHADES = " .:-=+*#%@"
_COLOURS = ("dim", "dim", "cyan", "cyan", "green", "green", "yellow", "yellow", "red", "red")
_WIDEST_LABEL = 40
_MOST_ROWS = 60
_MOST_COLUMNS = 100


def heatmap(stats: Sequence[ModuleStats], canvas: Canvas) -> list[str]:
    """Return the picture's lines; modules of one layer and kind (experts) are taken together."""
    if not stats:
        return ["no complete pair of lora_A and lora_B: nothing to draw"]
    sizes = sizes_of(stats)
    rows = [
        (stack, _label(stack, kind.name, len(sizes.stacks)), kind.norms)
        for stack in sizes.stacks
        for kind in stack.kinds
    ]
    label = min(_WIDEST_LABEL, max(map(len, [*(name for _, name, _ in rows), *sizes.single])))
    lines: list[str] = []
    last: Stack | None = None
    for stack, name, norms in rows[:_MOST_ROWS]:
        if stack is not last:
            columns, across = _columns(stack)
            lines.append(f"{'':<{label}}  {across}")
            last = stack
        drawn = "".join(_cell([norms[n] for n in column if n in norms], sizes.largest, canvas) for column in columns)
        lines.append(f"{_clipped(name, label):<{label}} |{drawn}|")
    if len(rows) > _MOST_ROWS:
        lines.append(f"{len(rows) - _MOST_ROWS} more kinds of modules are in the JSON")
    for name, norm in list(sizes.single.items())[:_MOST_ROWS]:
        lines.append(f"{_clipped(name, label):<{label}} |{_cell([norm], sizes.largest, canvas)}| {number(norm)}")
    lines.append(
        f"'{SHADES}' from 0 to {sizes.largest:.4g}: Frobenius norm of scale x B x A; ! not finite or not computed"
    )
    return lines


def _label(stack: Stack, kind: str, stacks: int) -> str:
    """The name of a row; of several stacks it says which."""
    return f"{stack.name}.*.{kind}" if stacks > 1 else kind


def _columns(stack: Stack) -> tuple[list[tuple[int, ...]], str]:
    """The layers that share a column each, and what they are in words."""
    layers = stack.layers
    step = max(1, -(-len(layers) // _MOST_COLUMNS))
    told = f"layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}"
    return [layers[i : i + step] for i in range(0, len(layers), step)], told + (
        f", {step} to a column" if step > 1 else ""
    )


def _cell(norms: list[float], top: float, canvas: Canvas) -> str:
    if not norms:
        return " "
    highest = max(norms) if all(map(math.isfinite, norms)) else math.nan
    if not math.isfinite(highest):
        return canvas.style("!", "bold", "red")
    share = highest / top if top else 0.0
    # Only an update of exactly zero is blank.
    shade = 0 if highest == 0 else max(1, min(len(SHADES) - 1, round(share * (len(SHADES) - 1))))
    return canvas.style(SHADES[shade], _COLOURS[shade])


def _clipped(name: str, width: int) -> str:
    shown = escape(name, 120)
    return shown if len(shown) <= width else "..." + shown[-(width - 3) :]
