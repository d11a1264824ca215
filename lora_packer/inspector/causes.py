"""One cause, one finding: what another finding explains is told in its message, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lora_packer.finding import Finding
from lora_packer.inspector.rules import RULES, Effect
from lora_packer.inspector.rules.rule import SAME_FIELD


def one_cause_once(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings without those that an error among them explains; its rule's declaration says which.

    What it explains is told in its message as the declaration of the other rule has it. Where two of one kind explain
    each other, the first code and the first finding stand for both, and their counts add up.
    """
    findings = tuple(findings)
    cause_of = _causes(findings)
    told = []
    for at, finding in enumerate(findings):
        if at not in cause_of:
            effects = [item for other, item in enumerate(findings) if _root(other, cause_of) == at != other]
            told.append(_with_effects(finding, effects))
    return tuple(told)


def _causes(findings: Sequence[Finding]) -> dict[int, int]:
    """The position of each finding that another explains -> the position of that one."""
    cause_of: dict[int, int] = {}
    for cause in sorted(range(len(findings)), key=lambda at: findings[at].code):
        for other in range(len(findings)):
            free = other not in (cause, *cause_of) and cause_of.get(cause) != other
            if free and _effect(findings[cause], findings[other]) is not None:
                cause_of[other] = cause
    return cause_of


def _root(at: int, cause_of: dict[int, int]) -> int:
    while at in cause_of:
        at = cause_of[at]
    return at


def _effect(cause: Finding, other: Finding) -> Effect | None:
    """The declaration by which one explains the other, if it does."""
    if cause.severity != "error" or (cause.field is None and RULES[other.code].is_about_the_config):
        return None  # what names no field of the config says nothing about one
    for effect in RULES[cause.code].explains:
        field = cause.field if effect.field == SAME_FIELD else effect.field
        alone = effect.field != SAME_FIELD or other.count == 1
        same = effect.code == other.code and field in (None, other.field) and effect.severity in (None, other.severity)
        if same and alone:
            return effect
    return None


def _with_effects(finding: Finding, effects: Sequence[Finding]) -> Finding:
    """The finding with what it explains in its message."""
    if not effects:
        return finding
    # What another sentence tells comes before what is added to the last one.
    effects = sorted(effects, key=lambda item: RULES[item.code].retold != "; {message}")
    message, count, field, tensors = finding.message, finding.count, finding.field, finding.tensors
    for item in effects:
        rule = RULES[item.code]
        message += rule.retold.format(message=item.message, expected=item.expected, actual=item.actual)
        if rule.retold and item.field is not None:
            field = item.field
        if any(effect.code == finding.code for effect in rule.explains):
            count += item.count
            tensors += item.tensors
    return replace(finding, message=message, count=count, field=field, tensors=tensors)
