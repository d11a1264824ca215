"""Write ``lora_packer/base_model/defaults.json``: transformers' class defaults of every field that a definition reads.

Needs torch and transformers (see the Makefile's ``proof``). The definitions are built for bare, random and real configs
under every head and dialect, with settings that note what is read of which config type; a declared field that stands
in the definitions by name is recorded too, because few configs may lead to it. A value is what the config class
declares; what it derives from other fields the definitions derive too. One type a line.

usage: python tools/record_defaults.py [--check] [--only TYPE ...]
       (--check: print what differs, and exit 1 where anything does; --only: add what these types' definitions read, and
       leave the rest as it is: quick, for a new type)
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import json
import random
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "lora_packer" / "base_model"
sys.path.insert(0, str(ROOT))

from proof_configs import class_type, of_transformers, random_config  # noqa: E402

from lora_packer.base_model import BaseModel  # noqa: E402
from lora_packer.base_model import settings as settings_module  # noqa: E402
from lora_packer.base_model.architecture import Head  # noqa: E402
from lora_packer.base_model.defaults import FILE  # noqa: E402
from lora_packer.base_model.settings import Settings  # noqa: E402
from lora_packer.errors import LoraPackerError  # noqa: E402

RANDOM_CONFIGS = 3
# What belongs to one config, not to its class.
_NEVER = frozenset({"model_type", "architectures", "id2label", "per_layer_config"})
# Fields that a class sets while it is initialised without declaring them, or that modelling code fixes.
_FIRST_DENSE = {"first_k_dense_replace": 1}
_EVERY_SPARSE = {**_FIRST_DENSE, "moe_layer_freq": 1}
UNDECLARED: Mapping[str, Mapping[str, Any]] = {
    "axk1": _EVERY_SPARSE,
    "axk2": _EVERY_SPARSE,
    "bart": {"num_labels": 3},
    "deepseek_v4": {"compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}},
    "diffusion_gemma_text": {"global_head_dim": 512},
    "dots3_note_text": {
        **_EVERY_SPARSE,
        "swa_num_attention_heads": 64,
        "swa_q_lora_rank": 1024,
        "swa_kv_lora_rank": 1024,
        "swa_head_dim": 256,
        "swa_qk_nope_head_dim": 192,
        "swa_v_head_dim": 128,
    },
    "embedding_gemma2_text": {
        "global_head_dim": 512,
        "num_global_key_value_heads": 1,
        "sliding_window_pattern": 6,
    },
    "ernie4_5_vl_moe_text": {"moe_intermediate_size": [1536, 512]},
    "gemma4_text": {"global_head_dim": 512},
    "gemma4_unified_text": {"global_head_dim": 512},
    "glm5_next_text": {"index_skip_topk_offset": 2},
    "glm_moe_dsa": {"index_skip_topk_offset": 2},
    "kimi_linear": _FIRST_DENSE,
    "mistral_large4_text": {"index_skip_topk_offset": 2, "no_rope_layer_interval": 4},
    "molmo2_vision": {"image_size": [378, 378]},
    "nemotron_h": {"hybrid_override_pattern": "ME*-"},
    "openai_privacy_filter": {"num_labels": 33},
    "phi4_multimodal_vision": {"vision_use_head": True},
    "pp_formulanet_text": {"encoder_ffn_dim": 4096},
    "qwen3_5_moe_text": {"full_attention_interval": 4},
    "qwen3_5_text": {"full_attention_interval": 4},
    "unlimited_ocr_text": _FIRST_DENSE,
}
# Fields that a class fills in with the same value whatever the others are, where they are null.
FILLED_IN: Mapping[str, tuple[str, ...]] = {
    "aria": ("projector_patch_to_query_dict",),
    "deepseek_ocr2_sam_vision_model": ("downsample_channels",),
    "flint": ("mlp_only_layers",),
    "granite_docling_vision": ("deepstack_visual_indexes",),
    "mimi": ("upsampling_ratios",),
    "mllama_text_model": ("cross_attention_layers",),
    "mllama_vision_model": ("supported_aspect_ratios",),
    "molmo2_adapter": ("vision_feature_layer",),
    "udop": ("relative_bias_args",),
    "zamba2": ("layers_block_type",),
}


@cache
def config_classes() -> Mapping[str, Any]:
    """Return every config class that a definition may meet: config type -> class."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found: dict[str, Any] = {}
    for model_type in of_transformers():
        _walk(CONFIG_MAPPING[class_type(model_type)](), model_type, found)
    # What stands below none of them by default, such as a tower of another type.
    for model_type in CONFIG_MAPPING:
        if model_type not in found:
            found[model_type] = CONFIG_MAPPING[model_type]
    return found


