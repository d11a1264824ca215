"""``BaseModel``: the module tree of a base model, from its ``config.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_packer.arguments import require_path
from lora_packer.base_model.architecture import (
    DECODER,
    IMAGE_CLASSIFIER,
    TRANSFORMERS_5,
    Architecture,
    Build,
    Head,
    Proof,
)
from lora_packer.base_model.blocks.attention import head_sizes
from lora_packer.base_model.embedded import embedding_of, embedding_part, has_type
from lora_packer.base_model.found_config import FoundConfig, config_of
from lora_packer.base_model.module import Modules, Named
from lora_packer.base_model.named_class import class_named_by, head_of, is_draft
from lora_packer.base_model.registry import ARCHITECTURES, TYPES_OF_CLASSES
from lora_packer.base_model.settings import Settings
from lora_packer.base_model.shared import shared
from lora_packer.base_model.tasks import has_class, is_described
from lora_packer.errors import InputError, UnknownArchitecture
from lora_packer.frozen import frozen
from lora_packer.redact import escape

# The largest known mixture of experts, Kimi-K3, has 249,924: 92 layers of 896 experts, each of three modules.
MAX_MODULES = 300_000


@frozen
class BaseModel:
    """A base model's modules, as far as an adapter can touch them.

    Attributes:
        model_type: the config's ``model_type``.
        modules: module path -> Module, with the names of transformers 5.
        dialects: dialect name -> modules; other classes and older transformers name some modules differently. The first
            is that of today's class that the config names.
        source: where the config came from (a path or a Hub id), or None for a parsed dict.
        head: what stands on the decoder.
        default_targets: the modules that PEFT targets where ``target_modules`` is null; a pattern is one string.
        input_embedding: the path of the input embedding; None where the class reads no tokens.
        sha256: of the config's file; without one, of the config as JSON with sorted keys and no blanks. None for what
            was made from a loaded model.
    """

    model_type: str
    modules: Modules
    dialects: Mapping[str, Modules]
    source: str | None
    head: Head
    default_targets: tuple[str, ...] | str
    input_embedding: str | None
    _config: Mapping[str, Any] = field(repr=False)
    sha256: str | None = None

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any]) -> BaseModel:
        """Return the base model described by a config: a path, a folder, a Hub id or a parsed dict.

        Raises:
            UnknownArchitecture: there is no definition for its ``model_type``.
            InputError: the file cannot be read, or is not a base model's config.
            InconclusiveError: the Hub could not be asked.
        """
        if not isinstance(source, Mapping):
            require_path(source, "source")
        return base_from(config_of(source))

    @property
    def vocab_size(self) -> int | None:
        """The number of rows of the input embedding, or None where there is none."""
        return None if self.input_embedding is None else self.modules[self.input_embedding].weight_shape[0]

    @property
    def attention_heads(self) -> tuple[int, int, int]:
        """The language model's query heads, its key heads, and how wide each is. Raises InputError."""
        architecture = ARCHITECTURES[self.model_type]
        if architecture.composed:
            raise InputError("the base model is composed of two, which may have other heads each.")
        settings = Settings(self._config, architecture.defaults or self.model_type)
        if architecture.text_config is not None and self._config.get(architecture.text_config) is not None:
            settings = settings.nested(architecture.text_config)
        return head_sizes(settings)

    @property
    def vocabulary_is_nested(self) -> bool:
        """Whether the vocabulary's size stands in a nested config, where PEFT does not look for it."""
        architecture = ARCHITECTURES.get(self.model_type)
        nested = architecture.text_config if architecture else None
        return nested is not None and self._config.get(nested) is not None

    @property
    def named_class(self) -> str | None:
        """transformers' class that the config names first in ``architectures``, or None."""
        return class_named_by(self._config)

    @property
    def tied(self) -> bool:
        """Whether the output head is the input embedding (``tie_word_embeddings``)."""
        architecture = ARCHITECTURES.get(self.model_type)
        if architecture is None:
            return bool(self._config.get("tie_word_embeddings"))
        config = self._config
        if architecture.composed:  # the head is the decoder's, whose own config says it
            if architecture.text_config != DECODER:
                return False
            config, architecture = embedding_part(config, architecture)
        return Settings(config, architecture.defaults or self.model_type).flag("tie_word_embeddings")

    @property
    def proof(self) -> Proof | None:
        """What holds the definition where transformers has no such type, else None."""
        architecture = ARCHITECTURES.get(self.model_type)
        return architecture.proof if architecture else None

    @property
    def nested_types(self) -> Mapping[str, str]:
        """The model type of each nested config, by the name of its field."""
        parts = ((name, part["model_type"]) for name, part in self._config.items() if has_type(part))
        return dict(parts)

    def with_head(self, head: Head) -> BaseModel:
        """Return the same decoder under another head."""
        return self if head == self.head else _build(self._config, self.source, head)

    def with_vocab(self, vocab_size: int) -> BaseModel:
        """Return the same model after ``resize_token_embeddings(vocab_size)``."""
        return self._with_text(**dict.fromkeys(ARCHITECTURES[self.model_type].vocabulary, vocab_size))

    def with_labels(self, count: int) -> BaseModel:
        """Return the same model with another number of labels."""
        return _build({**self._config, "id2label": None, "num_labels": count}, self.source, self.head)

    def _with_text(self, **fields: int) -> BaseModel:
        """Return the same model with other fields in the config that holds the language model's."""
        architecture = ARCHITECTURES[self.model_type]
        nested = architecture.text_config
        changed: dict[str, Any] = {**self._config, **fields}
        if nested is not None and not (architecture.flat_text and self._config.get(nested) is None):
            part = embedding_part(self._config, architecture)[0] if architecture.composed else self._config.get(nested)
            changed[nested] = {**(part or {}), **fields}
        return _build(changed, self.source, self.head)


