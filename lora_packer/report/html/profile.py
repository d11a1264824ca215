"""How the size of the updates goes through the layers: one chart of all modules together, and one for each kind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from lora_packer.report.html.markup import Markup, joined, tag
from lora_packer.report.layers import Kind, Sizes, Stack, finite, number

_MOST_KINDS = 24
_WIDTH, _HEIGHT = 1000, 100  # of a drawing, which is stretched to its place


def profiles(sizes: Sizes) -> Markup:
    """Return the charts of each stack of layers."""
    return joined([_of_stack(stack, named=len(sizes.stacks) > 1) for stack in sizes.stacks])


def _of_stack(stack: Stack, *, named: bool) -> Markup:
    layers = stack.layers
    whole = {layer: math.hypot(*finite(k.norms[layer] for k in stack.kinds if layer in k.norms)) for layer in layers}
    top = max(finite(norm for kind in stack.kinds for norm in kind.norms.values()))
    name = f"Through the layers of {stack.name}" if named else "Through the layers"
    cards = [_card(kind, layers, top) for kind in stack.kinds[:_MOST_KINDS]]
    left = len(stack.kinds) - len(cards)
    more = tag("p", f"{left} more kinds of modules are in the JSON.", class_="quiet") if left else None
    note = tag("p", "each kind of module, on one scale", class_="note")
    return tag(
        "div",
        tag("h3", name),
        _whole(whole) if len(layers) > 1 else None,
        note,
        tag("div", cards, class_="cards"),
        more,
        class_="profiles",
    )


def _whole(norms: Mapping[int, float]) -> Markup:
    """All modules of a layer together, as an area with a line on it."""
    top = max(finite(norms.values()))
    values = list(norms.values())
    points = [(_x(at, len(values)), _y(value, top)) for at, value in enumerate(values)]
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    area = f"{line}L{points[-1][0]:.1f} {_HEIGHT}L{points[0][0]:.1f} {_HEIGHT}Z"
    drawn = tag(
        "svg",
        [tag("line", x1=0, x2=_WIDTH, y1=y, y2=y, class_="rule") for y in (0.5, _HEIGHT / 2, _HEIGHT - 0.5)],
        tag("path", d=area, class_="area"),
        tag("path", d=line, class_="line"),
        _hits(norms),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"All modules of a layer together: {_in_words(norms)}",
    )
    layers = list(norms)
    scale = tag("span", tag("span", number(top)), tag("span", number(top / 2)), tag("span", "0"), class_="scale")
    below = tag("span", tag("span", f"layer {layers[0]}"), tag("span", f"layer {layers[-1]}"), class_="below")
    title = tag("figcaption", "all modules of a layer together")
    return tag("figure", title, tag("div", scale, drawn, class_="plot"), below, class_="whole")


def _hits(norms: Mapping[int, float]) -> list[Markup]:
    """A strip over each layer that says its number when it is pointed at."""
    width = _WIDTH / len(norms)
    return [
        tag(
            "rect",
            tag("title", f"layer {layer}: {number(norm)}"),
            x=f"{at * width:.1f}",
            y=0,
            width=f"{width:.1f}",
            height=_HEIGHT,
            class_="hit",
        )
        for at, (layer, norm) in enumerate(norms.items())
    ]


def _card(kind: Kind, layers: Sequence[int], top: float) -> Markup:
    """One kind of module: a bar for each layer, on the scale of all of them."""
    width = _WIDTH / max(1, len(layers))
    bars = []
    for at, layer in enumerate(layers):
        norm = kind.norms.get(layer)
        if norm is None:
            continue
        known = math.isfinite(norm)
        y = _y(norm, top) if known else 0
        bars.append(
            tag(
                "rect",
                tag("title", f"layer {layer}: {number(norm)}"),
                x=f"{at * width + width * 0.12:.1f}",
                y=f"{y:.1f}",
                width=f"{width * 0.76:.1f}",
                height=f"{_HEIGHT - y:.1f}",
                class_="bar" if known else "unknown",
            )
        )
    drawn = tag(
        "svg",
        bars,
        tag("line", x1=0, x2=_WIDTH, y1=_HEIGHT - 0.5, y2=_HEIGHT - 0.5, class_="rule"),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{kind.name}: {_in_words(kind.norms)}",
    )
    return tag("figure", tag("figcaption", kind.name), drawn, _numbers(kind), class_="kind")


def _numbers(kind: Kind) -> Markup:
    known = [norm for norm in kind.norms.values() if math.isfinite(norm)]
    rows = [("rank", _span(kind.ranks)), ("scale", _span(kind.scales))]
    if known:
        rows += [(name, number(do(known))) for name, do in (("least", min), ("median", median), ("most", max))]
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows], class_="numbers")


def _span(values: Sequence[float]) -> str:
    shown = [f"{value:.4g}" for value in values]
    return shown[0] if len(set(shown)) == 1 else f"{shown[0]} to {shown[-1]}"


def _in_words(norms: Mapping[int, float]) -> str:
    known = {layer: norm for layer, norm in norms.items() if math.isfinite(norm)}
    if not known:
        return "not computed"
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return f"least {number(known[least])} in layer {least}, most {number(known[most])} in layer {most}"


def _x(at: int, count: int) -> float:
    return (at + 0.5) * _WIDTH / count


def _y(norm: float, top: float) -> float:
    return _HEIGHT - (norm / top if top else 0) * (_HEIGHT - 4)
