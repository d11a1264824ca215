"""The six stages of a check: each says what it found, and which rules it really ran."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import BinaryIO

from lora_packer.adapter import CONFIG_NAME, REQUIRED, WEIGHTS_NAME, Adapter, AdapterSource, LoraConfig
from lora_packer.adapter.config import ConfigProblem
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import CHECKPOINT, BaseModel
from lora_packer.errors import InputError
from lora_packer.finding import Finding, Unchecked
from lora_packer.inspector.base import Against
from lora_packer.inspector.case import Case, Tensor, parsed
from lora_packer.inspector.diagnosis import diagnose, refused_on
from lora_packer.inspector.foreign import Framework, foreign_framework, is_convertible
from lora_packer.inspector.identify import fitting
from lora_packer.inspector.kohya import needs_no_config
from lora_packer.inspector.loading import as_peft_loads
from lora_packer.inspector.rules import (
    RULES,
    config,
    config_on_base,
    extra,
    files,
    names,
    placed,
    served,
    shapes,
    target,
    vocabulary,
)
from lora_packer.inspector.rules import values as value_rules
from lora_packer.inspector.rules.loading import other_layout
from lora_packer.inspector.rules.missing import HALF_PAIR, lost_halves
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.values import Reader, scan
from lora_packer.misplaced import MLX_WEIGHTS
from lora_packer.redact import escape
from lora_packer.targets import Target

Codes = frozenset[str]
Reading = Callable[[BinaryIO], AbstractContextManager[tuple[BinaryIO | Reader, int]]]


def plainly(file: BinaryIO) -> AbstractContextManager[tuple[BinaryIO | Reader, int]]:
    """Read the values from the file itself."""
    return nullcontext((file, 1))


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        source, adapter: where the files are, and what they say.
        target: the place that will load it.
        hosted: the id under which the service hosts the base model.
        against: what it is checked against, or why there is nothing.
        no_values: why the values are not to be read; "" where they are.
        reading: makes of the weights file what its values are read from, and how many buffers to use by turns.
    """

    source: AdapterSource
    adapter: Adapter
    target: Target
    hosted: str | None
    against: Against | str
    no_values: str = ""
    reading: Reading = plainly

    @property
    def base(self) -> BaseModel | str:
        """The base model that decides, or why there is none."""
        return self.against if isinstance(self.against, str) else self.against.base

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The file's tensors, their names taken apart."""
        return parsed(self.adapter.tensors)

    @cached_property
    def has_too_many(self) -> bool:
        """Whether there are more tensors than the base model could have of any adapter: most are another model's."""
        if isinstance(self.base, str) or (self.adapter.config is not None and self.adapter.config.layer_replication):
            return False
        modules = max(map(len, self.base.dialects.values()))
        return len(self.adapter.tensors) > _TENSORS_OF_A_MODULE * modules + _MORE_TENSORS

    @cached_property
    def framework(self) -> Framework | None:
        """Whose names the tensors have, where they are not PEFT's."""
        return foreign_framework(self.adapter.tensors)


# LoRA's two and the magnitude, those of an embedding, weight and bias of its own; and what no module stands for.
_TENSORS_OF_A_MODULE = 8
_MORE_TENSORS = 10_000


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
    return Judged(findings, frozenset(ran), _why_without(subject, *REQUIRED))


def _judge_config(subject: Subject) -> Judged:
    settings = subject.adapter.config
    if settings is None:
        return Judged(why=_why_without(subject, CONFIG_NAME))
    other = config.other_format(subject.adapter)
    features: list[Finding] = []
    if other is None:
        base = None if isinstance(subject.base, str) else subject.base
        known = base is not None and placed.is_placed(subject.target, base, settings)
        features += served.features_at(
            subject.target, subject.adapter, settings, has_base=base is not None, placed=known
        )
        features += served.limits_at(subject.target, subject.adapter, settings)
    findings = [
        *(() if _shows_its_format(subject, other) else config.fields(subject.adapter)),
        *features,
        *target.other_base_named(settings, subject.hosted),
    ]
    if isinstance(subject.against, str):
        unknown = _codes((target.HOSTED_BASE_UNKNOWN,)) if subject.hosted else frozenset()
        return Judged(tuple(findings), _codes(_CONFIG) - unknown, subject.against)
    if subject.hosted and subject.against.stands_in:
        given = subject.against.base.source or "the base config"
        findings.append(target.hosted_base_unknown(subject.hosted, subject.against.stands_in, given))
    return Judged(tuple(findings), _codes(_CONFIG))


def _shows_its_format(subject: Subject, other: ConfigProblem | None) -> bool:
    """Whether the weights of another trainer's adapter say what its config says: one cause."""
    mlx = MLX_WEIGHTS in subject.adapter.files and WEIGHTS_NAME not in subject.adapter.files
    return other is not None and other.kind == "foreign" and (subject.framework is not None or mlx)


def _judge_tensors_alone(subject: Subject) -> Judged:
    adapter = subject.adapter
    if adapter.header is None:
        return Judged(why=_why_without(subject, WEIGHTS_NAME))
    ran = _codes(_TENSORS)
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
            findings += shapes.without_a_base(subject.tensors)
    return Judged(tuple(findings), ran)


