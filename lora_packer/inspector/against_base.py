"""The stage that holds an adapter against its base model, and says which known base model would fit better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lora_packer.adapter import CONFIG_NAME, REQUIRED, WEIGHTS_NAME, Adapter, LoraConfig
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import CHECKPOINT, BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.diagnosis import diagnose, refused_on
from lora_packer.inspector.identify import fitting
from lora_packer.inspector.judged import Judged, codes_of
from lora_packer.inspector.loading import as_peft_loads
from lora_packer.inspector.rules import (
    RULES,
    config,
    config_on_base,
    definition,
    extra,
    placed,
    shapes,
    shapes_alone,
    vocabulary,
)
from lora_packer.inspector.rules.loading import other_layout
from lora_packer.inspector.rules.missing import HALF_PAIR
from lora_packer.inspector.several import told_fixable
from lora_packer.inspector.subject import Subject, why_without
from lora_packer.redact import escape

# The rules that need a base model. Where its tensors land in a serving engine is a stage of its own.
BASE_RULES = (
    *(rule for rule in RULES.values() if rule.needs == "base" and rule is not placed.LANDS_NOWHERE),
    HALF_PAIR,
)

# What a wrong base config looks like.
_ANOTHER_BASE = (shapes.WRONG_BASE, extra.LAYER_OUT_OF_RANGE, extra.UNKNOWN_TENSOR)

# What shapes and halves of pairs show, whatever the modules are called.
_BY_SHAPE = (
    shapes.WRONG_BASE,
    shapes_alone.RANK_MISMATCH,
    shapes.TRANSPOSED,
    shapes.SWAPPED,
    shapes_alone.EMPTY_TENSOR,
    HALF_PAIR,
    vocabulary.RESIZED_VOCABULARY,
)


def judge_against_base(subject: Subject) -> Judged:
    """Hold the adapter against its base model: which of its tensors that model has no use for, or lacks."""
    adapter, against = subject.adapter, subject.against
    if isinstance(against, str):
        return Judged(why=against)
    if adapter.config is None or adapter.header is None:
        return Judged(why=why_without(subject, *REQUIRED))
    if subject.framework is not None:
        return Judged(why=f"the tensors have {subject.framework.name}'s names")
    if not adapter.tensors:
        return Judged(why=f"{WEIGHTS_NAME} holds no tensors")
    if subject.has_too_many:
        told = f"{len(adapter.tensors)} tensors are more than {_described(against.base)} can have"
        return Judged((extra.too_many(told, len(adapter.tensors)),), codes_of((extra.UNKNOWN_TENSOR,)), told)
    if not config.is_usable(adapter):
        return Judged(why=f"what {CONFIG_NAME} calls for is not known before it is corrected")
    try:
        judged = _against(adapter.config, against.base, subject, subject.hosted)
        if against.also is None or _fails(judged):
            return judged
        other = _against(adapter.config, against.also, subject, None)
        return _with_hint(other, f"It fits {subject.hosted}, which is hosted: leave --base-config out.", judged)
    except PatternError as error:
        if error.kind == "invalid":
            return Judged((config_on_base.bad_pattern(error),), why=f"a pattern in {CONFIG_NAME} cannot be used")
        return Judged(why=f"a pattern in {CONFIG_NAME} was not evaluated: {escape(str(error))}")


def _described(base: BaseModel) -> str:
    return f"{base.model_type} with its {max(map(len, base.dialects.values()))} modules"


def _against(settings: LoraConfig, base: BaseModel, subject: Subject, hosted: str | None) -> Judged:
    adapter, target = subject.adapter, subject.target
    found = diagnose(settings, base, adapter.tensors)
    found = as_peft_loads(found, settings, base, adapter.tensors, target.name)
    if found.case.dialect != CHECKPOINT:
        both = told_fixable(found.findings, found, settings, base, adapter.tensors, target.name)
        found = replace(found, findings=both)
    told = tuple(vocabulary.at_target(item, target, hosted) for item in (*found.findings, *other_layout(found.case)))
    refused = tuple(refused_on(found, base, exact=target.name == "peft"))
    if found.case.dialect == CHECKPOINT:
        # A checkpoint's names need not be the running model's: by them nothing is refused.
        by_name = [item for item in found.errors if item.code not in codes_of(_BY_SHAPE)]
        if by_name:
            kept = tuple(item for item in told if item not in by_name)
            why = f"the base checkpoint's names differ from the adapter's, and decide nothing: {by_name[0].message}"
            return Judged((*_with_hints(kept, settings, adapter, hosted), *refused), why=why, case=found.case)
    ran = codes_of(BASE_RULES if found.only is None else found.only)
    findings = (*_with_hints(told, settings, adapter, hosted), *refused, *definition.how_it_is_held(found.case.base))
    return Judged(findings, ran, found.why, case=found.case)


def _fails(judged: Judged) -> bool:
    return any(item.severity == "error" for item in judged.findings)


def _with_hint(judged: Judged, hint: str, otherwise: Judged) -> Judged:
    """What fails, with another next step for each error; ``otherwise`` where nothing fails."""
    if not _fails(judged):
        return otherwise
    told = (replace(item, hint=hint) if item.severity == "error" else item for item in judged.findings)
    return replace(judged, findings=tuple(told))


def _with_hints(
    findings: Sequence[Finding], settings: LoraConfig, adapter: Adapter, hosted: str | None
) -> tuple[Finding, ...]:
    """Say which known base models the tensors fit, where they are another one's.

    Another --base-config would not make the hosted base another one, so nobody is sent there.
    """
    codes = codes_of(_ANOTHER_BASE)
    if not any(item.code in codes and item.severity == "error" for item in findings):
        return tuple(findings)
    try:
        known = fitting(settings, adapter.tensors)
    except PatternError:  # it may need more states on another model's names; the finding stands without the hint
        known = []
    hint = _another_base(known, hosted)
    if hint is None:
        return tuple(findings)
    return tuple(
        replace(item, hint=hint) if item.code in codes and item.severity == "error" else item for item in findings
    )


def _another_base(known: Sequence[str], hosted: str | None) -> str | None:
    """What to do with an adapter of another base model, which may be one of these; None: what the rule says."""
    if not known:
        return f"Give the --base-model that the adapter was trained on, or train it on {hosted}." if hosted else None
    more = f" (and {len(known) - 1} more, see `lora-packer identify`)" if len(known) > 1 else ""
    if hosted is None:
        return f"These tensors fit {known[0]}{more}: give --base-config {known[0]} if it was trained on that."
    give = f"give --base-model {known[0]} if it was trained on that and the service hosts it"
    return f"These tensors fit {known[0]}{more}: {give}."
