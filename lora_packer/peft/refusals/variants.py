"""Which of LoRA's variants a config asks for, and which of them PEFT 0.21.2 has for which kind of layer."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Modules
from lora_packer.peft.attention import is_attention

# The fields that ask for one, in PEFT's order (tuners/lora/config.py, ``is_lora_variant``); an object does so even
# where it is empty.
_OBJECTS = ("velora_config", "monteclora_config", "use_bdlora", "arrow_config", "kasa_config")
_FIELDS = ("use_dora", "alora_invocation_tokens", "init_lora_weights", *_OBJECTS)

# lora_variants of Linear, Embedding and _ConvNd (tuners/lora/layer.py:936,1199,1850); a parameter has none (:2433), and
# KaSA refuses a weight that lies transposed (tuners/lora/variants.py:1450).
_TAKEN: Mapping[str, frozenset[str]] = {
    "linear": frozenset(_FIELDS),
    "conv1d": frozenset(_FIELDS) - {"kasa_config"},
    "embedding": frozenset({"use_dora", "init_lora_weights"}),
    "conv": frozenset({"use_dora"}),
    "parameter": frozenset(),
    "attention": frozenset(),
}


def variants(config: LoraConfig) -> list[str]:
    """Return the fields that ask for a variant; ``init_lora_weights`` does where it is ``mica``."""
    asked = [name for name in ("use_dora", "alora_invocation_tokens") if getattr(config, name)]
    asked += [name for name in _OBJECTS if getattr(config, name) is not None]
    return [*asked, "init_lora_weights"] if config.init_lora_weights == "mica" else asked


def taken_by(kind: str, variant: str) -> bool:
    """Whether PEFT has this variant for a layer of this kind."""
    return variant in _TAKEN[kind]


def kind_of(path: str, modules: Modules) -> str:
    """Return the kind of layer that PEFT wraps; a parameter that is named itself is one whatever owns it."""
    if path in modules:
        return modules[path].kind
    return "attention" if is_attention(path, modules) else "parameter"
