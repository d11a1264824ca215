"""Record what vLLM's model classes are made of, from vLLM itself: ``lora_packer/targets/data/vllm-classes.json``.

usage: python tools/record_vllm.py [--cache FOLDER] [VERSION ...]     (torch, transformers, and what vLLM imports)

Each class of transformers that vLLM serves is made on the meta device, from its config class's defaults, in a process
for each release. Recorded are the modules that vLLM's LoRA manager wraps, the names that it packs, renames and passes
over, and which classes take no LoRA. A class that cannot be made here is left out, and is then not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import vllm_on_cpu

RELEASES = ("0.32.0", "0.33.0")
DATA = Path(__file__).parent.parent / "lora_packer" / "targets" / "data" / "vllm-classes.json"
CONFIGS = Path(__file__).parent.parent / "fixtures" / "base-configs"
_LAYERS = 8
# What published configs have and the config class has no default for. None of it decides which modules there are, but
# for the first: one layer without experts, the others with.
ASKED: Mapping[str, Any] = {
    "first_k_dense_replace": 1,
    "score_func": "sigmoid",
    "head_dim": 64,
    "norm_topk_prob": True,
    "num_local_experts": 8,
    "rotary_dim": 64,
    "embed_dim": 1152,
    "image_size": 224,
    "downsample_factor": 4,
    "patch_size": 16,
    "force_image_size": 448,
    "deepstack_visual_indexes": [1, 2],
    "mla_scale_q_lora": True,
    "mla_scale_kv_lora": True,
}


def main() -> int:
    """Record the releases, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "vllm-wheels")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("versions", nargs="*", default=RELEASES)
    options = parser.parse_args()
    if options.inside:
        Path(options.inside).write_text(json.dumps(recorded(options.only)))
        return 0
    options.cache.mkdir(parents=True, exist_ok=True)
    releases = {}
    for version in options.versions:
        folder = vllm_on_cpu.unpacked(version, options.cache)
        with tempfile.TemporaryDirectory() as work:
            out = Path(work) / "recorded.json"
            command = [sys.executable, __file__, f"--inside={out}"]
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(folder)})
            releases[version] = json.loads(out.read_text())
    DATA.write_text(json.dumps(merged(releases), indent=0, sort_keys=True, separators=(",", ":")) + "\n")
    return 0


