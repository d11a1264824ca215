"""The six stages of a check: each says what it found, and which rules it really ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lora_packer.adapter import CONFIG_NAME, REQUIRED, WEIGHTS_NAME
from lora_packer.adapter.config import ConfigProblem
from lora_packer.adapter.safetensors_header import SafetensorsHeader
from lora_packer.errors import InputError
from lora_packer.finding import Finding, Unchecked
from lora_packer.frozen import frozen
from lora_packer.inspector.against_base import BASE_RULES, judge_against_base
from lora_packer.inspector.foreign import is_convertible
from lora_packer.inspector.judged import Judged, codes_of
from lora_packer.inspector.kohya import needs_no_config
from lora_packer.inspector.rules import (
    RULES,
    config,
    files,
    limits,
    names,
    placed,
    served,
    target,
)
from lora_packer.inspector.rules import values as value_rules
from lora_packer.inspector.rules.missing import HALF_PAIR, lost_halves
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.rules.shapes_alone import without_a_base
from lora_packer.inspector.subject import Subject, plainly, why_without
from lora_packer.inspector.values import TensorValues, scan, scan_by_parts
from lora_packer.misplaced import MLX_WEIGHTS

_ON_DISK = "files on the disk, and what was checked is on none"


@frozen
class Stage:
    """One part of a check: the rules that it is there for, and what judges by them."""

    runs: tuple[Rule, ...]
    judge: Callable[[Subject], Judged]


def unchecked(stages: Sequence[Stage], judged: Sequence[Judged]) -> Iterable[tuple[Unchecked, bool]]:
    """Yield each rule that no stage ran, and whether that makes a check which has to run it inconclusive."""
    ran = frozenset().union(*(item.ran for item in judged))
    named = set(ran)
    for stage, result in zip(stages, judged, strict=True):
        for rule in sorted(stage.runs, key=lambda rule: rule.code):
            if rule.code not in named:
                named.add(rule.code)
                yield Unchecked(rule.code, result.left_out.get(rule.code, result.why)), rule.code not in result.left_out


# --- the stages ------------------------------------------------------------------------------------------------------


def _judge_files(subject: Subject) -> Judged:
    kinds = {(defect.kind, defect.file) for defect in subject.adapter.defects}
    ran = {rule.code for rule in (files.MISSING_FILE, files.WEIGHTS_BESIDE, files.CREDENTIAL_INSIDE)}
    if ("missing-file", CONFIG_NAME) not in kinds:
        ran.add(files.UNREADABLE_CONFIG.code)
        if ("unreadable-config", CONFIG_NAME) not in kinds:
            ran.add(files.DOUBTFUL_JSON.code)
    if ("missing-file", WEIGHTS_NAME) not in kinds:
        ran.add(files.BAD_SAFETENSORS.code)
    found = files.defects, files.weights_beside, files.credentials_inside
    findings = tuple(finding for find in found for finding in find(subject.adapter))
    if ("missing-file", CONFIG_NAME) in kinds and needs_no_config(subject.source, subject.base):
        findings = tuple(
            replace(item, fixable=True) if item.code == files.MISSING_FILE.code else item for item in findings
        )
    return Judged(findings, frozenset(ran), why_without(subject, *REQUIRED))


def _judge_config(subject: Subject) -> Judged:
    settings = subject.adapter.config
    if settings is None:
        return Judged(why=why_without(subject, CONFIG_NAME))
    other = config.other_format(subject.adapter)
    features: list[Finding] = []
    if other is None:
        base = None if isinstance(subject.base, str) else subject.base
        known = base is not None and placed.is_placed(subject.target, base, settings)
        features += served.features_at(
            subject.target, subject.adapter, settings, has_base=base is not None, placed=known
        )
        features += limits.limits_at(subject.target, subject.adapter, settings)
    findings = [
        *(() if _shows_its_format(subject, other) else config.fields(subject.adapter)),
        *features,
        *target.other_base_named(settings, subject.hosted),
    ]
    if isinstance(subject.against, str):
        unknown = codes_of((target.HOSTED_BASE_UNKNOWN,)) if subject.hosted else frozenset()
        return Judged(tuple(findings), codes_of(_CONFIG) - unknown, subject.against)
    if subject.hosted and subject.against.stands_in:
        given = subject.against.base.source or "the base config"
        findings.append(target.hosted_base_unknown(subject.hosted, subject.against.stands_in, given))
    return Judged(tuple(findings), codes_of(_CONFIG))


def _shows_its_format(subject: Subject, other: ConfigProblem | None) -> bool:
    """Whether the weights of another trainer's adapter say what its config says: one cause."""
    mlx = MLX_WEIGHTS in subject.adapter.files and WEIGHTS_NAME not in subject.adapter.files
    return other is not None and other.kind == "foreign" and (subject.framework is not None or mlx)


