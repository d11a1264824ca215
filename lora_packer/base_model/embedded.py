"""The input embedding of a base model: which of its modules it is, and which nested config it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from lora_packer.base_model.architecture import DECODER, Architecture, Head
from lora_packer.base_model.module import Modules
from lora_packer.base_model.registry import ARCHITECTURES
from lora_packer.base_model.settings import Settings


def has_type(part: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a field is a nested config that says its type."""
    return isinstance(part, Mapping) and isinstance(part.get("model_type"), str)


def embedding_part(config: Mapping[str, Any], whole: Architecture) -> tuple[Mapping[str, Any], Architecture]:
    """The config and the definition of that of two models which reads the tokens."""
    name = whole.text_config or ""
    absent = Settings(config, whole.defaults or {}).default(name)
    part = config[name] if isinstance(config.get(name), Mapping) else absent
    return part, ARCHITECTURES[part.get("model_type", absent["model_type"])]


def embedding_of(modules: Modules, config: Mapping[str, Any], architecture: Architecture, head: Head) -> str | None:
    """The path of the input embedding."""
    if not architecture.composed:
        return _input_embedding(modules, _embedding_names(config, architecture, head))
    part, own = embedding_part(config, architecture)
    before = f"{architecture.text_config}."
    inside = {path.removeprefix(before): module for path, module in modules.items() if path.startswith(before)}
    head = "causal-lm" if architecture.text_config == DECODER else "none"
    found = _input_embedding(inside, _embedding_names(part, own, head))
    return None if found is None else before + found


def _embedding_names(config: Mapping[str, Any], architecture: Architecture, head: Head) -> tuple[str, ...]:
    """How the input embedding may be called: as declared, as in a decoder alone, and as in the language model inside.

    A type that reads no tokens has no name for it.
    """
    declared = architecture.input_embedding
    if declared is None:
        return ()
    own = declared if isinstance(declared, str) else declared.get(head, declared["none"])
    nested = config.get(architecture.text_config or "")
    inside = ARCHITECTURES.get(nested["model_type"]) if has_type(nested) else None
    name = inside.input_embedding if inside is not None else None
    return (own, "embed_tokens", *((name,) if isinstance(name, str) else ()))


def _input_embedding(modules: Modules, names: tuple[str, ...]) -> str | None:
    """The path of the input embedding: the embedding of that name that lies highest, or a parameter in its place.

    A class may have none where others of its type do, such as one that classifies images.
    """
    embeddings = [path for path, module in modules.items() if module.kind == "embedding"]
    for name in names:
        named = [path for path in embeddings or modules if f".{path}".endswith(f".{name}")]
        if named:
            return min(named, key=lambda path: path.count("."))
    return None
