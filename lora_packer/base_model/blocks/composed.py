"""Models that are composed of two others: the bare model of one, and another with its language model's head.

What is composed, and where a projection stands between both: transformers/models/vision_encoder_decoder/
modeling_vision_encoder_decoder.py at v5.24.0, and the two files beside it for text and for speech.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from lora_packer.base_model.architecture import (
    DECODER,
    ENCODER,
    TRANSFORMERS_4,
    TRANSFORMERS_4_51,
    TRANSFORMERS_5,
    TRANSFORMERS_5_23,
    Architecture,
    Build,
    Head,
)
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.layers import linear
from lora_packer.base_model.defaults import recorded
from lora_packer.base_model.module import Named
from lora_packer.base_model.registry import ARCHITECTURES
from lora_packer.base_model.settings import Settings
from lora_packer.base_model.tasks import has_class, standing_in
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape

# Dialect -> which of a part's dialects has its names: the first that the part has.
_DIALECTS: Mapping[str, tuple[str, ...]] = {
    TRANSFORMERS_5: (TRANSFORMERS_5,),
    TRANSFORMERS_5_23: (TRANSFORMERS_5_23, TRANSFORMERS_5),
    TRANSFORMERS_4: (TRANSFORMERS_4, TRANSFORMERS_5_23, TRANSFORMERS_5),
    TRANSFORMERS_4_51: (TRANSFORMERS_4_51, TRANSFORMERS_4, TRANSFORMERS_5_23, TRANSFORMERS_5),
}
# What transformers' ``hidden_size`` may be an alias of (``attribute_map``).
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "emb_dim")
# How the classes of AutoModelForCausalLM are called.
_CAUSAL = re.compile("(?:ForCausalLM|LMHeadModel|ModelWithLMHead|GenerationDecoder)$")


class _Part(NamedTuple):
    """One of the two models.

    Attributes:
        model_type: its type.
        architecture: the definition of that.
        settings: its config.
    """

    model_type: str
    architecture: Architecture
    settings: Settings

    def modules(self, dialect: str, head: Head) -> Named:
        """Its modules under the names of a dialect."""
        own = self.architecture.dialects
        return next(own[name] for name in _DIALECTS[dialect] if name in own)(self.settings, head)


def _part(s: Settings, name: str) -> _Part:
    raw, absent = s.raw.get(name), s.default(name)
    raw = raw if isinstance(raw, Mapping) else absent
    model_type = raw.get("model_type", absent.get("model_type"))
    architecture = ARCHITECTURES.get(model_type) if isinstance(model_type, str) else None
    if architecture is None or architecture.proof is not None:
        raise _unknown(name, model_type, "there is no proven definition for it")
    # The class is that of transformers' auto classes, whatever this config names.
    settings = Settings({**raw, "architectures": None}, architecture.defaults or model_type)
    return _Part(model_type, architecture, settings)


def _unknown(name: str, model_type: object, why: str) -> UnknownArchitecture:
    return UnknownArchitecture(
        f"the {name} that the base config names is of the model type '{escape(str(model_type), 60)}': {why}.",
        hint="Give the folder or the Hub id of the base checkpoint with --base-config.",
    )


def _encoder(s: Settings) -> _Part:
    part = _part(s, ENCODER)
    if not has_class(part.model_type, "none"):
        raise _unknown(ENCODER, part.model_type, "transformers has no bare model of it")
    return part


def _decoder(s: Settings) -> _Part:
    part = _part(s, DECODER)
    if not has_class(part.model_type, "causal-lm") or not _CAUSAL.search(standing_in(part.model_type, "causal-lm")):
        raise _unknown(DECODER, part.model_type, "transformers has no causal language model of it")
    return part


def _width(name: str, part: _Part) -> int:
    """The width of what a part puts out, or takes: its ``hidden_size``, which Swin's kind derives."""
    s, defaults = part.settings, part.architecture.defaults
    declared = recorded(defaults) if isinstance(defaults, str) else defaults or {}
    if part.architecture.text_config is not None and "hidden_size" not in declared:  # its class may set it then
        raise _unknown(name, part.model_type, "its config has no hidden size of its own")
    for field in _WIDTHS:
        if s.value(field) is not None:
            return s.size(field)
    if s.value("embed_dim") is None or not s.length("depths"):
        raise _unknown(name, part.model_type, "its config has no hidden size of its own")
    return s.size("embed_dim") << (s.length("depths") - 1)


def _both(dialect: str, output_width: str | None) -> Build:
    def build(s: Settings, _head: Head) -> Named:
        encoder, decoder = _encoder(s), _decoder(s)
        inner, outer = _width(ENCODER, encoder), _width(DECODER, decoder)
        given = inner if output_width is None else encoder.settings.optional_size(output_width) or inner
        yield from below(ENCODER, encoder.modules(dialect, "none"))
        yield from below(DECODER, decoder.modules(dialect, "causal-lm"))
        if given != outer and decoder.settings.value("cross_attention_hidden_size") is None:
            yield from linear("enc_to_dec_proj", outer, inner, bias=True)

    return build


def composed(cls: str, reads: str, *, output_width: str | None = None) -> Architecture:
    """Return the definition of a type whose parts the config names, each by its own model type.

    ``cls`` is its only class; ``reads`` the part whose input embedding is the model's; ``output_width`` the field with
    the width of what an encoder puts out, where that may be another than its hidden size.
    """
    return Architecture(
        {dialect: _both(dialect, output_width) for dialect in _DIALECTS},
        text_config=reads,
        classes=MappingProxyType({cls: "causal-lm"}),
        composed=True,
    )
