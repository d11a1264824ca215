"""Fit a base model to an adapter: vocabulary size and labels come from the file, and so does the dialect of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import WEIGHTS_NAME, canonical_name, key_name, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel, Head, Modules
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.compare import Difference, agreement, compare
from lora_packer.inspector.expected import Era, Expectation, expect
from lora_packer.inspector.targets import output_head

# (part, axis) of tensors whose size is the vocabulary's, on an embedding and on the output head.
_VOCABULARY_AXES = {
    "embedding": (
        ("weight", 0),
        ("base_layer.weight", 0),
        ("token_adapter.base_layer.weight", 0),
        ("lora_embedding_A", 1),
    ),
    "linear": (("weight", 0), ("base_layer.weight", 0), ("token_adapter.base_layer.weight", 0), ("lora_B.weight", 0)),
}

# Added tokens make a vocabulary a little larger. Far above that it is another base model's.
_LARGEST_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class Fit:
    """The reading of the base model under which the file comes closest to what the config calls for.

    Attributes:
        base: the base model, with the vocabulary and labels of the file.
        dialect: whose module names the file uses.
        expectation, difference: expected tensors, and how the file differs.
        findings: what had to be assumed for it.
    """

    base: BaseModel
    dialect: str
    expectation: Expectation
    difference: Difference
    findings: tuple[Finding, ...]


def fit(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo]) -> Fit:
    """Return the closest reading. Raises PatternError where a pattern of the config is not evaluated."""
    shapes = {canonical_name(name): (name, info.shape) for name, info in _embedding_like(tensors)}
    if config.layer_replication:
        base = base.with_layers(sum(end - start for start, end in config.layer_replication))
    # Comparing is dear where names are off. So the readings are ranked by how many names they know, and only the best
    # are compared.
    most = -1
    readings: list[tuple[BaseModel, str, Expectation, tuple[Finding, ...]]] = []
    for headed, dialect, expectation, findings in _readings(config, base, shapes):
        names, right = agreement(expectation, tensors)
        reading = (headed, dialect, expectation, findings)
        if right == len(tensors) and expectation.required.keys() <= tensors.keys():
            return _compared(reading, tensors)
        if names > most:
            most, readings = names, []
        if names == most:
            readings.append(reading)
    return min((_compared(reading, tensors) for reading in readings), key=_badness)


def _badness(found: Fit) -> tuple[bool, int, int, int]:
    """How bad a reading is: whether it expects nothing at all, then what has no counterpart, then what has another name
    or shape, then unknown modules.
    """
    difference = found.difference
    lone = len(difference.missing) + len(difference.extra)
    modules = found.base.dialects[found.dialect]
    unknown = sum(parse_key(name).path not in modules for name in difference.extra)
    return not found.expectation.targeted, lone, difference.distance - lone, unknown


def _compared(
    reading: tuple[BaseModel, str, Expectation, tuple[Finding, ...]], tensors: Mapping[str, TensorInfo]
) -> Fit:
    base, dialect, expectation, findings = reading
    return Fit(base, dialect, expectation, compare(expectation, tensors), findings)


def _readings(
    config: LoraConfig, base: BaseModel, shapes: _Shapes
) -> Iterator[tuple[BaseModel, str, Expectation, tuple[Finding, ...]]]:
    """Every way to read the base model: heads, names of older transformers, and older PEFT's layout of experts."""
    for head in _heads(config, base):
        headed = _with_labels(base.with_head(head), shapes)
        headed, findings = _with_vocabulary(headed, shapes)
        resized = headed.vocab_size != base.vocab_size
        for dialect, modules in headed.dialects.items():
            embedding = _input_embedding(headed, modules)
            for era in (Era(), Era(swapped_experts=True)) if config.target_parameters else (Era(),):
                expectation = expect(config, modules, base.default_targets, era, embedding)
                if resized:
                    _allow_resized(expectation, modules, embedding)
                yield headed, dialect, expectation, findings


def _input_embedding(base: BaseModel, modules: Modules) -> str | None:
    """The input embedding's path in a dialect."""
    if base.input_embedding in modules:
        return base.input_embedding
    leaf = base.input_embedding.rpartition(".")[2]
    named = [p for p, m in modules.items() if m.kind == "embedding" and p.rpartition(".")[2] == leaf]
    return min(named, key=lambda path: path.count("."), default=None)


def _heads(config: LoraConfig, base: BaseModel) -> tuple[Head, ...]:
    """The heads that the adapter may have been trained under (peft/peft_model.py, one class per task type)."""
    match config.task_type:
        case "CAUSAL_LM":
            return ("causal-lm",)
        case "SEQ_CLS":
            return ("sequence-classification",)
        case "TOKEN_CLS":
            return ("token-classification",)
        case "QUESTION_ANS":
            return ("question-answering",)
        case _:
            return tuple(dict.fromkeys((base.head, "causal-lm", "none")))


_Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def _embedding_like(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[str, TensorInfo]]:
    """The tensors outside the numbered layers: the few that can decide a vocabulary or a number of labels."""
    return ((name, info) for name, info in tensors.items() if ".layers." not in name)


def _with_labels(base: BaseModel, shapes: _Shapes) -> BaseModel:
    """The number of labels stands in no base config: take it from the file."""
    found = shapes.get(key_name("score", "weight"))
    if "score" not in base.modules or found is None or len(found[1]) != 2 or found[1][0] == 0:
        return base
    return base.with_labels(found[1][0])


def _with_vocabulary(base: BaseModel, shapes: _Shapes) -> tuple[BaseModel, tuple[Finding, ...]]:
    """Take the vocabulary size from the file where all its tensors agree on another one than the base's."""
    sizes: dict[int, str] = {}
    vocab = base.vocab_size
    if shapes:
        for modules in base.dialects.values():
            for path, kind in ((_input_embedding(base, modules), "embedding"), (output_head(modules), "linear")):
                for part, axis in _VOCABULARY_AXES[kind] if path is not None else ():
                    found = shapes.get(key_name(path or "", part))
                    if found is not None and len(found[1]) == 2:
                        # Some models' heads have fewer rows than their embeddings: each is measured by its own.
                        own = modules[path or ""].weight_shape[0]
                        size = found[1][axis]
                        sizes.setdefault(vocab if size == own else size, found[0])
    if len(sizes) != 1 or vocab in sizes or 0 in sizes:
        return base, ()
    (size, name), *_ = sizes.items()
    details = {"file": WEIGHTS_NAME, "tensor": name, "expected": vocab, "actual": size}
    if size < vocab:
        message = f"the adapter was trained with a vocabulary of {size}, smaller than the base model's {vocab}"
        finding = rules.RESIZED_VOCABULARY.finding(message, severity="error", **details)
    elif size > vocab * _LARGEST_GROWTH:
        message = (
            f"the adapter was trained with a vocabulary of {size}; {vocab} of this base model cannot have grown to it"
        )
        finding = rules.RESIZED_VOCABULARY.finding(message, severity="error", **details)
    else:
        message = f"the adapter was trained on a base resized from {vocab} to {size} tokens"
        finding = rules.RESIZED_VOCABULARY.finding(message, **details)
    return base.with_vocab(size), (finding,)


def _allow_resized(expectation: Expectation, modules: Modules, embedding: str | None) -> None:
    """Resized embeddings are saved whole beside the adapter (save_embedding_layers="auto")."""
    for path in (embedding, output_head(modules)):
        if path is not None:
            expectation.allow(path, "weight", modules[path].weight_shape)