def base_from(found: FoundConfig) -> BaseModel:
    """Return the base model that a config describes. Raises UnknownArchitecture, InputError."""
    # Other modules are the same objects under another source: a file may be there many times.
    base = shared(("config", found.sha256), lambda: _build(found.fields, found.source), lambda made: len(made.modules))
    return replace(base, source=found.source, sha256=found.sha256)


def _build(config: Mapping[str, Any], source: str | None, head: Head | None = None) -> BaseModel:
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        if "peft_type" in config:
            raise InputError(
                "the base config is an adapter_config.json.",
                hint="Give the base model's config.json with --base-config.",
            )
        raise InputError("the base config has no model_type.", hint="Use the base model's own config.json.")
    named = class_named_by(config) or ""
    model_type = TYPES_OF_CLASSES.get((model_type, named), model_type)
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None:
        raise UnknownArchitecture(
            f"there is no proven definition for the model type '{escape(model_type, 60)}'.",
            hint=f"{len(ARCHITECTURES)} model types have one. For others give the folder or the Hub id of the base "
            "checkpoint with --base-config.",
        )
    if is_draft(named) and not is_described(model_type, named):
        raise UnknownArchitecture(
            f"'{escape(named, 60)}', the class that the base config names, drafts tokens for a model of the type "
            f"'{escape(model_type, 60)}': it has that type, and modules of its own.",
            hint="Give the config of the model that it drafts for, or, for an adapter of the drafting model itself, "
            "the folder or the Hub id of its checkpoint with --base-config.",
        )
    own = architecture.classes.get(named)
    chosen = _offered(head or own or head_of(config, "seq2seq"), model_type, architecture)
    settings = Settings(config, architecture.defaults or model_type)
    first = _own_dialect(config, architecture)
    builds = {first: architecture.dialects[first], **architecture.dialects}
    dialects = {name: _modules(_under(chosen, build, settings)) for name, build in builds.items()}
    modules = dialects[first]
    embedding = embedding_of(modules, config, architecture, chosen)
    return BaseModel(
        model_type, modules, MappingProxyType(dialects), source, chosen, architecture.default_targets, embedding, config
    )


def _own_dialect(config: Mapping[str, Any], architecture: Architecture) -> str:
    """The dialect that today's class has which the config names."""
    classifies = (class_named_by(config) or "").endswith("ForImageClassification")
    return IMAGE_CLASSIFIER if classifies and IMAGE_CLASSIFIER in architecture.dialects else TRANSFORMERS_5


def _offered(head: Head, model_type: str, architecture: Architecture) -> Head:
    """The head itself, or what a type has in its place that has no encoder and decoder, or no vocabulary to predict."""
    if not architecture.encoder_decoder:
        others: Mapping[Head, Head] = {"seq2seq": "causal-lm", "encoder": "none"}
        head = others.get(head, head)
    return "none" if head == "causal-lm" and not has_class(model_type, head) else head


def _under(head: Head, build: Build, settings: Settings) -> Named:
    """The modules of a definition, which describes an encoder's class as the bare model's without its decoder."""
    if head != "encoder":
        return build(settings, head)
    return ((path, module) for path, module in build(settings, "none") if not path.startswith("decoder."))


def _modules(named: Named) -> Modules:
    """Collect a definition's modules. A config with absurd numbers is refused before it fills the memory."""
    modules = dict(islice(named, MAX_MODULES + 1))
    if len(modules) > MAX_MODULES:
        raise InputError(
            f"the base config describes more than {MAX_MODULES} modules.", hint="Use the base model's own config.json."
        )
    return MappingProxyType(modules)
