"""The heat map: a table of modules by layers whose cells are coloured, and say their number when they are pointed at.

It is a real table: a screen reader reads it cell by cell, and a box above it writes the numbers into the cells.
"""

from __future__ import annotations

import math

from lora_packer.report.html.markup import Markup, joined, tag
from lora_packer.report.layers import Kind, Sizes, Stack, number

LEVELS = 16  # colours in page.css, from nothing to the largest
_MOST_KINDS = 60
_MOST_COLUMNS = 160
_LABELS = 16  # of so many columns about the number is shown


def heat_maps(sizes: Sizes, anchor: str) -> Markup:
    """Return a heat map for each stack of layers, on one scale, and the modules that are in no layer."""
    maps = [
        _heat_map(stack, f"{anchor}n{at}", sizes.largest, named=len(sizes.stacks) > 1)
        for at, stack in enumerate(sizes.stacks)
    ]
    return joined([maps, _single(sizes) if sizes.single else None])


def level(norm: float, largest: float) -> str:
    """Return the class of a cell: ``z`` is exactly zero, ``n`` was not computed, ``l1`` to ``l16`` are colours."""
    if not math.isfinite(norm):
        return "n"
    if norm == 0 or not largest:
        return "z"
    return f"l{max(1, min(LEVELS, math.ceil(norm / largest * LEVELS)))}"


def _heat_map(stack: Stack, switch: str, largest: float, *, named: bool) -> Markup:
    columns = _columns(stack.layers)
    step = max(1, round(len(columns) / _LABELS))
    heads = [
        tag("th", tag("span", _span(column)), scope="col", class_=None if at % step == 0 else "between")
        for at, column in enumerate(columns)
    ]
    rows = [
        tag("tr", tag("th", kind.name, scope="row"), [_cell(kind, column, largest) for column in columns])
        for kind in stack.kinds[:_MOST_KINDS]
    ]
    left = len(stack.kinds) - len(rows)
    more = tag("p", f"{left} more kinds of modules are in the JSON.", class_="quiet") if left else None
    title = f"Update norms of {stack.name}" if named else "Update norms"
    head = tag("thead", tag("tr", tag("th", "layer", scope="col", class_="corner"), heads))
    wide = "heat wide" if len(columns) > 40 else "heat"
    table = tag("table", tag("caption", title, class_="hidden"), head, tag("tbody", rows), class_=wide)
    return tag(
        "figure",
        tag("h3", tag("code", stack.name)) if named else None,
        tag("p", "Point at a cell, or show the numbers.", class_="readout", aria_hidden="true"),
        tag("label", tag("input", type="checkbox", id=switch, class_="numbers"), " numbers", for_=switch),
        tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=title),
        _legend(largest),
        more,
        class_="map",
    )


def _columns(layers: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The layers that share a column each."""
    step = max(1, -(-len(layers) // _MOST_COLUMNS))
    return [layers[at : at + step] for at in range(0, len(layers), step)]


def _span(column: tuple[int, ...]) -> str:
    return str(column[0]) if len(column) == 1 else f"{column[0]} to {column[-1]}"


def _cell(kind: Kind, column: tuple[int, ...], largest: float) -> Markup:
    norms = [kind.norms[layer] for layer in column if layer in kind.norms]
    if not norms:
        return tag("td")
    norm = max(norms) if all(map(math.isfinite, norms)) else math.nan
    where = tag("i", f"layer {_span(column)}, {kind.name}: ")
    return tag("td", tag("span", where, number(norm)), class_=level(norm, largest), tabindex=-1)


def _legend(largest: float) -> Markup:
    steps = [tag("i", class_=f"l{at}") for at in range(1, LEVELS + 1)]
    return tag(
        "p",
        tag("span", "0", class_="end"),
        tag("span", steps, class_="ramp", aria_hidden="true"),
        tag("span", number(largest), class_="end"),
        tag("span", tag("i", class_="z", aria_hidden="true"), " exactly zero", class_="key"),
        tag("span", tag("i", class_="n", aria_hidden="true"), " not finite or not computed", class_="key"),
        class_="legend",
    )


def _single(sizes: Sizes) -> Markup:
    """The modules outside of layers, each with a bar."""
    rows = []
    for name, norm in list(sizes.single.items())[:_MOST_KINDS]:
        share = norm / sizes.largest * 100 if sizes.largest and math.isfinite(norm) else 0
        bar = tag("rect", x=0, y=0, width=f"{share:.2f}", height=10, class_="bar")
        drawn = tag("svg", bar, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true", class_="share")
        value = tag("td", number(norm), class_="number")
        rows.append(tag("tr", tag("th", name, scope="row", class_="path"), tag("td", drawn), value))
    head = tag("tr", [tag("th", name, scope="col") for name in ("module", "share of the largest", "norm")])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="single")
    return tag("div", tag("h3", "Outside of the layers"), table)
