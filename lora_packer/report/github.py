"""A check's report as workflow commands of GitHub Actions: annotations, and a summary of the job.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_packer.inspector.many import Unreadable
from lora_packer.redact import escape, fit, inert
from lora_packer.report.place import place_of
from lora_packer.report.told import WIDEST, counted, details, not_checked, verdict

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report
    from lora_packer.inspector.many import Result

_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}
_SIGNS = {"ok": "✅", "failed": "❌", "inconclusive": "❔", "unreadable": "❌"}
_LONGEST_PATH = 4096  # characters: cut off, it would name no file
_MOST_BYTES = 900_000  # of a summary; a step may have 1 MiB, and one with more has none


def render(results: Sequence[Result]) -> str:
    """Return one command for each finding, for what was not checked, and one for the verdict."""
    lines: list[str] = []
    for result in results:
        name = escape(result.adapter.source, WIDEST)
        if isinstance(result, Unreadable):
            text = [fit(result.error.message), *([fit(result.error.hint)] if result.error.hint else [])]
            lines.append(_command("error", f"{name}: {result.status}" if name else "lora-packer", text))
            continue
        lines += [_annotation(result, finding) for finding in result.decisive]
        for taken in result.suppressed:
            text = [fit(taken.finding.message), f"because: {fit(taken.reason)}"]
            lines.append(_command("notice", f"{name}: suppressed {taken.finding.code} {taken.finding.name}", text))
        for item in not_checked(result):
            kind = "error" if item.is_required else "notice"
            lines.append(_command(kind, f"{name}: not checked", [f"{item.named}: {fit(item.reason)}"]))
        lines.append(_command("notice", "lora-packer", [f"{name}: {verdict(result)}"]))
    return "\n".join(lines)


def _annotation(report: Report, finding: Finding) -> str:
    place = place_of(report, finding)
    told = [f"{name}: {text}" for name, text in details(finding, several_targets=len(report.targets) > 1)]
    where = {} if place.path is None else {"file": escape(place.path, _LONGEST_PATH), "line": str(place.line)}
    beside = [] if place.path is not None else [f"adapter: {escape(report.adapter.source, WIDEST)}"]
    text = [fit(item) for item in (finding.message, *told, *beside)]
    return _command(_COMMANDS[finding.severity], f"{finding.code} {finding.name}", text, **where)


def _command(name: str, title: str, lines: Sequence[str], **properties: str) -> str:
    """Return one command, escaped as the runner undoes it (github.com/actions/toolkit packages/core/src/command.ts)."""
    named = ",".join(f"{key}={_property(value)}" for key, value in {**properties, "title": fit(title)}.items())
    return f"::{name} {named}::{_data(inert(chr(10).join(lines)))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(inert(text)).replace(":", "%3A").replace(",", "%2C")


# --- the summary -----------------------------------------------------------------------------------------------------


def summary(results: Sequence[Result]) -> str:
    """Return Markdown for the job's summary: each adapter with its verdict and a table of its findings."""
    parts, size = [f"## lora-packer: {counted(len(results), 'adapter')}\n"], 0
    for at, result in enumerate(results):
        part = _section(result)
        size += len(part.encode())
        if size > _MOST_BYTES:
            parts.append(f"{counted(len(results) - at, 'more adapter')}: the summary is full.\n")
            break
        parts.append(part)
    return "\n".join(parts)


def _section(result: Result) -> str:
    name = _code(escape(result.adapter.source, WIDEST))
    head = f"### {_SIGNS[result.status]} {name}\n"
    if isinstance(result, Unreadable):
        return "\n".join([head, f"{result.status}: {_plain(fit(str(result.error)))}\n"])
    parts = [head, f"{verdict(result)}, target {_plain(result.target)}\n"]
    if len(result.targets) > 1:
        parts += ["| target | status | errors | warnings |", "|---|---|---|---|"]
        parts += [f"| {_plain(one.label)} | {one.status} | {one.errors} | {one.warnings} |" for one in result.targets]
        parts.append("")
    if result.decisive:
        parts += ["| | rule | what | where | next |", "|---|---|---|---|---|"]
        parts += [_row(finding) for finding in result.decisive]
        parts.append("")
    parts += [f"- suppressed {item.finding.code}: {_plain(fit(item.reason))}" for item in result.suppressed]
    parts += [f"- not checked {item.named}: {_plain(fit(item.reason))}" for item in not_checked(result)]
    return "\n".join([*parts, ""])


def _row(finding: Finding) -> str:
    about = finding.tensor or finding.field
    more = f" and {finding.count - 1} more" if finding.count > 1 else ""
    where = (_code(about) if about else "") + more
    hint = _plain(fit(finding.hint)) if finding.hint else ""
    return f"| {finding.severity} | {finding.code} {finding.name} | {_plain(fit(finding.message))} | {where} | {hint} |"


def _code(text: str) -> str:
    return f"<code>{_plain(text)}</code>"


def _plain(text: str) -> str:
    """Return text that Markdown takes for text: no mark of it begins or ends anything.

    A character reference never does (https://github.github.com/gfm/#entity-and-numeric-character-references).
    """
    return re.sub(r"[^\w\s.,()-]|_", lambda found: f"&#{ord(found[0])};", text, flags=re.ASCII).replace("\n", " ")
