"""The size of every module's update, as a picture: kinds of modules down, layers across."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lora_packer.redact import escape
from lora_packer.report.canvas import Canvas

if TYPE_CHECKING:
    from lora_packer.inspector.norms import ModuleStats

# From nothing to the greatest norm; a "!" is not finite or could not be computed.
SHADES = " .:-=+*#%@"
_COLOURS = ("dim", "dim", "cyan", "cyan", "green", "green", "yellow", "yellow", "red", "red")
_WIDEST_LABEL = 40
_MOST_ROWS = 60
_MOST_COLUMNS = 100

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


def heatmap(stats: Sequence[ModuleStats], canvas: Canvas) -> list[str]:
    """Return the picture's lines; modules of one layer and kind (experts) are taken together."""
    cells: dict[str, dict[int, float]] = {}
    single: dict[str, float] = {}
    for item in stats:
        squared = math.nan if item.norm is None else item.norm * item.norm
        match = _LAYER.search(item.module)
        if match is None:
            single[item.module] = squared
            continue
        kind = re.sub(r"\.\d+(?=\.|$)", "", item.module[match.end() :])
        row = cells.setdefault(kind, {})
        layer = int(match[1])
        row[layer] = row.get(layer, 0.0) + squared
    if not stats:
        return ["no complete pair of lora_A and lora_B: nothing to draw"]
    layers = sorted({layer for row in cells.values() for layer in row})
    top = max(
        (math.sqrt(v) for v in _finite([*single.values(), *(v for r in cells.values() for v in r.values())])),
        default=0.0,
    )
    per_column = max(1, -(-len(layers) // _MOST_COLUMNS))
    columns = [layers[i : i + per_column] for i in range(0, len(layers), per_column)]
    label = min(_WIDEST_LABEL, max(map(len, [*cells, *single])))
    across = f"layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}" if layers else ""
    lines = [f"{'':<{label}}  {across}" + (f", {per_column} to a column" if per_column > 1 else "")]
    rows = list(cells.items())[:_MOST_ROWS]
    for kind, row in rows:
        drawn = "".join(_cell([row[n] for n in column if n in row], top, canvas) for column in columns)
        lines.append(f"{_clipped(kind, label):<{label}} |{drawn}|")
    if len(cells) > len(rows):
        lines.append(f"{len(cells) - len(rows)} more kinds of modules are in the JSON")
    for name, squared in list(single.items())[:_MOST_ROWS]:
        lines.append(f"{_clipped(name, label):<{label}} |{_cell([squared], top, canvas)}| {_number(squared)}")
    lines.append(f"'{SHADES}' from 0 to {top:.4g}: Frobenius norm of scale x B x A; ! not finite or not computed")
    return lines


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _cell(squares: list[float], top: float, canvas: Canvas) -> str:
    if not squares:
        return " "
    highest = max(squares) if len(_finite(squares)) == len(squares) else math.nan
    if not math.isfinite(highest):
        return canvas.style("!", "bold", "red")
    share = math.sqrt(highest) / top if top else 0.0
    # Only an update of exactly zero is blank.
    shade = 0 if highest == 0 else max(1, min(len(SHADES) - 1, round(share * (len(SHADES) - 1))))
    return canvas.style(SHADES[shade], _COLOURS[shade])


def _clipped(name: str, width: int) -> str:
    shown = escape(name, 120)
    return shown if len(shown) <= width else "..." + shown[-(width - 3) :]


def _number(squared: float) -> str:
    return f"{math.sqrt(squared):.4g}" if math.isfinite(squared) else "not computed"