def _judge_tensors_alone(subject: Subject) -> Judged:
    adapter = subject.adapter
    if adapter.header is None:
        return Judged(why=why_without(subject, WEIGHTS_NAME))
    ran = codes_of(_TENSORS)
    findings = [*files.no_tensors(adapter), *value_rules.integer_dtypes(adapter.tensors)]
    other = config.other_format(adapter)
    if subject.framework is not None:
        if other is None or other.kind == "foreign":  # what names another method has said so
            fixable = is_convertible(subject.framework, adapter.tensors, adapter.raw_config, subject.base)
            findings.append(names.foreign(subject.framework, adapter.tensors, fixable=fixable))
    elif isinstance(subject.base, str) and adapter.config is not None and adapter.tensors:
        ran |= {HALF_PAIR.code}
        findings += lost_halves(subject.tensors)
        if adapter.config.use_bdlora is None:
            findings += without_a_base(subject.tensors)
    return Judged(tuple(findings), ran)


def _judge_placement(subject: Subject) -> Judged:
    """Where the tensors land in the class that serves the base model. Not to know it decides nothing."""
    adapter, base, codes = subject.adapter, subject.base, codes_of(_PLACED)
    engines = placed.engines(subject.target)
    why = base if isinstance(base, str) else why_without(subject, WEIGHTS_NAME)
    if engines and (subject.framework is not None or config.other_format(adapter) is not None):
        why = why or "the tensors are not PEFT's"
    if not engines or why or isinstance(base, str):
        return Judged(left_out=dict.fromkeys(codes, why)) if engines else Judged(ran=codes)
    findings, why = placed.placed(engines, base, adapter.config, adapter.tensors)
    return Judged(findings, left_out=dict.fromkeys(codes, why)) if why else Judged(findings, codes)


def _judge_values(subject: Subject) -> Judged:
    header, every = subject.adapter.header, codes_of(_VALUES)
    if subject.no_values:
        return Judged(left_out=dict.fromkeys(every, subject.no_values))
    if subject.has_too_many:
        return Judged(why="the file has more tensors than the base model can have")
    if header is None:
        return Judged(why=why_without(subject, WEIGHTS_NAME))
    try:
        values = _values(subject, header)
    except OSError as error:
        raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
    findings = tuple(value_rules.judge(subject.tensors, values, header.size))
    path = subject.source.path(WEIGHTS_NAME)
    if path is None:
        second = files.READERS_DISAGREE.code
        in_archive = subject.source.holder == "archive"
        reason = f"the safetensors library reads {'no file inside an archive' if in_archive else _ON_DISK}"
        return Judged(findings, every - {second}, left_out={second: reason})
    return Judged((*findings, *files.second_opinion(path, subject.adapter)), every)


def _values(subject: Subject, header: SafetensorsHeader) -> dict[str, TensorValues]:
    """What the values say; where nobody else wants the bytes, parts of the file are read at once."""
    if subject.reading is plainly and subject.source.holder == "folder":
        return scan_by_parts(lambda: subject.source.open(WEIGHTS_NAME), header)
    with subject.source.open(WEIGHTS_NAME) as file, subject.reading(file) as (reader, buffers):
        return scan(reader, header, buffers)


# --- which rules each runs -------------------------------------------------------------------------------------------


_FILES = (
    files.MISSING_FILE,
    files.UNREADABLE_CONFIG,
    files.DOUBTFUL_JSON,
    files.BAD_SAFETENSORS,
    files.WEIGHTS_BESIDE,
    files.CREDENTIAL_INSIDE,
)
_TENSORS = (files.NO_TENSORS, value_rules.INTEGER_DTYPE, names.FOREIGN_NAMES)
_PLACED = (placed.LANDS_NOWHERE,)
_VALUES = tuple(rule for rule in RULES.values() if rule.needs == "values")
_CONFIG = tuple(rule for rule in RULES.values() if rule not in (*_FILES, *_TENSORS, *BASE_RULES, *_PLACED, *_VALUES))

STAGES = (
    Stage(_FILES, _judge_files),
    Stage(_CONFIG, _judge_config),
    Stage(_TENSORS, _judge_tensors_alone),
    Stage(BASE_RULES, judge_against_base),
    Stage(_PLACED, _judge_placement),
    Stage(_VALUES, _judge_values),
)

# What a stage says of these depends on the target.
OF_THE_TARGET = (_judge_config, judge_against_base, _judge_placement)