def _walk(config: Any, config_type: str, found: dict[str, Any]) -> None:
    if config_type not in found:
        found[config_type] = type(config)
        for name in nested_names(type(config)):
            child = nested_config(config, name)
            if child is not None:
                _walk(child, nested_type(config_type, name, child), found)


def nested_names(cls: Any) -> list[str]:
    """Return the fields of a config class that hold other configs."""
    from transformers import PreTrainedConfig

    held = [name for name, value in vars(cls()).items() if isinstance(value, PreTrainedConfig)]
    return sorted({*held, *(cls.sub_configs or {})})


def nested_config(config: Any, name: str) -> Any:
    """Return a nested config, that of its class where this config has none, or None where it is any type's."""
    from transformers import AutoConfig

    held = getattr(config, name, None)
    cls = (config.sub_configs or {}).get(name)
    return cls() if held is None and cls is not None and cls is not AutoConfig else held


def nested_type(config_type: str, name: str, child: Any) -> str:
    """Return a nested config's type, or the field that holds it where its class has none."""
    return child.model_type or f"{config_type}.{name}"


class Noting(dict[str, Any]):
    """The declared defaults of a config type, which note what is asked for."""

    def __init__(self, values: Mapping[str, Any], noted: set[str], names: Mapping[str, str]) -> None:
        super().__init__(values)
        self.noted = noted
        self.names = names

    def get(self, name: str, default: Any = None) -> Any:
        """Note the field, under its own name too where this one is an alias."""
        self.noted.update((name, self.names.get(name, name)))
        return super().get(name, default)


NOTED: dict[str, set[str]] = {}


def noting(config_type: str) -> Noting:
    """Return the defaults of a config type for one reading."""
    return Noting(declared(config_type), NOTED.setdefault(config_type, set()), {})


