"""The findings, the worst first, and what was not checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_packer.report.html.markup import Markup, Part, tag
from lora_packer.report.told import counted, not_checked, value

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report

_GROUPS = {"error": "Errors", "warning": "Warnings", "info": "Notes"}
_MOST_TENSORS = 2000  # of one finding that are listed


def findings(report: Report) -> Markup:
    """Return every finding: those that hold for a target which decides by severity, then the others."""
    decisive = report.decisive
    others = [item for item in report.findings if item not in decisive]
    several = len(report.targets) > 1
    groups: list[Part] = []
    for severity, title in _GROUPS.items():
        chosen = [item for item in decisive if item.severity == severity]
        if chosen:
            groups.append(_group(title, chosen, several))
    if others:
        summary = tag("summary", f"{len(others)} more for targets that do not decide")
        groups.append(tag("details", summary, [_finding(item, several) for item in others], class_="others"))
    if not groups:
        groups.append(tag("p", "None.", class_="quiet"))
    if report.suppressed:
        taken = [
            [tag("p", tag("b", "Suppressed"), " ", item.reason, class_="reason"), _finding(item.finding, several)]
            for item in report.suppressed
        ]
        summary = tag("summary", f"{len(report.suppressed)} suppressed, each for a reason")
        groups.append(tag("details", summary, taken, class_="others"))
    return tag("section", tag("h2", "Findings"), groups, class_="card")


def _group(title: str, items: Sequence[Finding], several: bool) -> Markup:
    count = tag("span", len(items), class_="count")
    return tag("div", tag("h3", title, " ", count), [_finding(item, several) for item in items], class_="group")


def _finding(item: Finding, several: bool) -> Markup:
    from lora_packer.inspector.rules import RULES

    rule = RULES.get(item.code)
    fixable = tag("span", "lora-packer fix mends it", class_="tag") if item.fixable else None
    rows: list[tuple[str, Part]] = [("file", item.file), ("field", item.field)]
    if item.tensor is not None:
        more = f" and {item.count - 1:,} more" if item.count > 1 else ""
        rows.append(("tensor", [tag("code", item.tensor), more]))
    rows += [("expected", _value(item.expected)), ("actual", _value(item.actual))]
    if several and item.targets is not None:
        rows.append(("targets", ", ".join(item.targets)))
    listed = [tag("div", tag("dt", name), tag("dd", value)) for name, value in rows if value is not None]
    return tag(
        "article",
        tag("h4", tag("code", item.code), " ", tag("span", item.name, class_="rule"), fixable),
        tag("p", item.message, class_="message"),
        tag("dl", listed, class_="details") if listed else None,
        tag("p", tag("b", "Next"), " ", item.hint, class_="next") if item.hint else None,
        _folded("Why it matters", tag("p", rule.why)) if rule else None,
        _tensors(item) if len(item.tensors) > 1 else None,
        class_=f"finding {item.severity}",
    )


def _tensors(item: Finding) -> Markup:
    named = [tag("li", name) for name in item.tensors[:_MOST_TENSORS]]
    left = len(item.tensors) - len(named)
    more = tag("p", f"and {left:,} more, which the JSON has", class_="quiet") if left else None
    return _folded(f"All {len(item.tensors):,} tensors", tag("ol", named, class_="tensors"), more)


def _folded(title: str, *parts: Part) -> Markup:
    return tag("details", tag("summary", title), parts)


def _value(found: object) -> Markup | None:
    return None if found is None else tag("code", value(found))


def unchecked(report: Report) -> Markup | None:
    """Return what was not checked, once for each reason."""
    from lora_packer.inspector.rules import RULES

    parts = []
    for missed in not_checked(report):
        named = [
            tag("li", tag("code", code), " ", RULES[code].summary if code in RULES else "") for code in missed.codes
        ]
        listed = _folded(counted(len(missed.codes), "check"), tag("ul", named, class_="tensors"))
        required = tag("span", "required", class_="tag") if missed.is_required else None
        parts.append(tag("div", tag("p", missed.reason, " ", required, class_="message"), listed))
    return tag("section", tag("h2", "Not checked"), parts, class_="card unchecked") if parts else None
