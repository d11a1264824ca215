"""The page as a whole: its head, one adapter's parts, and an index where there are several."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lora_packer import __version__
from lora_packer.redact import fit
from lora_packer.report.html.facts import facts, targets
from lora_packer.report.html.findings import findings, unchecked
from lora_packer.report.html.grid import heat_maps
from lora_packer.report.html.markup import Markup, joined, tag
from lora_packer.report.html.profile import profiles
from lora_packer.report.html.verdict import badge, banner, overall_banner

if TYPE_CHECKING:
    from lora_packer.inspector import Report
    from lora_packer.inspector.many import Result

# A picture is some hundred cells: a page with more adapters than this has the other parts alone.
MOST_PICTURES = 50


def render(results: Sequence[Result]) -> str:
    """Return the page of one adapter, or of several with an index, without a newline at its end."""
    from lora_packer.inspector.many import overall, summary_of

    if len(results) == 1:
        (result,) = results
        name = short_name(result.adapter.source)
        return _document(f"{result.status}: {name}", _one(result, f"a{0}", with_pictures=True, main=True))
    summary = summary_of(results)
    pictures = len(results) <= MOST_PICTURES
    sections = [_folded(result, f"a{at}", with_pictures=pictures) for at, result in enumerate(results)]
    title = f"{overall(summary)}: {len(results):,} adapters"
    return _document(title, [overall_banner(summary), _index(results, pictures), sections])


def short_name(source: str) -> str:
    """Return the last part of a path, which is what people call an adapter."""
    return PurePosixPath(source).name or source


def _document(title: str, body: Markup | list[Markup | list[Markup]]) -> str:
    css = files("lora_packer.report.html").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    # Nothing is loaded, run, sent or framed, whatever a text could have smuggled in: only this style sheet is applied.
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{title} - lora-packer"),
        Markup(f"<style>{css}</style>"),
    )
    footer = tag("footer", tag("p", f"Written by lora-packer {__version__}. What it could not check it says."))
    page = tag("html", head, tag("body", tag("main", body), footer), lang="en")
    return f"<!doctype html>\n{page.text}"


def _one(result: Result, anchor: str, *, with_pictures: bool, main: bool) -> Markup:
    """Everything about one adapter."""
    from lora_packer.inspector.report import Report

    heading = "h1" if main else "h2"
    name = short_name(result.adapter.source)
    if not isinstance(result, Report):
        told = tag("p", fit(result.error.message), class_="message")
        hint = [tag("p", tag("b", "Next "), line, class_="next") for line in fit(result.error.hint or "").splitlines()]
        return joined([banner(result, name, heading), tag("section", told, hint, class_="card")])
    return joined(
        [
            banner(result, name, heading),
            tag("div", facts(result), class_="facts-row"),
            targets(result),
            findings(result),
            unchecked(result),
            _pictures(result, anchor) if with_pictures else None,
        ]
    )


def _pictures(report: Report, anchor: str) -> Markup:
    """How large the updates are: the heat map and the profiles, or why there are none."""
    title = tag("h2", "How large the updates are")
    if report.stats is None:
        reason = next((item.reason for item in report.unchecked if item.code.startswith("LP4")), None)
        told = f"Not shown: {reason}." if reason else "Not shown: the tensors' values were not read."
        return tag("section", title, tag("p", told, class_="quiet"), class_="card")
    if not report.stats:
        told = "Not shown: there is no pair of lora_A and lora_B whose size can be computed."
        return tag("section", title, tag("p", told, class_="quiet"), class_="card")
    from lora_packer.report.layers import sizes_of

    sizes = sizes_of(report.stats)
    lead = tag(
        "p",
        "The Frobenius norm of what the adapter adds to each weight: scale x B x A. "
        "Layers that hardly changed are pale, and one that stands out is worth a look.",
        class_="quiet",
    )
    return tag("section", title, lead, heat_maps(sizes, anchor), profiles(sizes), class_="card")


def _folded(result: Result, anchor: str, *, with_pictures: bool) -> Markup:
    """One adapter among several: its name and verdict, and all of it where it is opened."""
    summary = tag("summary", badge(result.status), tag("span", result.adapter.source, class_="path"))
    body = tag("div", _one(result, anchor, with_pictures=with_pictures, main=False), id=anchor)
    return tag("details", summary, body, class_="adapter")


def _index(results: Sequence[Result], pictures: bool) -> Markup:
    """The table of adapters, each with a link to its part."""
    rows = []
    for at, result in enumerate(results):
        link = tag("a", result.adapter.source, href=f"#a{at}")
        numbers = [tag("td", result.summary[name] or "-", class_="number") for name in ("errors", "warnings")]
        rows.append(
            tag(
                "tr",
                tag("th", link, scope="row", class_="path"),
                tag("td", badge(result.status)),
                numbers,
                tag("td", _why(result), class_="why"),
            )
        )
    names = ("adapter", "verdict", "errors", "warnings", "first reason")
    head = tag("thead", tag("tr", [tag("th", name, scope="col", class_=f"c-{name.split()[0]}") for name in names]))
    note = (
        None
        if pictures
        else tag("p", f"With more than {MOST_PICTURES} adapters there are no pictures.", class_="quiet")
    )
    table = tag("table", tag("caption", "Adapters", class_="hidden"), head, tag("tbody", rows), class_="index")
    scroller = tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="Adapters")
    return tag("section", tag("h2", "Adapters"), note, scroller, class_="card")


def _why(result: Result) -> str:
    from lora_packer.inspector.report import Report

    if not isinstance(result, Report):
        return fit(result.error.message).replace("\n", " ")
    worst = sorted(result.decisive, key=lambda item: ("error", "warning", "info").index(item.severity))
    if worst and worst[0].severity != "info":
        return f"{worst[0].code} {worst[0].message}"
    return result.unchecked[0].reason if result.status == "inconclusive" and result.unchecked else ""
