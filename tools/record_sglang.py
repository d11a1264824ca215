"""Record where SGLang's LoRA manager puts an adapter's tensors: ``lora_packer/targets/data/sglang-classes.json``.

usage: python tools/record_sglang.py [--cache FOLDER]     (torch, transformers, and what SGLang imports)

Each class that transformers and SGLang both know is made on the meta device, and SGLang's own ``LoRAManager`` is
started over it for each name that its modules have: which modules it wraps, or why the server does not start.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import sglang_on_cpu
from record_vllm import candidates, published, shallow

DATA = Path(__file__).parent.parent / "lora_packer" / "targets" / "data" / "sglang-classes.json"
_RANK = 4
_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")
_UNKNOWN = "a_name_that_no_class_has"
_EXPERTS = frozenset({"gate_up_proj", "down_proj"})


def main() -> int:
    """Record every class, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "sglang-wheels")
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(sglang_on_cpu.unpacked(options.cache)))
    table = recorded(sglang_on_cpu.prepare(), options.only)
    if options.only:
        print(json.dumps(table, indent=1))
    else:
        DATA.write_text(json.dumps(table, indent=0, sort_keys=True, separators=(",", ":")) + "\n")
    return 0


def recorded(settings: Any, only: str) -> dict[str, Any]:
    """The table: class -> which layout it has; and each model type's first class."""
    layouts: list[Any] = []
    classes: dict[str, int] = {}
    types: dict[str, str] = {}
    for kind, name in candidates():
        if (only and not re.fullmatch(only, name)) or sglang_on_cpu.served(name) is None:
            continue
        types.setdefault(kind, name)
        if name in classes:
            continue
        try:
            layout = layout_of(kind, name, settings)
        except Exception as error:  # noqa: BLE001  what a class wants and this machine has not is anything
            print(f"{kind} {name}: {type(error).__name__} {str(error)[:200]!r}", file=sys.stderr)
            continue
        if layout not in layouts:
            layouts.append(layout)
        classes[name] = layouts.index(layout)
        print(f"{kind} {name}", file=sys.stderr, flush=True)
    types = {kind: name for kind, name in types.items() if name in classes}
    made_by = "tools/record_sglang.py"
    release = sglang_on_cpu.RELEASE
    return {"made_by": made_by, "releases": [release], "classes": classes, "types": types, "layouts": layouts}


def layout_of(kind: str, name: str, settings: Any) -> Any:
    """What SGLang's manager wraps of a class for each target."""
    from sglang.srt.lora.utils import (
        _KNOWN_LORA_TARGET_MODULES,
        auto_detect_lora_target_modules,
        get_normalized_target_modules,
    )
    from transformers import AutoConfig

    config = shallow(published(name) or AutoConfig.for_model(kind).to_dict())
    config["architectures"] = [name]
    made = sglang_on_cpu.served(name)
    model, _ = sglang_on_cpu.make(made, config, "meta")
    detected = sorted(auto_detect_lora_target_modules(model))
    targets = sorted(get_normalized_target_modules(_leaves(model)) | _KNOWN_LORA_TARGET_MODULES)
    found = {target: wrapped(made, config, settings, {target}) for target in targets}
    layout: dict[str, Any] = {"class": made.__name__, "detected": detected}
    layout["modules"] = {target: paths for target, paths in found.items() if paths and isinstance(paths, list)}
    layout["nothing"] = sorted(target for target, paths in found.items() if not paths)
    layout["unknown"] = "refused" if isinstance(wrapped(made, config, settings, {_UNKNOWN}), str) else ""
    layout["refused"] = {target: why for target, why in found.items() if isinstance(why, str)}
    if set(targets) | set(detected) >= _EXPERTS and has_experts(model):
        both = wrapped(made, config, settings, set(_EXPERTS))
        if isinstance(both, str):
            layout["refused"]["experts"] = both
        else:
            alone = {path for target in _EXPERTS for path in layout["modules"].get(target, ())}
            layout["experts"] = sorted(set(both) - alone)
    return {key: value for key, value in layout.items() if value}


def _leaves(model: Any) -> set[str]:
    """The last names of the modules that SGLang has a LoRA layer for."""
    from sglang.srt.layers.linear import LinearBase
    from sglang.srt.layers.vocab_parallel_embedding import VocabParallelEmbedding

    kinds = (LinearBase, VocabParallelEmbedding)
    return {path.rpartition(".")[2] for path, module in model.named_modules() if isinstance(module, kinds)}


def has_experts(model: Any) -> bool:
    """Whether it has experts that SGLang runs together."""
    from sglang.srt.layers.moe.fused_moe_triton.layer import FusedMoE

    return any(isinstance(module, FusedMoE) for module in model.modules())


def wrapped(made: Any, config: Mapping[str, Any], settings: Any, targets: set[str]) -> list[str] | str:
    """The paths that the manager wraps for these targets, or why a server with them does not start."""
    import torch
    from sglang.srt.configs.load_config import LoadConfig
    from sglang.srt.lora.lora_manager import LoRAManager

    model, read = sglang_on_cpu.make(made, config, "meta")
    given = {"max_lora_rank": _RANK, "target_modules": set(targets)}
    try:
        manager = LoRAManager(model, read, 2, LoadConfig(), torch.bfloat16, settings, "torch_native", **given)
    except Exception as error:  # noqa: BLE001  whatever it raises, the server does not start
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    paths = [path for layer in manager.lora_modules for path in layer]
    for module, target in ((manager.embed_tokens_module, "embed_tokens"), (manager.lm_head_module, "lm_head")):
        paths += [target] if module is not None else []
    wrong = sorted(_of_another_size(manager))
    return wrong[0] if wrong else sorted({_INDEX.sub("*", path) for path in paths})


def _of_another_size(manager: Any) -> Iterable[str]:
    """The modules whose weights do not fit the buffers that SGLang makes for them (``mem_pool.py:908-910``)."""
    from sglang.srt.lora.utils import get_target_module_name

    pool = manager.memory_pool
    for number, layer in enumerate(manager.lora_modules):
        for path, module in layer.items():
            base = getattr(module, "base_layer", None)
            size = getattr(base, "input_size", None), getattr(base, "output_size", None)
            if None in size:
                continue
            target = get_target_module_name(path, manager.target_modules)
            if target not in pool.A_buffer:
                continue
            there = pool.A_buffer[target][number].shape[-1], pool.B_buffer[target][number].shape[-2]
            if there != size:
                name = _INDEX.sub("*", path)
                yield f"the buffer for {name} has {there[0]} and {there[1]}, and the module {size[0]} and {size[1]}"


if __name__ == "__main__":
    sys.exit(main())
