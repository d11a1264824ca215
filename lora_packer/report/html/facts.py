"""What was checked against what, and what each target makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lora_packer.report.html.markup import Markup, Part, tag
from lora_packer.report.html.verdict import badge

if TYPE_CHECKING:
    from lora_packer.inspector import Report

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def facts(report: Report) -> Markup:
    """Return the adapter's and the base model's facts, beside each other."""
    adapter, base = report.adapter, report.base_model
    ranks = adapter.ranks
    of_adapter: list[tuple[str, Part]] = [
        ("from", tag("span", adapter.source, class_="path")),
        ("tensors", adapter.tensors),
        ("parameters", adapter.parameters),
        ("rank", ", ".join(map(str, ranks)) if len(ranks) < 5 else f"{ranks[0]} to {ranks[-1]}"),
        ("dtype", ", ".join(adapter.dtypes)),
        ("size", _size(adapter.bytes)),
    ]
    of_base: list[tuple[str, Part]] = [
        ("id", base.id),
        ("model type", base.model_type or "unknown"),
        ("config from", tag("span", base.config_source or "a config that was given", class_="path")),
        ("config's SHA-256", tag("code", base.config_sha256, class_="digest") if base.config_sha256 else None),
    ]
    if base.model_type is None:
        of_base = [("id", base.id), ("model type", "unknown: no config could be had")]
    return tag("div", _card("Adapter", of_adapter), _card("Base model", of_base), class_="pair")


def _card(title: str, rows: Iterable[tuple[str, Part]]) -> Markup:
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value not in (None, "")]
    return tag("section", tag("h2", title), tag("dl", listed, class_="facts"), class_="card")


def _size(count: int) -> str:
    """The bytes for a person, and exactly."""
    number, unit = float(count), 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{count:,} bytes" if unit == 0 else f"{number:.3g} {_UNITS[unit]} ({count:,} bytes)"


def targets(report: Report) -> Markup | None:
    """Return the table of targets where several were asked about."""
    if len(report.targets) < 2:
        return None
    rows = []
    for at, item in enumerate(report.targets):
        decides = tag("span", "decides", class_="tag") if at < report.deciding < len(report.targets) else None
        numbers = [tag("td", count or "-", class_="number") for count in (item.errors, item.warnings)]
        rows.append(
            tag(
                "tr",
                tag("th", item.label, decides, scope="row"),
                tag("td", badge(item.status)),
                numbers,
                tag("td", item.reason, class_="why"),
            )
        )
    names = ("target", "verdict", "errors", "warnings", "first reason")
    head = tag("thead", tag("tr", [tag("th", name, scope="col", class_=f"c-{name.split()[0]}") for name in names]))
    table = tag("table", tag("caption", "Targets", class_="hidden"), head, tag("tbody", rows), class_="index")
    scroller = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Targets")
    return tag("section", tag("h2", "Where it will run"), scroller, class_="card")
