"""``adapter_config.json`` as a typed value, with PEFT's meaning.

Fields and defaults are those of ``peft/tuners/lora/config.py::LoraConfig`` and ``peft/config.py`` in PEFT 0.1 to
0.21.2 (https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/config.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, fields
from types import MappingProxyType
from typing import Any

from lora_packer.adapter.config_fields import READERS, TASK_TYPES
from lora_packer.adapter.config_reader import KEEP_DEFAULT, ConfigProblem, Reader
from lora_packer.frozen import frozen
from lora_packer.names import CONFIG_NAME
from lora_packer.redact import escape

__all__ = ["CONFIG_NAME", "TASK_TYPES", "ConfigProblem", "LoraConfig", "parse_config"]

# Every field that a LoraConfig of PEFT 0.1 to 0.21.2 may hold and that no rule of ours reads. Two are those of 0.1 and
# 0.2, of which all that a file shows is lora_B's shape (peft/tuners/lora.py of 0.2.0).
_OTHER_FIELDS = frozenset(
    {
        "auto_mapping",
        "corda_config",
        "enable_lora",
        "eva_config",
        "inference_mode",
        "loftq_config",
        "lora_ga_config",
        "megatron_config",
        "megatron_core",
        "merge_weights",
        "qalora_group_size",
        "revision",
        "runtime_config",
    }
)

_NO_ITEMS: Mapping[str, Any] = MappingProxyType({})


@frozen
class LoraConfig:
    """A LoRA adapter's configuration: which modules it targets, and with which rank and scale.

    Attributes are PEFT's own names. ``rank_pattern`` and ``alpha_pattern`` keep the file's order, because the first
    pattern that matches wins (``peft/utils/other.py::get_pattern_key``).
    """

    r: int = 8
    lora_alpha: float = 8
    target_modules: tuple[str, ...] | str | None = None
    exclude_modules: tuple[str, ...] | str | None = None
    target_parameters: tuple[str, ...] | None = None
    modules_to_save: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    rank_pattern: Mapping[str, int] = field(default_factory=lambda: _NO_ITEMS)
    alpha_pattern: Mapping[str, float] = field(default_factory=lambda: _NO_ITEMS)
    layer_replication: tuple[tuple[int, int], ...] = ()
    trainable_token_indices: Mapping[str | None, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    ensure_weight_tying: bool = False
    lora_dropout: float = 0
    bias: str = "none"
    lora_bias: bool = False
    use_dora: bool = False
    use_rslora: bool = False
    use_qalora: bool = False
    fan_in_fan_out: bool = False
    init_lora_weights: bool | str = True
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    peft_version: str | None = None
    alora_invocation_tokens: tuple[int, ...] = ()
    arrow_config: Mapping[str, Any] | None = None
    use_bdlora: Mapping[str, Any] | None = None
    kasa_config: Mapping[str, Any] | None = None
    velora_config: Mapping[str, Any] | None = None
    monteclora_config: Mapping[str, Any] | None = None

    def scale(self, rank: int, alpha: float) -> float:
        """Return what the update B·A is multiplied with: alpha/r, or alpha/sqrt(r) with ``use_rslora``."""
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def parse_config(raw: Mapping[str, Any]) -> tuple[LoraConfig, tuple[ConfigProblem, ...]]:
    """Return the typed config and everything wrong with it; a field that is wrong keeps PEFT's default."""
    reader = Reader(raw)
    reader.method()
    values: dict[str, Any] = {}
    for name, read in READERS.items():
        if name in raw:
            value = read(reader, name, raw[name])
            if value is not KEEP_DEFAULT:
                values[name] = value
    known = set(READERS) | _OTHER_FIELDS | {"peft_type"}
    for name in raw:
        if name not in known:
            message = (
                f"{escape(name, 60)!r} is not one of PEFT's fields: PEFT 0.14 and newer ignore it, older ones refuse it"
            )
            reader.problem("unknown", name, message)
    return LoraConfig(**values), tuple(reader.problems)


assert set(READERS) == {item.name for item in fields(LoraConfig)}