def merged(releases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One table of all releases: each distinct class once, and which release has which."""
    layouts: list[Any] = []
    classes: dict[str, dict[str, int | None]] = {}
    for version, found in releases.items():
        for name, layout in found["classes"].items():
            if layout is not None and layout not in layouts:
                layouts.append(layout)
            classes.setdefault(name, {})[version] = None if layout is None else layouts.index(layout)
    every = list(releases)
    types = {kind: name for found in releases.values() for kind, name in found["types"].items()}
    told = {name: [by.get(version, -1) for version in every] for name, by in classes.items()}
    return {"made_by": "tools/record_vllm.py", "releases": every, "classes": told, "types": types, "layouts": layouts}


def recorded(only: str | None) -> dict[str, Any]:
    """What this release has: class -> its layout, or None where it takes no LoRA; and each model type's first class."""
    vllm_on_cpu.prepare()
    from vllm.model_executor.models.registry import ModelRegistry

    served = set(ModelRegistry.get_supported_archs())
    classes: dict[str, Any] = {}
    types: dict[str, str] = {}
    for kind, name in candidates():
        if only and not re.fullmatch(only, name):
            continue
        if name in served:
            types.setdefault(kind, name)
        if name in classes or name not in served:
            continue
        try:
            classes[name] = layout_of(kind, name)
            print(f"{kind} {name}", file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001  what a class wants and this machine has not is anything
            print(f"{kind} {name}: {type(error).__name__} {str(error)[:300]!r}", file=sys.stderr)
    return {"classes": classes, "types": types}


def candidates() -> Iterator[tuple[str, str]]:
    """The model types, each with the classes that a config names."""
    from transformers.models.auto import modeling_auto as auto

    for table in (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
    ):
        for kind, names in table.items():
            for name in (names,) if isinstance(names, str) else names:
                yield kind, name


def layout_of(kind: str, name: str) -> Any:
    """What a class is made of, or None where vLLM serves it without LoRA."""
    from transformers import AutoConfig
    from vllm.model_executor.models.interfaces import supports_lora
    from vllm.model_executor.models.registry import ModelRegistry

    made = ModelRegistry._try_load_model_cls(name)
    if made is not None and not supports_lora(made):
        return None
    config = published(name) or AutoConfig.for_model(kind).to_dict()
    model, settings = made_with_what_it_asks(shallow(config), name)
    manager = vllm_on_cpu.manager(model, settings)
    names = {
        re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path): type(module).__name__ for path, module in manager.modules.items()
    }
    packed = {parent: list(children) for parent, children in manager.packed_modules_mapping.items()}
    experts = packed.pop("experts", [])
    layout = {
        "class": type(model).__name__,
        "modules": sorted(names),
        "packed": {parent: packed[parent] for parent in sorted(packed)},
        "leaves": sorted(manager.supported_lora_modules),
        "experts": sorted({child.split(".", 2)[2] for child in experts}),
        "fused_experts": sorted({path for path, wrapper in names.items() if wrapper == "FusedMoE3DWithLoRA"}),
        "non_gated": bool(getattr(manager, "_is_non_gated_moe", False)),
        "language": manager.mm_mapping.language_model[0] if manager.supports_mm else None,
        "pooling": bool(manager.is_pooling_model),
        "towers": sorted({*manager.mm_mapping.tower_model, *manager.mm_mapping.connector})
        if has_towers(manager)
        else [],
        "skip": list(getattr(model, "lora_skip_prefixes", None) or ()),
        "renames": renames(getattr(model, "hf_to_vllm_mapper", None)),
    }
    return {key: value for key, value in layout.items() if value}


def published(name: str) -> dict[str, Any] | None:
    """The config of a model that names this class, where there is one among the fixtures."""
    for path in sorted(CONFIGS.glob("*.json")):
        config: dict[str, Any] = json.loads(path.read_text())
        if config.get("architectures") == [name] and "quantization_config" not in config and "auto_map" not in config:
            return config
    return None


def made_with_what_it_asks(config: dict[str, Any], name: str) -> tuple[Any, Any]:
    """Make a class; a number that it asks a config for, and whose class has no default of, is given."""
    for _ in range(len(ASKED)):
        try:
            return vllm_on_cpu.make(config, name)
        except AttributeError as error:
            found = re.search(r"object has no attribute '(\w+)'", str(error))
            if found is None or found[1] not in ASKED:
                raise
            for part in (config, *(value for value in config.values() if is_config(value))):
                part.setdefault(found[1], ASKED[found[1]])
    return vllm_on_cpu.make(config, name)


def is_config(value: Any) -> bool:
    """Whether a field of a config is one itself."""
    return isinstance(value, dict) and "model_type" in value


def has_towers(manager: Any) -> bool:
    """Whether a setting of the server makes LoRA reach the towers of a multimodal model."""
    return bool(manager.supports_mm and getattr(manager.model, "supports_tower_connector_lora", False))


def shallow(config: Any) -> Any:
    """The same config with no more than ``_LAYERS`` layers: enough for one of each kind."""
    if not isinstance(config, dict):
        return config
    changed = {key: shallow(value) for key, value in config.items() if not str(key).isdigit() or int(key) < _LAYERS}
    for key in ("num_hidden_layers", "num_layers", "n_layer", "depth", "encoder_layers", "decoder_layers"):
        count = changed.get(key)
        if isinstance(count, int) and count > _LAYERS:
            changed[key] = _LAYERS
            for other, value in changed.items():
                if isinstance(value, list | str) and len(value) == count:
                    changed[other] = value[:_LAYERS]
    return changed


def renames(mapper: Any) -> list[list[str]]:
    """What ``WeightsMapper`` renames, in its order: [how, from, to]."""
    if mapper is None:
        return []
    mapper = mapper.get_rename_mapper()
    if getattr(mapper, "orig_to_new_renaming", None):
        raise NotImplementedError("names are changed by transformers' own renamings")
    found = [["regex", pattern.pattern, new] for pattern, new in mapper.orig_to_new_regex.items()]
    for how in ("substr", "prefix", "suffix"):
        found += [[how, old, new] for old, new in getattr(mapper, f"orig_to_new_{how}").items()]
    return found


if __name__ == "__main__":
    sys.exit(main())
