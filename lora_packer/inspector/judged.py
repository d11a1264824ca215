"""What a stage of a check says: its findings, and the rules that it really ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case
from lora_packer.inspector.rules.rule import Rule

Codes = frozenset[str]


@frozen
class Judged:
    """What a stage says.

    Attributes:
        findings: what it found.
        ran: the rules that it ran.
        why: why it did not run its others.
        left_out: the rules that nobody asked for, or that this kind of source cannot have, and why: their absence does
            not make the check inconclusive.
        case: the adapter under the closest reading of the base model, where the stage made one.
    """

    findings: tuple[Finding, ...] = ()
    ran: Codes = frozenset()
    why: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)
    case: Case | None = None


def codes_of(rules: Iterable[Rule]) -> Codes:
    """Return the codes of these rules."""
    return frozenset(rule.code for rule in rules)