def _judge_against_base(subject: Subject) -> Judged:
    adapter, against = subject.adapter, subject.against
    if isinstance(against, str):
        return Judged(why=against)
    if adapter.config is None or adapter.header is None:
        return Judged(why=_why_without(subject, *REQUIRED))
    if subject.framework is not None:
        return Judged(why=f"the tensors have {subject.framework.name}'s names")
    if not adapter.tensors:
        return Judged(why=f"{WEIGHTS_NAME} holds no tensors")
    if subject.has_too_many:
        told = f"{len(adapter.tensors)} tensors are more than {_described(against.base)} can have"
        return Judged((extra.too_many(told, len(adapter.tensors)),), _codes((extra.UNKNOWN_TENSOR,)), told)
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


def _judge_placement(subject: Subject) -> Judged:
    """Where the tensors land in the class that serves the base model. Not to know it decides nothing."""
    adapter, base, codes = subject.adapter, subject.base, _codes(_PLACED)
    engines = placed.engines(subject.target)
    why = base if isinstance(base, str) else _why_without(subject, WEIGHTS_NAME)
    if engines and (subject.framework is not None or config.other_format(adapter) is not None):
        why = why or "the tensors are not PEFT's"
    if not engines or why or isinstance(base, str):
        return Judged(left_out=dict.fromkeys(codes, why)) if engines else Judged(ran=codes)
    findings, why = placed.placed(engines, base, adapter.config, adapter.tensors)
    return Judged(findings, left_out=dict.fromkeys(codes, why)) if why else Judged(findings, codes)


def _judge_values(subject: Subject) -> Judged:
    header, every = subject.adapter.header, _codes(_VALUES)
    if subject.no_values:
        return Judged(left_out=dict.fromkeys(every, subject.no_values))
    if subject.has_too_many:
        return Judged(why="the file has more tensors than the base model can have")
    if header is None:
        return Judged(why=_why_without(subject, WEIGHTS_NAME))
    try:
        with subject.source.open(WEIGHTS_NAME) as file, subject.reading(file) as (reader, buffers):
            values = scan(reader, header, buffers)
    except OSError as error:
        raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
    findings = tuple(value_rules.judge(subject.tensors, values, header.size))
    path = subject.source.path(WEIGHTS_NAME)
    if path is None:
        second = files.READERS_DISAGREE.code
        reason = "the safetensors library reads no file inside an archive"
        return Judged(findings, every - {second}, left_out={second: reason})
    return Judged((*findings, *files.second_opinion(path, subject.adapter)), every)


def _described(base: BaseModel) -> str:
    return f"{base.model_type} with its {max(map(len, base.dialects.values()))} modules"


def _why_without(subject: Subject, *wanted: str) -> str:
    """Why nothing can be said of what these files hold."""
    said = dict.fromkeys(("unreadable-config", "bad-safetensors"), "could not be read") | {"missing-file": "is missing"}
    defects = [defect for defect in subject.adapter.defects if defect.file in wanted and defect.kind in said]
    return "; ".join(f"{defect.file} {said[defect.kind]}" for defect in defects)


# --- against the base ------------------------------------------------------------------------------------------------

# What a wrong base config looks like.
_ANOTHER_BASE = (shapes.WRONG_BASE, extra.LAYER_OUT_OF_RANGE, extra.UNKNOWN_TENSOR)

# What shapes and halves of pairs show, whatever the modules are called.
_BY_SHAPE = (
    shapes.WRONG_BASE,
    shapes.RANK_MISMATCH,
    shapes.TRANSPOSED,
    shapes.SWAPPED,
    shapes.EMPTY_TENSOR,
    HALF_PAIR,
    vocabulary.RESIZED_VOCABULARY,
)


def _against(settings: LoraConfig, base: BaseModel, subject: Subject, hosted: str | None) -> Judged:
    adapter, target = subject.adapter, subject.target
    found = diagnose(settings, base, adapter.tensors)
    found = as_peft_loads(found, settings, base, adapter.tensors, target.name)
    told = tuple(vocabulary.at_target(item, target, hosted) for item in (*found.findings, *other_layout(found.case)))
    refused = tuple(refused_on(found, base, exact=target.name == "peft"))
    if found.case.dialect == CHECKPOINT:
        # A checkpoint's names need not be the running model's: by them nothing is refused.
        by_name = [item for item in found.errors if item.code not in _codes(_BY_SHAPE)]
        if by_name:
            kept = tuple(item for item in told if item not in by_name)
            why = f"the base checkpoint's names differ from the adapter's, and decide nothing: {by_name[0].message}"
            return Judged((*_with_hints(kept, settings, adapter, hosted), *refused), why=why, case=found.case)
    ran = _codes(_BASE if found.only is None else found.only)
    return Judged((*_with_hints(told, settings, adapter, hosted), *refused), ran, found.why, case=found.case)


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
    codes = _codes(_ANOTHER_BASE)
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


# --- which rules each runs -------------------------------------------------------------------------------------------


def _codes(rules: Iterable[Rule]) -> Codes:
    return frozenset(rule.code for rule in rules)


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
_BASE = (*(rule for rule in RULES.values() if rule.needs == "base" and rule not in _PLACED), HALF_PAIR)
_VALUES = tuple(rule for rule in RULES.values() if rule.needs == "values")
_CONFIG = tuple(rule for rule in RULES.values() if rule not in (*_FILES, *_TENSORS, *_BASE, *_PLACED, *_VALUES))

STAGES = (
    Stage(_FILES, _judge_files),
    Stage(_CONFIG, _judge_config),
    Stage(_TENSORS, _judge_tensors_alone),
    Stage(_BASE, _judge_against_base),
    Stage(_PLACED, _judge_placement),
    Stage(_VALUES, _judge_values),
)

# What a stage says of these depends on the target.
OF_THE_TARGET = (_judge_config, _judge_against_base, _judge_placement)
