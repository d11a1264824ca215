"""What the sizes in a file say of a base model: its vocabulary, and its number of labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from lora_packer.adapter.keys import key_name
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel, Modules
from lora_packer.finding import Finding
from lora_packer.inspector.matching import core_of
from lora_packer.inspector.rules.vocabulary import resized_vocabulary, vocabularies_disagree
from lora_packer.peft.expected import Expectation
from lora_packer.peft.targets import HEAD_WITHOUT_ROWS, output_head

Tensors = Mapping[str, TensorInfo]

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

_CLASSIFIERS = ("score", "classifier", "classifier.out_proj", "classification_head.out_proj")


def input_embedding(base: BaseModel, modules: Modules) -> str | None:
    """Return the path of the input embedding under the names of a dialect, or None where it has none."""
    if base.input_embedding is None or base.input_embedding in modules:
        return base.input_embedding
    leaf = base.input_embedding.rpartition(".")[2]
    named = [p for p, m in modules.items() if m.kind == "embedding" and p.rpartition(".")[2] == leaf]
    return min(named, key=lambda path: path.count("."), default=None)


def with_dialects(base: BaseModel, dialects: Mapping[str, Modules]) -> BaseModel:
    """Return the base model with other modules."""
    return replace(base, modules=next(iter(dialects.values())), dialects=MappingProxyType(dialects))


_Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def embedding_like(tensors: Tensors) -> Iterator[tuple[str, TensorInfo]]:
    """The tensors outside the numbered layers: the few that can decide a vocabulary or a number of labels."""
    return ((name, info) for name, info in tensors.items() if ".layers." not in name)


def with_labels(base: BaseModel, shapes: _Shapes) -> BaseModel:
    """The number of labels stands in no base config: take it from the file."""
    for path in _CLASSIFIERS:
        names = (core_of(key_name(path, part)) for part in ("weight", "lora_B.weight"))
        found = next((shapes[name] for name in names if name in shapes), None)
        if path in base.modules and found is not None and len(found[1]) == 2 and found[1][0] > 0:
            return base if found[1][0] == base.modules[path].weight_shape[0] else base.with_labels(found[1][0])
    return base


def with_vocabulary(base: BaseModel, shapes: _Shapes) -> tuple[BaseModel, tuple[Finding, ...]]:
    """Take the vocabulary size from the file where all its tensors agree on another one than the base's."""
    sizes: dict[int, list[str]] = {}
    rows = _rows(base) if shapes else {}
    vocab = min((least for own in rows.values() for least in own), default=0)
    for (path, kind), own in rows.items():
        for part, axis in _VOCABULARY_AXES[kind]:
            found = shapes.get(core_of(key_name(path, part)))
            if found is not None and len(found[1]) == 2:
                size, other = found[1][axis], found[1][1 - axis]
                if (other in own and size not in own) or ("lora_" in part and size <= other):
                    continue  # transposed, or the other half: no rank exceeds a vocabulary
                named = sizes.setdefault(vocab if size in own else size, [])
                if found[0] not in named:
                    named.append(found[0])
    if not sizes.keys() - {vocab} or 0 in sizes:
        return base, ()
    if len(sizes) > 1:
        return base, (vocabularies_disagree(sizes, vocab),)
    (size, names), *_ = sizes.items()
    if base.input_embedding is None:  # such as speech recognition by CTC: every language has letters of its own
        return _resized(base, size), ()
    return _resized(base, size), (resized_vocabulary(names, size, vocab),)


def _rows(base: BaseModel) -> dict[tuple[str, str], set[int]]:
    """(path, kind) of the input and the output embedding -> their rows in every dialect: they need not be the same."""
    result: dict[tuple[str, str], set[int]] = {}
    for modules in base.dialects.values():
        for path, kind in ((input_embedding(base, modules), "embedding"), (output_head(modules), "linear")):
            if path not in (None, HEAD_WITHOUT_ROWS):
                result.setdefault((path, kind), set()).add(modules[path].weight_shape[0])
    return result


def _resized(base: BaseModel, size: int) -> BaseModel:
    """What ``resize_token_embeddings`` makes: exactly so many rows, also where a model has some of its own besides."""
    base = base.with_vocab(size)
    dialects = {}
    for name, modules in base.dialects.items():
        paths = {input_embedding(base, modules), output_head(modules)}
        rows = {
            path: modules[path]._replace(weight_shape=(size, *modules[path].weight_shape[1:]))
            for path in paths
            if path is not None
        }
        dialects[name] = MappingProxyType({**modules, **rows})
    return with_dialects(base, dialects)


def allow_resized(expectation: Expectation, modules: Modules, embedding: str | None) -> None:
    """Resized embeddings are saved whole beside the adapter (save_embedding_layers="auto").

    PEFT before 0.21 saved everything whose name holds theirs: ``word_embeddings_layernorm`` too
    (peft/utils/save_and_load.py::get_peft_model_state_dict).
    """
    paths = [path for path in (embedding, output_head(modules)) if path is not None]
    expectation.allow_whole(modules, lambda name: any(path in name for path in paths))
