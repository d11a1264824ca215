"""``BaseModel``: the module tree of a base model, from its ``config.json`` alone."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from lora_packer.adapter.strict_json import StrictJsonError, parse
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
from lora_packer.base_model.catalogue import catalogue_config
from lora_packer.base_model.embedded import embedding_of, embedding_part, has_type
from lora_packer.base_model.hub_config import MAX_CONFIG_BYTES, hub_config
from lora_packer.base_model.module import Modules, Named
from lora_packer.base_model.names import cached_repo
from lora_packer.base_model.registry import ARCHITECTURES, TYPES_OF_CLASSES
from lora_packer.base_model.settings import Settings
from lora_packer.base_model.shared import shared
from lora_packer.base_model.tasks import has_class, is_described
from lora_packer.errors import InputError, UnknownArchitecture
from lora_packer.files import is_file, is_folder, read_whole
from lora_packer.redact import escape

# Nearly three times what the largest known mixture of experts has (61 layers of 384 experts, each of three modules).
MAX_MODULES = 200_000


class FoundConfig(NamedTuple):
    """A base model's config, and where it came from.

    Attributes:
        fields: what it says.
        source: a path, a Hub id, or ``catalogue:`` and one; None for a parsed dict.
        sha256: of its file; of the catalogue's entry, as JSON with sorted keys and no blanks.
    """

    fields: Mapping[str, Any]
    source: str | None
    sha256: str


_HEAD_OF_CLASS: Mapping[str, Head] = {
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "causal-lm",
    "ForCTC": "causal-lm",
    "ForConditionalGeneration": "seq2seq",
    "MarianMTModel": "seq2seq",
    "ForSequenceClassification": "sequence-classification",
    # It classifies with the language model's head; its names are a dialect.
    "ShieldGemma2ForImageClassification": "causal-lm",
    "ForImageClassification": "sequence-classification",
    "ForAudioClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForAudioFrameClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "EncoderModel": "encoder",
    "Model": "none",
}
# What classes are called that draft tokens for another model, whose model type their configs have: EAGLE, Medusa,
# multi-token prediction, and the like (vllm/model_executor/models/registry.py, _SPECULATIVE_DECODING_MODELS).
_DRAFTS = re.compile("(?i:eagle|medusa|draft|speculator)|MTP")


@dataclass(frozen=True, slots=True)
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
        return _named_class(self._config)

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
    named = _named_class(config) or ""
    model_type = TYPES_OF_CLASSES.get((model_type, named), model_type)
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None:
        raise UnknownArchitecture(
            f"there is no proven definition for the model type '{escape(model_type, 60)}'.",
            hint=f"{len(ARCHITECTURES)} model types have one. For others give the folder or the Hub id of the base "
            "checkpoint with --base-config.",
        )
    if _DRAFTS.search(named) and not is_described(model_type, named):
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
    classifies = (_named_class(config) or "").endswith("ForImageClassification")
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


def head_of(config: Mapping[str, Any], default: Head = "causal-lm") -> Head:
    """The head that the config's ``architectures`` names, or the default where it names none."""
    named = _named_class(config) or ""
    return next((head for suffix, head in _HEAD_OF_CLASS.items() if named.endswith(suffix)), default)


def _named_class(config: Mapping[str, Any]) -> str | None:
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) else None


def config_of(source: str | Path | Mapping[str, Any]) -> FoundConfig:
    """Return a base config: of a path, a folder, a Hub id, or as it is. Raises InputError, InconclusiveError."""
    if isinstance(source, Mapping):
        return FoundConfig(source, None, digest_of(source))
    path = Path(source)
    if is_folder(path):
        path = path / "config.json"
        if not is_file(path):
            raise InputError(
                f"there is no config.json in '{escape(str(source))}'.", hint="Give the base model's folder."
            )
    if is_file(path):
        return _read_config(path, str(path))
    name = cached_repo(str(source)) or str(source)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1 or name.endswith(".json"):
        raise InputError(
            f"there is no file '{escape(name)}'.",
            hint="Give a config.json, a folder with one, or a Hub id such as org/name.",
        )
    return published_config(name)


def published_config(name: str, *, quick: bool = False) -> FoundConfig:
    """Return the config that the catalogue or the Hub has of a base model; ``quick`` is as for ``Hub``.

    Raises InputError, InconclusiveError.
    """
    known = catalogue_config(name)
    if known is not None:
        return FoundConfig(known, f"catalogue:{name}", digest_of(known))
    return _parsed(hub_config(name, quick=quick), name, name)


def digest_of(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a parsed config: of its JSON with sorted keys and no blanks."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def _read_config(path: Path, source: str) -> FoundConfig:
    shown = escape(str(path))
    try:
        data = read_whole(path, MAX_CONFIG_BYTES)
    except OSError as error:
        raise InputError(f"the base config '{shown}' cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"the base config '{shown}' cannot be read: {error}.") from None
    return _parsed(data, shown, source)


def _parsed(data: bytes, shown: str, source: str) -> FoundConfig:
    shown = escape(shown)
    try:
        value, _ = parse(data)
    except StrictJsonError as error:
        raise InputError(f"the base config '{shown}' is not JSON: {error}.") from None
    except ValueError as error:
        raise InputError(f"the base config '{shown}' cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise InputError(f"the base config '{shown}' is not a JSON object.")
    return FoundConfig(value, source, hashlib.sha256(data).hexdigest())
