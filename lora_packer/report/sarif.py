"""A check's report as SARIF 2.1.0, for code scanning (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html)."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lora_packer import __version__
from lora_packer.inspector import RULES
from lora_packer.inspector.many import Unreadable
from lora_packer.names import CONFIG_NAME
from lora_packer.redact import escape, fit, inert_json
from lora_packer.report.place import place_of
from lora_packer.report.told import WIDEST, details, not_checked

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report
    from lora_packer.inspector.many import Result
    from lora_packer.inspector.rules import Rule

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
# What GitHub sorts by (docs.github.com, "SARIF support for code scanning": problem.severity).
_PROBLEMS = {"error": "error", "warning": "warning", "info": "recommendation"}
_GROUPS = {"1": "files", "2": "config", "3": "tensors", "4": "values", "5": "target"}
_MOST_TENSORS = 10  # of one finding as logical locations; all are in its properties


def render(results: Sequence[Result], *, exit_code: int) -> str:
    """Return one run of SARIF with the findings of all adapters, and with what could not be checked or read."""
    reports = [result for result in results if not isinstance(result, Unreadable)]
    taken = [item.finding for report in reports for item in report.suppressed]
    codes = sorted({item.code for report in reports for item in report.decisive} | {item.code for item in taken})
    places = {code: at for at, code in enumerate(codes)}
    driver = {
        "name": "lora-packer",
        "semanticVersion": __version__,
        **_home(),
        "rules": [_rule(RULES[code]) for code in codes],
    }
    notifications = [item for result in results for item in _notifications(result)]
    invocation: dict[str, Any] = {
        "executionSuccessful": not any(item["level"] == "error" for item in notifications),
        "exitCode": exit_code,
        "toolExecutionNotifications": notifications,
    }
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "results": [item for report in reports for item in _results(report, places)],
        "columnKind": "unicodeCodePoints",
        "properties": {"adapters": [_adapter(result) for result in results if result.adapter.source]},
    }
    return inert_json(json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2))


def _home() -> dict[str, str]:
    """The project's own address as its package names it, where it names one."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        named = metadata("lora-packer").get_all("Project-URL") or []
    except PackageNotFoundError:
        return {}
    return {"informationUri": named[0].partition(",")[2].strip()} if named else {}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": f"{rule.summary} {rule.why}"},
        "help": {
            "text": f"{rule.summary} {rule.why} {rule.fix}",
            "markdown": f"**What it finds**: {rule.summary}\n\n**Why it matters**: {rule.why}\n\n"
            f"**How to fix it**: {rule.fix}\n\n`lora-packer rule {rule.code}`",
        },
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "tags": ["lora", _GROUPS[rule.code[2]]],
            "precision": "very-high",
            "problem.severity": _PROBLEMS[rule.severity],
        },
    }


def _results(report: Report, places: Mapping[str, int]) -> list[dict[str, Any]]:
    seen: Counter[str] = Counter()
    found = [_result(report, finding, places[finding.code], seen) for finding in report.decisive]
    for item in report.suppressed:  # an external suppression, section 3.35
        result = _result(report, item.finding, places[item.finding.code], seen)
        told = {"kind": "external", "status": "accepted", "justification": escape(item.reason, WIDEST)}
        found.append({**result, "suppressions": [told]})
    return found


def _result(report: Report, finding: Finding, index: int, seen: Counter[str]) -> dict[str, Any]:
    place = place_of(report, finding)
    several = len(report.targets) > 1
    told = [f"{name}: {text}" for name, text in details(finding, several_targets=several) if name != "next"]
    hint = [finding.hint] if finding.hint else []
    print_of = _fingerprint(finding, place.file)
    seen[print_of] += 1
    fingerprint = f"{print_of}:{seen[print_of]}"
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": place.uri}, "region": {"startLine": place.line}}
    }
    if logical := _logical(finding):
        location["logicalLocations"] = logical
    prints = {"lora-packer/v1": fingerprint}
    if place.file != CONFIG_NAME:
        # What GitHub tells alerts apart by. Of a text file its upload action makes one of its own, from the line, and
        # warns of any other (github.com/github/codeql-action src/fingerprints.ts); of weights that would be noise.
        prints["primaryLocationLineHash"] = fingerprint
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _LEVELS[finding.severity],
        "message": _message(f"{finding.message}", *told, *hint),
        "locations": [location],
        "partialFingerprints": prints,
        "properties": {
            "adapter": escape(report.adapter.source, WIDEST),
            "file": place.file,
            "count": finding.count,
            "expected": finding.expected,
            "actual": finding.actual,
            "fixable": finding.fixable,
            "targets": None if finding.targets is None else list(finding.targets),
            "tensors": list(finding.tensors),
        },
    }


def _fingerprint(finding: Finding, file: str) -> str:
    """Return what stays the same when words, order or the adapter's folder change: rule, file, and field or tensor."""
    cause = (finding.code, file, finding.field or "", finding.tensor or "")
    return hashlib.sha256("\0".join(cause).encode()).hexdigest()[:16]


def _logical(finding: Finding) -> list[dict[str, str]]:
    if finding.tensor is not None:
        names = (finding.tensors or (finding.tensor,))[:_MOST_TENSORS]
        return [{"fullyQualifiedName": name, "kind": "tensor"} for name in names if name]
    return [{"fullyQualifiedName": finding.field, "kind": "property"}] if finding.field else []


def _message(*sentences: str) -> dict[str, str]:
    """Return a message in which nothing is a link or a placeholder (sections 3.11.5 and 3.11.6)."""
    text = " ".join(text if text.endswith((".", "?", "!")) else f"{text}." for text in map(fit, sentences))
    return {"text": re.sub(r"\{(?=\d+\})", "{ ", text.replace("](", "] ("))}


def _notifications(result: Result) -> list[dict[str, Any]]:
    """What could not be checked, or read at all, of one adapter."""
    name = escape(result.adapter.source, WIDEST)
    if isinstance(result, Unreadable):
        return [_unread(result, name)]
    return [
        {
            "level": "error" if item.is_required else "note",
            "message": _message(f"{name}: {item.named} not checked: {item.reason}"),
            "properties": {"adapter": name, "codes": list(item.codes)},
        }
        for item in not_checked(result)
    ]


def _unread(result: Unreadable, name: str) -> dict[str, Any]:
    error = result.error
    hint = [error.hint] if error.hint else []
    return {
        "level": "error",
        "message": _message(f"{name}: {error.message}" if name else error.message, *hint),
        "properties": {"adapter": name or None, "type": type(error).__name__, "exitCode": error.exit_code},
    }


def _adapter(result: Result) -> dict[str, Any]:
    targets = [item.to_dict() for item in getattr(result, "targets", ())]
    return {
        "source": escape(result.adapter.source, WIDEST),
        "status": result.status,
        "target": result.target,
        **({"targets": targets} if len(targets) > 1 else {}),
        "summary": result.summary,
    }
