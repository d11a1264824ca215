"""What a definition of a base model architecture is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import Any, Literal

from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.frozen import frozen
from lora_packer.redact import escape

# The module names of today's transformers 5 (5.24), and the older ones where they differ.
TRANSFORMERS_5 = "transformers-5"
# What transformers 5.23 has otherwise than 5.24: both are in use.
TRANSFORMERS_5_23 = "transformers-5.23"
TRANSFORMERS_4 = "transformers-4"
# The names of transformers before 4.52, where the language model had its head inside.
TRANSFORMERS_4_51 = "transformers-4.51"
# The names of the class that leaves the other towers of a multimodal model out.
TEXT_ONLY = "text-only"
TEXT_ONLY_5_23 = "text-only of transformers-5.23"
# Those of the class with the towers, into the class without them: transformers 4.57 says that they are the same.
MULTIMODAL = "multimodal"
# Those of the class that classifies images, which has the whole language model inside.
IMAGE_CLASSIFIER = "image-classification"
# The names of a base checkpoint's own files, where there is no definition.
CHECKPOINT = "checkpoint"

# The configs of a model that is composed of two: the second has the head.
ENCODER = "encoder"
DECODER = "decoder"

# "causal-lm" is any head over a vocabulary: a language model's, a masked one's, an image-text model's, that of speech
# recognition by CTC; "seq2seq" is that of the class with an encoder and a decoder, where a type has one; "encoder" is
# the class that leaves the decoder out. A classifier may be one of images or of sound: a type has one of the three.
Head = Literal[
    "causal-lm",
    "seq2seq",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "encoder",
    "none",
]

# Yields every module of the model under a head: (path, Module).
Build = Callable[[Settings, Head], Named]


@frozen
class Proof:
    """What holds a definition of a model type that transformers does not have.

    Attributes:
        how: ``built``: the modelling file was built on the meta device, and every module compared
            (``tools/proof_remote.py``); ``read``: the definition was written from the file, and nothing was built.
        source: the file: its repository or package, the release or commit, the path.
        heads: the heads that the file has a class for, besides the language model's.
    """

    how: Literal["built", "read"]
    source: str
    heads: tuple[Head, ...] = ()


@frozen
class Architecture:
    """One model type.

    Attributes:
        defaults: what transformers' config class has for absent fields, the config type
            whose recorded defaults these are, or None for those that are recorded for the model type itself.
        dialects: dialect name -> what yields the modules; the first is transformers 5.
        default_targets: what PEFT targets where ``target_modules`` is null; a pattern is one string
            (peft/utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING).
        text_config: the name of the nested config that holds the vocabulary and the layers, or None.
        flat_text: whether old configs hold those fields at the root, without the nested config.
        input_embedding: how the input embedding's path ends, or how under each head, with ``none`` for the others;
            None for a type that reads no tokens.
        encoder_decoder: whether the class that its checkpoints name has an encoder and a decoder.
        proof: what holds the definition where transformers has no such type; None where transformers itself does.
        classes: the heads of classes whose names do not say them: class -> head.
        vocabulary: the fields that hold the number of rows of the input embedding.
        composed: whether it is two models of any type, one of them that of ``text_config``, below the name of its
            config.
    """

    dialects: Mapping[str, Build]
    default_targets: tuple[str, ...] | str = ()
    text_config: str | None = None
    flat_text: bool = False
    input_embedding: str | Mapping[Head, str] | None = "embed_tokens"
    encoder_decoder: bool = False
    defaults: Mapping[str, Any] | str | None = None
    proof: Proof | None = None
    classes: Mapping[str, Head] = field(default_factory=lambda: MappingProxyType({}))
    vocabulary: tuple[str, ...] = ("vocab_size",)
    composed: bool = False


@frozen
class Like:
    """A model type whose modules are another's: :func:`like`."""

    model_type: str
    differences: Mapping[str, Any]


# What a file of definitions ends in: model type -> its definition.
Architectures = Mapping[str, Architecture | Like]


def like(model_type: str, differences: Mapping[str, Any] = MappingProxyType({})) -> Like:
    """Declare a type that is built as another one is, with the class defaults that are recorded for it.

    ``differences`` are attributes of :class:`Architecture` that are not the other's, such as ``default_targets``.
    """
    return Like(model_type, differences)


def resolved(model_type: str, entry: Architecture | Like, of: Callable[[str], Architecture]) -> Architecture:
    """Return a declared type with its defaults; ``of`` gives the type that another one is like."""
    if isinstance(entry, Like):
        entry = replace(of(entry.model_type), **{"defaults": None, **entry.differences})
    return entry if entry.defaults is not None else replace(entry, defaults=model_type)


def declared(
    build: Build,
    others: Mapping[str, Build] = MappingProxyType({}),
    *,
    targets: tuple[str, ...] | str = (),
    text_config: str | None = None,
    flat_text: bool = False,
    input_embedding: str | Mapping[Head, str] | None = "embed_tokens",
    encoder_decoder: bool = False,
) -> Architecture:
    """Return the definition of a model type; see :class:`Architecture`.

    ``build`` yields the modules under the names of transformers 5, ``others`` under those of other dialects. PEFT has
    default ``targets`` for few types; for the others it asks for ``target_modules``.
    """
    dialects = {TRANSFORMERS_5: build, **others}
    return Architecture(dialects, targets, text_config, flat_text, input_embedding, encoder_decoder)


def named_class(s: Settings) -> str | None:
    """Return the class that a config names first in ``architectures``, or None."""
    named = s.value("architectures")
    first = named[0] if isinstance(named, list | tuple) and named else None
    return None if first is None else str(first)


def remote(
    build: Build,
    proof: Proof,
    others: Mapping[str, Build] = MappingProxyType({}),
    *,
    targets: tuple[str, ...] | str = (),
    text_config: str | None = None,
    input_embedding: str | None = "embed_tokens",
    classes: Mapping[str, Head] = MappingProxyType({}),
    vocabulary: tuple[str, ...] = ("vocab_size",),
) -> Architecture:
    """Return the definition of a model type whose code is in its own repository; see :class:`Architecture`.

    Such code is bound to no release of transformers: it has ``others`` only where it holds a model of transformers.
    """
    return Architecture(
        {TRANSFORMERS_5: build, **others},
        targets,
        text_config,
        input_embedding=input_embedding,
        proof=proof,
        classes=classes,
        vocabulary=vocabulary,
    )


def only_for(build: Build, *classes: str) -> Build:
    """The same modules, for configs whose ``architectures`` names one of these classes, or none.

    A type whose configs may name a class that the definition does not describe is unknown then, not that definition's.
    """

    def checked(s: Settings, head: Head) -> Named:
        first = named_class(s)
        if first is not None and first not in classes:
            raise UnknownArchitecture(
                f"there is no proven definition for the class '{escape(first, 60)}' that the base config names.",
                hint="Give the folder or the Hub id of the base checkpoint with --base-config.",
            )
        yield from build(s, head)

    return checked
