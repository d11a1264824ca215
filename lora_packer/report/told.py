"""What every format tells of a report: a finding's details, what was not checked, and how many of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lora_packer.redact import escape

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report

WIDEST = 360  # characters of one value from a file


class NotChecked(NamedTuple):
    """Checks that did not run for one reason.

    Attributes:
        codes: their rules.
        reason: why they did not run.
        is_required: whether that is what makes the report inconclusive.
    """

    codes: tuple[str, ...]
    reason: str
    is_required: bool

    @property
    def named(self) -> str:
        """The codes as a text: all of a few, else the first and the last."""
        return ", ".join(self.codes) if len(self.codes) < 8 else f"{self.codes[0]} to {self.codes[-1]}"


def not_checked(report: Report) -> list[NotChecked]:
    """Return what was not checked, by its reason."""
    decisive = {item.reason for item in report.targets[: report.deciding] if item.status == "inconclusive"}
    codes: dict[str, list[str]] = {}
    for item in report.unchecked:
        codes.setdefault(item.reason, []).append(item.code)
    return [NotChecked(tuple(found), reason, reason in decisive) for reason, found in codes.items()]


def details(finding: Finding, *, several_targets: bool = False) -> list[tuple[str, str]]:
    """Return what stands below a finding's message: labels and texts, each fit for a line."""
    told: list[tuple[str, str]] = []
    if finding.tensor is not None:
        more = f" (and {finding.count - 1} more)" if finding.count > 1 else ""
        told.append(("tensor", f"{finding.tensor}{more}"))
    elif finding.field is not None:
        told.append(("field", finding.field))
    if finding.expected is not None:
        told.append(("expected", value(finding.expected)))
    if finding.actual is not None:
        told.append(("actual", value(finding.actual)))
    if several_targets and finding.targets is not None:
        told.append(("targets", ", ".join(finding.targets)))
    if finding.hint is not None:
        told.append(("next", finding.hint))
    return told


def value(found: object) -> str:
    """Return an expected or actual value for a person: shapes as ``64 x 4``."""
    if isinstance(found, list):
        joint = " x " if all(isinstance(item, int) for item in found) else ", "
        return escape(joint.join(map(str, found)), WIDEST)
    return escape(str(found), WIDEST)


def counted(number: int, noun: str) -> str:
    """Return ``1 error``, ``2 errors``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def verdict(report: Report) -> str:
    """Return the status and the counts on one line: ``failed: 1 error, 0 warnings``."""
    severities = [item.severity for item in report.decisive]
    counts = f"{counted(severities.count('error'), 'error')}, {counted(severities.count('warning'), 'warning')}"
    if report.suppressed:
        counts += f", {len(report.suppressed)} suppressed"
    why = "a required check could not run; " if report.status == "inconclusive" else ""
    return f"{report.status}: {why}{counts}"
