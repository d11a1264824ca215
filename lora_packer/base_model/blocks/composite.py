"""The frame around models with more than one config: a language model, the towers beside it, and a head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Build, Head, declared
from lora_packer.base_model.blocks.frames import head_modules
from lora_packer.base_model.blocks.layers import linear
from lora_packer.base_model.module import Named
from lora_packer.base_model.registry import ARCHITECTURES
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape


# Named tuples, because most lineages import this file: Python makes these two in 0.5 ms, as dataclasses in 2.6.
class Tower(NamedTuple):
    """A model below another model: the defaults of its config class, or that class's type, and its modules."""

    defaults: Mapping[str, Any] | str
    modules: Callable[[Settings], Named]


def text_tower(model_type: str) -> Tower | None:
    """Return the bare decoder of a text model type, or None where there is no definition."""
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None or architecture.text_config is not None:
        return None
    build = architecture.dialects[TRANSFORMERS_5]
    return Tower(architecture.defaults or model_type, lambda s: build(s, "none"))


class Part(NamedTuple):
    """A nested config, as transformers' SubConfigSpec resolves it (transformers/configuration_utils.py).

    Attributes:
        name: the field that holds it.
        model_type: its type, where the config does not say one.
        tower: model type -> Tower.
        aliases: model types that transformers reads as others.
        flat: whether old configs hold its fields at the root.
        attribute_map: transformers' ``attribute_map`` of its class, alias -> name.
        filled: whether transformers also fills in the fields that a nested config lacks with what the whole config's
            class puts where there is none.
    """

    name: str
    model_type: str
    tower: Callable[[str], Tower | None] = text_tower
    aliases: Mapping[str, str] = MappingProxyType({})
    flat: bool = False
    attribute_map: Mapping[str, str] = MappingProxyType({})
    filled: bool = False

    def of(self, s: Settings) -> tuple[Settings, Callable[[Settings], Named]]:
        """Return the nested config and what yields its modules. Raises UnknownArchitecture."""
        raw, absent = s.raw.get(self.name), s.default(self.name)
        if not isinstance(raw, Mapping):
            raw = {**s.raw, "model_type": self.model_type} if self.flat else absent
        if self.filled:
            raw = {**absent, **raw}
        named = raw.get("model_type", self.model_type)
        tower = self.tower(self.aliases.get(named, named)) if isinstance(named, str) else None
        if tower is None:
            raise UnknownArchitecture(
                f"there is no proven definition for the {self.name} of model type '{escape(str(named), 60)}'.",
                hint="The check needs a definition of every part of the base model.",
            )
        return Settings(raw, tower.defaults).aliased(self.attribute_map), tower.modules


def fixed(
    name: str, tower: Tower, *, flat: bool = False, attribute_map: Mapping[str, str] = MappingProxyType({})
) -> Part:
    """Return a nested config of one class, whatever type the config says."""
    return Part(name, "", lambda _: tower, flat=flat, attribute_map=attribute_map)


def below(prefix: str, modules: Named) -> Named:
    """Put a prefix before every path."""
    for path, module in modules:
        yield f"{prefix}.{path}", module


Beside = Callable[[Settings, Settings], Named]


def with_towers(text: Part, beside: Beside, *, language: str = "language_model") -> Build:
    """A language model with towers beside it: ``beside`` yields them from the whole config and the language model's."""

    def build(s: Settings, head: Head) -> Named:
        before = "" if head == "none" else "model."
        settings, decoder = text.of(s)
        for path, module in beside(s, settings):
            yield before + path, module
        for path, module in decoder(settings):
            yield f"{before}{language}.{path}", module
        yield from head_of_text(s, settings, head)

    return build


def head_of_text(s: Settings, text: Settings, head: Head) -> Named:
    """The head on the language model; the number of labels is the whole config's."""
    match head:
        case "sequence-classification" | "token-classification":
            yield from linear("score", s.labels(), text.hidden, bias=head == "token-classification")
        case _:
            yield from head_modules(text, head)


def text_only(text: Part) -> Build:
    """The language model alone, as the text class of such a type has it."""

    def build(s: Settings, head: Head) -> Named:
        settings, decoder = text.of(s)
        before = "" if head == "none" else "model."
        for path, module in decoder(settings):
            yield before + path, module
        yield from head_of_text(s, settings, head)

    return build


def renamed(build: Build, *prefixes: tuple[str, str]) -> Build:
    """The same modules under the names of another version: the first prefix that fits is replaced."""

    def other(s: Settings, head: Head) -> Named:
        for path, module in build(s, head):
            yield next((new + path[len(old) :] for old, new in prefixes if path.startswith(old)), path), module

    return other


def renamed_inside(build: Build, names: Mapping[str, str]) -> Build:
    """The same modules where another version names what is inside a layer otherwise: segments -> other segments."""

    def other(s: Settings, head: Head) -> Named:
        for path, module in build(s, head):
            old = next((old for old in names if f".{old}." in f".{path}."), None)
            yield path if old is None else f".{path}.".replace(f".{old}.", f".{names[old]}.").strip("."), module

    return other


def with_output_rows(build: Build, rows: Callable[[Settings], int]) -> Build:
    """The same modules where the output head has another number of rows than the vocabulary."""

    def other(s: Settings, head: Head) -> Named:
        for path, module in build(s, head):
            own = path == "lm_head"
            yield path, module._replace(weight_shape=(rows(s), module.in_features)) if own else module

    return other


def head_inside(build: Build) -> Build:
    """The names where the language model had its head inside, and nothing stood below ``model``.

    So it was before transformers 4.52, and for some types before 5.
    """
    return renamed(
        build, ("model.language_model.", "language_model.model."), ("lm_head", "language_model.lm_head"), ("model.", "")
    )


def with_legacy(build: Build, names: Mapping[str, str]) -> Build:
    """The same modules for configs that have a field under its older name: older name -> name.

    A nested config's fields are laid over those of the older one, so that a changed field counts in either.
    """

    def other(s: Settings, head: Head) -> Named:
        fields: dict[str, Any] = {}
        for older, name in names.items():
            was, now = s.value(older), s.raw.get(name)
            if isinstance(was, Mapping):
                fields[name] = {**was, **now} if isinstance(now, Mapping) else was
            elif was is not None and now is None:
                fields[name] = was
        return build(s.with_fields(**fields), head)

    return other


def composite(
    build: Build,
    others: Mapping[str, Build] = MappingProxyType({}),
    *,
    flat_text: bool = False,
    targets: tuple[str, ...] | str = (),
    input_embedding: str = "embed_tokens",
) -> Architecture:
    """Return the definition of a model type whose language model stands in ``text_config``; see :func:`declared`."""
    return declared(
        build,
        others,
        targets=targets,
        text_config="text_config",
        flat_text=flat_text,
        input_embedding=input_embedding,
    )


def text_part(model_type: str) -> Part:
    """A language model in ``text_config``, of this type unless it says another."""
    return Part("text_config", model_type)


def whole_language_model(model_type: str, dialect: str = TRANSFORMERS_5) -> Tower | None:
    """The class of a text model type with its head, under the names of a dialect that it has, or of today's."""
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None or architecture.text_config is not None:
        return None
    build = architecture.dialects.get(dialect, architecture.dialects[TRANSFORMERS_5])
    head: Head = "seq2seq" if architecture.encoder_decoder else "causal-lm"
    return Tower(architecture.defaults or model_type, lambda s: build(s, head))
