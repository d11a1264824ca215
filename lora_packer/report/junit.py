"""A check's report as JUnit XML, for the test tab of a CI system.

There is no standard; this is what Jenkins, GitLab and GitHub's readers take: ``testsuites``, ``testsuite``,
``testcase`` with ``failure``, ``error``, ``skipped`` and ``system-out`` (https://github.com/testmoapp/junitxml).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from lora_packer.inspector.many import Unreadable
from lora_packer.redact import escape, fit, inert, inert_xml
from lora_packer.report.place import place_of
from lora_packer.report.told import WIDEST, details, not_checked

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report
    from lora_packer.inspector.many import Result

_GROUPS = {"1": "files", "2": "config", "3": "tensors", "4": "values", "5": "target"}
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
_COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def render(results: Sequence[Result], *, fail_on: Literal["error", "warning"]) -> str:
    """Return a test suite for each adapter, with a test case for each finding and for each group without any.

    A finding at or above ``fail_on`` is a failure, another one text of a case that passes. What was not checked is
    skipped, or an error where that makes the check inconclusive; so is an adapter that could not be read.
    """
    root = Element("testsuites", name="lora-packer")
    for result in results:
        suite = SubElement(root, "testsuite", name=escape(result.adapter.source, WIDEST) or "lora-packer")
        if isinstance(result, Unreadable):
            _unread(suite, result)
        else:
            _adapter(suite, result, ("error",) if fail_on == "error" else ("error", "warning"))
        _count(suite)
    _count(root)
    indent(root)
    # What is not ASCII is written as a character reference: it survives a terminal and a locale that have no more.
    return f"{_DECLARATION}\n{inert_xml(tostring(root, encoding='us-ascii').decode())}"


def _count(element: Element) -> None:
    """Say how many test cases there are below, and how many of each kind."""
    element.set("tests", str(len(element.findall(".//testcase"))))
    for name, tag in _COUNTED.items():
        element.set(name, str(len(element.findall(f".//{tag}"))))


def _adapter(suite: Element, report: Report, failing: Sequence[str]) -> None:
    properties = SubElement(suite, "properties")
    for name, value in _properties(report):
        SubElement(properties, "property", name=name, value=value)
    groups: dict[str, list[Finding]] = {digit: [] for digit in _GROUPS}
    for finding in report.decisive:
        groups[finding.code[2]].append(finding)
    taken_groups = {item.finding.code[2] for item in report.suppressed}
    left_out = {code[2] for item in not_checked(report) for code in item.codes}
    for digit, findings in groups.items():
        for finding in findings:
            _finding(suite, report, finding, failing)
        if not findings and digit not in left_out | taken_groups:
            _case(suite, _GROUPS[digit])
    for taken in report.suppressed:
        case = _case(suite, f"suppressed: {taken.finding.code} {taken.finding.name}")
        SubElement(case, "skipped", message=fit(f"{taken.finding.message} (because: {taken.reason})"))
    for item in not_checked(report):
        tag = "error" if item.is_required else "skipped"
        outcome = SubElement(_case(suite, f"not checked: {item.named}"), tag, message=fit(item.reason))
        if item.is_required:
            outcome.set("type", "inconclusive")


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    yield "status", report.status
    yield "target", report.target
    if report.base_model.id:
        yield "base model", escape(report.base_model.id)
    if report.base_model.config_source:
        yield "base config", escape(report.base_model.config_source)
    if len(report.targets) > 1:
        for item in report.targets:
            reason = f": {item.reason}" if item.reason else ""
            yield f"target {item.label}", fit(f"{item.status}{reason}")


def _finding(suite: Element, report: Report, finding: Finding, failing: Sequence[str]) -> None:
    place = place_of(report, finding)
    about = finding.field or finding.tensor
    case = _case(suite, f"{finding.code} {finding.name}" + (f": {about}" if about else ""))
    if place.path is not None:
        case.set("file", escape(place.path, WIDEST))
        case.set("line", str(place.line))
    message = fit(f"{finding.severity} {finding.code} {finding.name}: {finding.message}")
    told = [f"{name}: {text}" for name, text in details(finding, several_targets=len(report.targets) > 1)]
    text = inert("\n".join([message, *map(fit, told)]))
    if finding.severity in failing:
        failure = SubElement(case, "failure", message=message, type=finding.code)
        failure.text = text
    else:
        SubElement(case, "system-out").text = text


def _unread(suite: Element, result: Unreadable) -> None:
    error = SubElement(_case(suite, "check"), "error", message=fit(result.error.message))
    error.set("type", type(result.error).__name__)
    if result.error.hint:
        error.text = fit(result.error.hint)


def _case(suite: Element, name: str) -> Element:
    return SubElement(suite, "testcase", name=fit(name), classname=suite.get("name", ""))