@cache
def declared(config_type: str) -> Mapping[str, Any]:
    """Return what a config class declares, its nested configs by their type."""
    cls = config_classes()[config_type]
    config = cls()
    found: dict[str, Any] = {}
    for name, field in cls.__dataclass_fields__.items():
        if field.default_factory is not dataclasses.MISSING:
            found[name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            found[name] = field.default
    found |= UNDECLARED.get(config_type, {})
    found |= {name: getattr(config, name) for name in FILLED_IN.get(config_type, ())}
    for name in nested_names(cls):
        child = getattr(config, name, None)
        found[name] = None if child is None else {"model_type": nested_type(config_type, name, child)}
    return {name: value for name, value in found.items() if value is not None and name not in _NEVER}


@cache
def named() -> frozenset[str]:
    """Return every string in the definitions: a field may be read for few configs only."""
    paths = (BASE / "settings.py", *(BASE / "models").rglob("*.py"), *(BASE / "blocks").glob("*.py"))
    sources = (path.read_text(encoding="utf-8") for path in paths)
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    return frozenset(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def record(config_type: str) -> dict[str, Any]:
    """Return the defaults of a config type that were asked for."""
    cls, values = config_classes()[config_type], declared(config_type)
    found = {name: values[name] for name in sorted(NOTED[config_type] | named()) if name in values}
    for name in set(nested_names(cls)) & set(found):
        spec = cls.sub_configs_defaults.get(name)
        given = frozenset(spec.init_kwargs if spec else ())
        found[name] = found[name] | differences(found[name]["model_type"], getattr(cls(), name), given)
    return found


def differences(config_type: str, config: Any, given: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what a nested config that is filled in has otherwise than its own class.

    A field that is ``given`` may be what the class derives by chance from its other defaults.
    """
    cls = config_classes()[config_type]
    default, held, values = cls(), nested_names(cls), declared(config_type)
    found: dict[str, Any] = {}
    for name in sorted(NOTED.get(config_type, set()) | (named() & set(values))):
        ours, theirs = vars(config).get(name), vars(default).get(name)
        if name in held and ours is not None:
            child = nested_type(config_type, name, ours)
            inner = differences(child, ours)
            if inner or theirs is None or child != nested_type(config_type, name, theirs):
                found[name] = {"model_type": child, **inner}
        elif name not in held and name not in _NEVER and ours != (values.get(name) if name in given else theirs):
            found[name] = ours
    return found


def configs_of(model_type: str) -> Iterator[Mapping[str, Any]]:
    """Yield the configs that a type's definition is read with."""
    yield {"model_type": model_type}
    chance = random.Random(model_type)
    for number in range(RANDOM_CONFIGS):
        config = random_config(model_type, chance)
        if number % 2:
            config.pop("id2label", None)
        yield config
    for path in sorted((ROOT / "fixtures" / "base-configs").glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("model_type") == model_type:
            yield config


def note_all(types: Iterable[str]) -> None:
    """Build these definitions, and note what they read."""
    aliased = Settings.aliased

    def value(self: Settings, name: str) -> Any:
        default = self._defaults.get(name)
        return self._raw.get(name, default)

    def other_names(self: Settings, names: Mapping[str, str]) -> Settings:
        found, before = aliased(self, names), self._defaults
        names_back = {name: alias for alias, name in names.items()}
        if isinstance(before, Noting):
            found._defaults = Noting(found._defaults, before.noted, {**before.names, **names, **names_back})
        return found

    with (
        mock.patch.object(settings_module, "recorded", noting),
        mock.patch.object(Settings, "_value", value),
        mock.patch.object(Settings, "aliased", other_names),
    ):
        for model_type in types:
            for number, config in enumerate(configs_of(model_type)):
                for head in get_args(Head) if number else ("causal-lm",):
                    try:
                        BaseModel.load(config).with_head(head)
                    except LoraPackerError:
                        continue  # a random config that transformers would refuse too


def recorded_text(only: Sequence[str] | None = None) -> str:
    """Return the file's text: for all types, or with what these add to it."""
    import transformers

    note_all(only or of_transformers())
    before = json.loads(FILE.read_text(encoding="utf-8"))["types"] if only else {}
    return text_of(merged(before, {name: record(name) for name in NOTED}), transformers.__version__)


def merged(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded defaults with those of further readings: a field that any of them asked for stays."""
    return {**before, **{name: {**before.get(name, {}), **fields} for name, fields in more.items()}}


def text_of(types: Mapping[str, Any], version: str) -> str:
    """Return the file's text, a type a line."""
    lines = (
        f"{json.dumps(name)}: {json.dumps(types[name], separators=(',', ':'), sort_keys=True)}"
        for name in sorted(types)
    )
    joined = ",\n".join(lines)
    return f'{{"made_by": "tools/record_defaults.py", "transformers": "{version}", "types": {{\n{joined}\n}}}}\n'


def main() -> int:
    """Write the defaults, or check them."""
    options = argparse.ArgumentParser()
    options.add_argument("--check", action="store_true")
    options.add_argument("--only", nargs="+")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    text = recorded_text(args.only)
    if not args.check:
        FILE.write_text(text, encoding="utf-8")
        return 0
    now = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    changes = list(
        difflib.unified_diff(now.splitlines(), text.splitlines(), "recorded", "transformers", lineterm="", n=0)
    )
    print("\n".join(changes) or f"the recorded defaults are those of transformers {transformers.__version__}")
    return 1 if changes else 0


if __name__ == "__main__":
    sys.exit(main())
