"""The verdict: what a reader sees first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lora_packer.report.html.markup import Markup, Part, joined, tag

if TYPE_CHECKING:
    from lora_packer.inspector.many import Result

# A tick, a cross, a question mark and a broken file, in a square of 24.
_SIGNS = {
    "ok": "M5 12.5l4.5 4.5L19 7.5",
    "failed": "M7 7l10 10M17 7L7 17",
    "inconclusive": "M9 9.2a3 3 0 1 1 4.6 2.5c-1 .7-1.6 1.2-1.6 2.3M12 17.4v.1",
    "unreadable": "M12 6v7.5M12 17.4v.1",
}
_SENTENCES = {
    "ok": "Everything that had to be checked was checked, and it fits.",
    "failed": "Do not serve this adapter as it is.",
    "inconclusive": "Part of the check could not run. This is no clean bill of health.",
    "unreadable": "There is nothing to check: the adapter could not be read.",
}
_OF_SEVERAL = {
    "ok": "Every adapter was checked, and fits.",
    "failed": "Some of these adapters are not to be served as they are.",
    "inconclusive": "Part of the check could not run for some of these adapters.",
}


def sign(status: str) -> Markup:
    """Return the status's sign, which says nothing that a word beside it does not say."""
    drawn = tag("path", d=_SIGNS[status])
    return tag("svg", drawn, viewBox="0 0 24 24", class_="sign", aria_hidden="true", focusable="false")


def badge(status: str) -> Markup:
    """Return the status as one word with its sign."""
    return tag("span", sign(status), status, class_=f"badge {status}")


def banner(result: Result, name: str, heading: str) -> Markup:
    """Return one adapter's verdict."""
    from lora_packer.inspector.report import Report

    counts: list[Part] = []
    if isinstance(result, Report):
        told = [item.severity for item in result.decisive]
        chips = [(told.count(kind), kind) for kind in ("error", "warning", "info")]
        counts = [_chip(count, _NOUNS[kind], kind) for count, kind in chips if count or kind != "info"]
        if result.suppressed:
            counts.append(tag("li", tag("b", len(result.suppressed)), " suppressed", class_="chip info"))
        if result.unchecked:
            counts.append(_chip(len(result.unchecked), "check that did not run", "unchecked"))
    target = tag("p", "for ", tag("b", _target(result)), class_="for")
    title = [tag(heading, name, class_="name"), target]
    return _banner(result.status, _SENTENCES[result.status], title, counts)


def overall_banner(summary: Mapping[str, int]) -> Markup:
    """Return the verdict on several adapters."""
    from lora_packer.inspector.many import overall

    status = overall(summary)
    count = summary["adapters"]
    chips: list[Part] = [
        tag("li", tag("b", summary[name]), f" {name}", class_=f"chip {name}") for name in _SIGNS if summary[name]
    ]
    return _banner(status, _OF_SEVERAL[status], [tag("h1", f"{count:,} adapters", class_="name")], chips)


def _target(result: Result) -> str:
    """The targets that decide."""
    from lora_packer.inspector.report import Report

    names = [item.label for item in result.targets[: result.deciding]] if isinstance(result, Report) else []
    return ", ".join(names) or result.target


_NOUNS = {"error": "error", "warning": "warning", "info": "note"}


def _chip(count: int, noun: str, kind: str) -> Markup:
    words = noun if count == 1 else noun.replace("check that", "checks that") if " " in noun else f"{noun}s"
    return tag("li", tag("b", count), f" {words}", class_=f"chip {kind if count else 'none'}")


def _banner(status: str, sentence: str, title: Part, chips: list[Part]) -> Markup:
    words = tag("div", tag("p", status, class_="status"), tag("p", sentence, class_="sentence"), class_="words")
    return tag(
        "header",
        tag("div", joined(title), class_="title"),
        tag("div", sign(status), words, class_="verdict"),
        tag("ul", chips, class_="chips") if chips else None,
        class_=f"banner {status}",
    )
