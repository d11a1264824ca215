"""Which reading of a base model a file was made for: its head, names and layout, its vocabulary and labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import PAIRED, key_name, layer_index, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel, Head, Modules
from lora_packer.base_model.shared import shared
from lora_packer.base_model.tasks import has_class
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case, Match, Tensor
from lora_packer.inspector.matching import ADAPTER_NAME, agreement, agrees, core_of, match
from lora_packer.inspector.resized import (
    allow_resized,
    embedding_like,
    input_embedding,
    with_dialects,
    with_labels,
    with_vocabulary,
)
from lora_packer.peft.expected import RANK_AXIS, Era, Expectation, expect
from lora_packer.peft.replicate import Ranges, replicated
from lora_packer.peft.targets import ALL_LINEAR, output_head

Tensors = Mapping[str, TensorInfo]

# The heads of one task, under which an adapter may have been trained without saying so.
TASK_HEADS: Mapping[str, Head] = {
    "SEQ_CLS": "sequence-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
}


class _Reading(NamedTuple):
    """One way to read the base model: see Case."""

    base: BaseModel
    dialect: str
    era: Era
    expectation: Expectation
    assumed: tuple[Finding, ...]


def closest(config: LoraConfig, base: BaseModel, tensors: Tensors) -> Case:
    """Return the adapter under the reading of the base model that comes closest to it.

    Raises PatternError where a pattern of the config is not evaluated.
    """
    # Comparing is dear where names are off. So the readings are ranked by how many names they know, and only the best
    # are compared. A head is another one than the first only where that knows more names: a lost output head must not
    # make the adapter a classifier's. Where the config names a task, its heads are as likely as one another.
    return _closest(config, tensors, _readings(config, base, tensors))


def as_loaded(config: LoraConfig, base: BaseModel, tensors: Tensors) -> Case:
    """Return the adapter under what today's PEFT loads it into: the newest names and layout, the base model's head.

    Raises PatternError where a pattern of the config is not evaluated.
    """
    today = (
        reading
        for reading in _readings(config, base, tensors, only=next(iter(base.dialects)))
        if not (reading.era.swapped_experts or reading.era.last_index)
    )
    return _closest(config, tensors, today)


def _closest(config: LoraConfig, tensors: Tensors, every: Iterable[_Reading]) -> Case:
    most, head = -1, ""
    readings: list[_Reading] = []
    for reading in every:
        names, right = agreement(reading.expectation, tensors)
        other = reading.base.head != head and config.task_type not in TASK_HEADS
        if names < most or (names == most and other):
            continue
        if right == len(tensors) and reading.expectation.required.keys() <= tensors.keys():
            return _case(config, reading, tensors)
        if names > most:
            most, head, readings = names, reading.base.head, []
        readings.append(reading)
    return min((_case(config, reading, tensors) for reading in readings), key=_badness)


def is_exact(config: LoraConfig, base: BaseModel, tensors: Tensors, only: str | None = None) -> bool:
    """Whether under some reading every tensor has its name and shape, and none is missing. Raises PatternError.

    With ``only``, under one with the base model's own head and the names of this dialect. Most models are told by one
    tensor: what they call for is worked out only where a pair of theirs has its sizes.
    """
    # Replicated layers have other numbers, blocks of a diagonal other sizes.
    samples = [] if config.layer_replication or config.use_bdlora else _samples(tensors)
    if not all(any(_has_like(modules, sample) for modules in base.dialects.values()) for sample in samples):
        return False
    readings = _readings(config, base, tensors, lambda modules: all(_has(modules, sample) for sample in samples), only)
    return any(agrees(reading.expectation, tensors) for reading in readings)


def _samples(tensors: Tensors) -> list[Tensor]:
    """The first and the last tensor of a layer's pair."""
    found = []
    for names in (tensors, reversed(list(tensors))):
        for name in names:
            tensor = Tensor(name, parse_key(name), tensors[name])
            if tensor.key.part in PAIRED and layer_index(tensor.key.path) is not None:
                found.append(tensor)
                break
    return found


def _has_like(modules: Modules, tensor: Tensor) -> bool:
    """Whether there is such a module, of such a size, whatever stands before its layers (fused parameters: any)."""
    core = core_of(key_name(tensor.module, ""))
    alike = [path for path in modules if path.endswith(core)]
    if not alike:
        return any(f"{core}." in path for path in modules)
    sizes = frozenset(tensor.info.shape)
    return any(sizes.intersection(modules[path].weight_shape) or modules[path].kind != "linear" for path in alike)


def _has(modules: Modules, tensor: Tensor) -> bool:
    """Whether there is exactly such a module, or one that holds it as a parameter."""
    return tensor.module in modules or any(path.startswith(f"{tensor.module}.") for path in modules)


