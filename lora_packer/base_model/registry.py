"""Every model type that has a definition, imported when asked for.

``models/index.json``, written by ``tools/make_index.py``, says which file defines which type, so that a check imports
the one lineage that it needs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from lora_packer.base_model.architecture import Architecture, Architectures, resolved

_INDEX = Path(__file__).parent / "models" / "index.json"


@cache
def _index() -> Mapping[str, str]:
    found: Mapping[str, str] = json.loads(_INDEX.read_text(encoding="utf-8"))
    return found


class _Architectures(Mapping[str, Architecture]):
    """Model type -> Architecture, imported when asked for."""

    def __getitem__(self, model_type: str) -> Architecture:
        module = import_module(f"lora_packer.base_model.models.{_index()[model_type]}")
        entries: Architectures = module.ARCHITECTURES
        return resolved(model_type, entries[model_type], self.__getitem__)

    def __contains__(self, model_type: object) -> bool:
        return model_type in _index()

    def __iter__(self) -> Iterator[str]:
        return iter(_index())

    def __len__(self) -> int:
        return len(_index())


ARCHITECTURES: Mapping[str, Architecture] = _Architectures()

# Classes of other repositories whose configs have a type that transformers has too, with other modules: that type and
# the class -> the type of its own definition.
TYPES_OF_CLASSES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("llava", "LlavaLlamaForCausalLM"): "llava_llama",
        ("llava", "LlavaMistralForCausalLM"): "llava_mistral",
        ("llava", "LlavaQwenForCausalLM"): "llava_qwen",
    }
)
