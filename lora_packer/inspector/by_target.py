"""One check for several targets: what is the same for all runs once, and each finding says for whom it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from lora_packer.finding import Finding, Unchecked
from lora_packer.frozen import frozen
from lora_packer.inspector.causes import one_cause_once
from lora_packer.inspector.judged import Judged
from lora_packer.inspector.report import Status, TargetVerdict, verdict
from lora_packer.inspector.rules import limits, placed, served
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.stages import OF_THE_TARGET, STAGES, unchecked
from lora_packer.inspector.subject import Subject
from lora_packer.inspector.suppression import Suppressed, Suppressing
from lora_packer.targets import Target

# The rules that are about one target and no other.
_OWN = frozenset(rule.code for of in (served, limits, placed) for rule in vars(of).values() if isinstance(rule, Rule))


@frozen
class Told:
    """What a check says.

    Attributes:
        judged: what the stages say for the first target.
        findings: those of all targets, each with the targets for which it holds.
        unchecked: what was not checked, for any that decides.
        status: the verdict of the targets that decide.
        targets: the verdict of each.
        suppressed: the findings that decided nothing, for any of them.
    """

    judged: tuple[Judged, ...]
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]
    status: Status
    targets: tuple[TargetVerdict, ...]
    suppressed: tuple[Suppressed, ...] = ()

    @property
    def every(self) -> tuple[Finding, ...]:
        """The findings, also those that decided nothing."""
        return (*self.findings, *(item.finding for item in self.suppressed))


def tell(
    subject: Subject,
    targets: Sequence[Target],
    deciding: int,
    wanted: Callable[[str], bool],
    fail_on: Literal["error", "warning"],
    suppressing: Suppressing,
) -> Told:
    """Judge an adapter for each target; the first ``deciding`` of them decide.

    What is suppressed decides nothing. What did not run is never suppressed.
    """
    first = tuple(stage.judge(subject) for stage in STAGES)
    every = [first]
    for other in targets[1:]:
        of_other = replace(subject, target=other)
        every.append(
            tuple(
                stage.judge(of_other) if stage.judge in OF_THE_TARGET else result
                for stage, result in zip(STAGES, first, strict=True)
            )
        )
    found, silent, missed, verdicts = [], [], [], []
    for judged, one in zip(every, targets, strict=True):
        findings = one_cause_once(finding for item in judged for finding in item.findings)
        findings, taken = suppressing.split(item for item in findings if wanted(item.code))
        not_run = [(item, required) for item, required in unchecked(STAGES, judged) if wanted(item.code)]
        status = verdict(findings, any(required for _, required in not_run), fail_on)
        found.append(findings)
        silent.append(taken)
        missed.append([item for item, _ in not_run])
        verdicts.append(_verdict(one, status, findings, not_run))
    statuses = [item.status for item in verdicts[:deciding]]
    status = next((worst for worst in ("failed", "inconclusive") if worst in statuses), "ok")
    everything = tuple(dict.fromkeys(item for items in missed[:deciding] for item in items))
    labels = [one.label for one in targets]
    suppressed = suppressing.told(_merged(silent, labels))
    return Told(first, _merged(found, labels), everything, status, tuple(verdicts), suppressed)


def _verdict(
    one: Target, status: Status, findings: Sequence[Finding], not_run: Iterable[tuple[Unchecked, bool]]
) -> TargetVerdict:
    errors = [item for item in findings if item.severity == "error"]
    warnings = [item for item in findings if item.severity == "warning"]
    reason = next((f"{item.code} {item.message}" for item in (*errors, *warnings)), None)
    if not errors and status == "inconclusive":
        reason = next((item.reason for item, required in not_run if required), reason)
    return TargetVerdict(one.name, one.version, status, len(errors), len(warnings), reason, one.label)


def _merged(found: Sequence[Sequence[Finding]], labels: Sequence[str]) -> tuple[Finding, ...]:
    """The findings of all targets, those of the first one first."""
    holds: dict[str, tuple[Finding, list[str]]] = {}
    for findings, label in zip(found, labels, strict=True):
        for item in findings:
            holds.setdefault(repr(item), (item, []))[1].append(label)
    return tuple(
        replace(item, targets=tuple(names) if item.code in _OWN or len(names) < len(labels) else None)
        for item, names in holds.values()
    )