def _badness(case: Case) -> tuple[bool, int, int, int, int, int]:
    """How bad a reading is: whether it expects nothing at all, then what has no counterpart, then names to change, then
    what has another name or shape, then shapes that another rank does not explain, then unknown modules.
    """
    difference = case.difference
    misnamed = sum(len(names) for change, names in difference.renamed.items() if change != ADAPTER_NAME)
    lone = len(difference.missing) + len(difference.extra)
    unknown = sum(tensor.key.path not in case.modules for tensor in difference.extra)
    other_sizes = sum(not _same_but_rank(match) for match in difference.matched.values())
    return not case.expectation.targeted, lone, misnamed, difference.distance - lone, other_sizes, unknown


def _same_but_rank(match: Match) -> bool:
    found, want = match.info.shape, match.want
    axis = RANK_AXIS.get(want.part, -1)
    return len(found) == len(want.shape) and all(
        size == wanted for at, (size, wanted) in enumerate(zip(found, want.shape, strict=True)) if at != axis
    )


def _case(config: LoraConfig, reading: _Reading, tensors: Tensors) -> Case:
    modules = reading.base.dialects[reading.dialect]
    embedding, head = input_embedding(reading.base, modules), output_head(modules)
    difference = match(reading.expectation, tensors)
    return Case(
        config,
        reading.base,
        reading.dialect,
        reading.era,
        modules,
        embedding,
        head,
        tensors,
        reading.expectation,
        difference,
        reading.assumed,
    )


def _any(_modules: Modules) -> bool:
    return True


def _readings(
    config: LoraConfig,
    base: BaseModel,
    tensors: Tensors,
    possible: Callable[[Modules], bool] = _any,
    only: str | None = None,
) -> Iterator[_Reading]:
    """Every way to read the base model: heads, names of older transformers, and older PEFT's layout of experts.

    With ``only``, the base model's own head and the names of this dialect.
    """
    shapes = {core_of(name): (name, info.shape) for name, info in embedding_like(tensors)}
    for head in heads(config, base) if only is None else (base.head,):
        headed = with_labels(base.with_head(head), shapes)
        headed, findings = with_vocabulary(headed, shapes)
        resized = headed.vocab_size != base.vocab_size
        if config.layer_replication:
            headed = _replicated(headed, config.layer_replication)
        for dialect, modules in headed.dialects.items():
            if not possible(modules) or only not in (None, dialect):
                continue
            embedding = input_embedding(headed, modules)
            for era in _eras(config, modules):
                if resized:
                    expectation = expect(config, modules, base.default_targets, era, embedding, tied=base.tied)
                    allow_resized(expectation, modules, embedding)
                else:
                    expectation = _expected(config, modules, base, era, embedding)
                yield _Reading(headed, dialect, era, expectation, findings)


def _expected(config: LoraConfig, modules: Modules, base: BaseModel, era: Era, embedding: str | None) -> Expectation:
    """What PEFT would create: worked out once for adapters of one config and one base model, where many are checked.

    Nobody changes it. The modules are kept with it, so that no others can come to have their ``id``.
    """
    told, targets, tied = repr(config), base.default_targets, base.tied
    _, found = shared(
        ("expected", told, id(modules), targets, era, embedding, tied),
        lambda: (modules, expect(config, modules, targets, era, embedding, tied=tied)),
        lambda _: len(modules) + len(told) // 100,
    )
    return found


def _eras(config: LoraConfig, modules: Modules) -> Iterator[Era]:
    """The layouts that differ for this config on these modules, the newest first."""
    groups = {m.groups for m in modules.values() if m.kind == "conv"} if config.target_modules != ALL_LINEAR else {1}
    convs = (any(count != 1 for count in groups), 0 in groups)
    axes = (bool(config.target_parameters), *convs, config.layers_to_transform is not None)
    for flags in product(*((False, True) if differs else (False,) for differs in axes)):
        yield Era(*flags)


def _replicated(base: BaseModel, ranges: Ranges) -> BaseModel:
    dialects = {name: replicated(modules, ranges) for name, modules in base.dialects.items()}
    return with_dialects(base, dialects)


def heads(config: LoraConfig, base: BaseModel) -> tuple[Head, ...]:
    """The heads that the adapter may have been trained under (peft/peft_model.py, one class per task type)."""
    head = TASK_HEADS.get(config.task_type or "")
    if head is not None:
        # A class that transformers has not got was not trained: it was another one, or one of the trainer's own.
        return (head,) if has_class(base.model_type, head) else tuple(dict.fromkeys((head, base.head, "causal-lm")))
    match config.task_type:
        case "CAUSAL_LM":
            return ("causal-lm",)
        case "SEQ_2_SEQ_LM":
            return ("seq2seq",)
        case "FEATURE_EXTRACTION":
            return tuple(dict.fromkeys((*_bare(base), base.head)))
        case _:
            return tuple(dict.fromkeys((base.head, "causal-lm", "seq2seq", *TASK_HEADS.values(), *_bare(base))))


def _bare(base: BaseModel) -> tuple[Head, ...]:
    """The classes without a head, that of the base config first; who trains for features may leave the decoder out."""
    return ("encoder", "none") if base.head == "encoder" else ("none", "encoder")
