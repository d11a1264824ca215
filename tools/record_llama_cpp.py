"""Record what llama.cpp's converter makes of each class's tensors: ``lora_packer/targets/data/llama-cpp-classes.json``.

usage: python tools/record_llama_cpp.py [--cache FOLDER]     (torch, transformers)

Each class that transformers and llama.cpp both know is made on the meta device from its config class's defaults. LoRA
on each of its modules, under its own names and those that other classes and releases have, is put through llama.cpp's
own ``filter_tensors`` and ``modify_tensors``: taken (and as which tensor), passed over in silence, or refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import llama_cpp_on_cpu
from record_vllm import candidates, published, shallow

DATA = Path(__file__).parent.parent / "lora_packer" / "targets" / "data" / "llama-cpp-classes.json"
NAMES = DATA.with_name("llama-cpp-names.json")
_LORA_RANK = 2
_INDEX = re.compile(r"(?<=\.)\d+(?=\.|$)")
# What other classes and releases call the same module: a part of the name, and what stands there instead.
_ELSEWHERE = (
    ("model.", "model.language_model."),
    ("model.", "language_model.model."),
    ("model.language_model.", "model."),
    ("model.language_model.", "language_model.model."),
    ("model.", ""),
    ("", "model."),
)
_EXPERT_NAMES = (("gate_proj", "up_proj", "down_proj"), ("w1", "w2", "w3"))
_EXPERT_BLOCKS = ("mlp", "block_sparse_moe", "feed_forward")


def main() -> int:
    """Record every class, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "llama-cpp")
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    llama_cpp_on_cpu.prepare(llama_cpp_on_cpu.unpacked(options.cache))
    table = recorded(options.only)
    if options.only:
        print(json.dumps(table, indent=1))
    else:
        NAMES.write_text(json.dumps(names(), indent=0, sort_keys=True, separators=(",", ":")) + "\n")
        DATA.write_text(json.dumps(table, indent=0, sort_keys=True, separators=(",", ":")) + "\n")
    return 0


def names() -> dict[str, list[str]]:
    """Every name that gguf's tensor map knows, of any class, with the tensors that it may become."""
    from gguf import TENSOR_NAMES, TensorNameMap

    found: dict[str, set[str]] = {}
    of_arch = TensorNameMap.arch_block_mappings_cfg.values()
    for table in (TensorNameMap.mappings_cfg, TensorNameMap.block_mappings_cfg, *of_arch):
        for tensor, known in table.items():
            for name in known:
                to = TENSOR_NAMES[tensor].format(bid="*", xid="*")
                found.setdefault(name.format(bid="*", xid="*"), set()).add(to)
    return {name: sorted(to) for name, to in found.items()}


def recorded(only: str) -> dict[str, Any]:
    """The table: class -> which layout it has, or None where the converter does not know the class."""
    layouts: list[Any] = []
    classes: dict[str, int | None] = {}
    types: dict[str, str] = {}
    for kind, name in candidates():
        if only and not re.fullmatch(only, name):
            continue
        types.setdefault(kind, name)
        if name in classes:
            continue
        try:
            layout = layout_of(kind, name)
        except Exception as error:  # noqa: BLE001  what a class wants and is not there is anything
            print(f"{kind} {name}: {type(error).__name__} {str(error)[:200]!r}", file=sys.stderr)
            continue
        if layout is not None and layout not in layouts:
            layouts.append(layout)
        classes[name] = None if layout is None else layouts.index(layout)
        print(f"{kind} {name}", file=sys.stderr, flush=True)
    release = llama_cpp_on_cpu.RELEASE
    made_by, types = "tools/record_llama_cpp.py", {kind: name for kind, name in types.items() if name in classes}
    return {"made_by": made_by, "release": release, "classes": classes, "types": types, "layouts": layouts}


def layout_of(kind: str, name: str) -> Any:
    """What the converter makes of a class's tensors, or None where it does not know the class."""
    from transformers import AutoConfig

    config = shallow(published(name) or AutoConfig.for_model(kind).to_dict())
    config["architectures"] = [name]
    try:
        model = llama_cpp_on_cpu.converter(config)
    except NotImplementedError:
        return None
    weights = weights_of(kind, name, config)
    every = {**weights, **(dict(routers(weights, count)) if (count := experts_of(config)) else {})}
    taken, dropped = made_of(model, every)
    there = {one for of_one in taken.values() for one in of_one}
    forms: list[list[str]] = []
    others: dict[str, list[str]] = {}
    for old, new in _ELSEWHERE:
        renamed = {path: new + path.removeprefix(old) for path in every if path.startswith(old)}
        kept, _ = made_of(model, {name: every[path] for path, name in renamed.items() if name not in every})
        # A tensor that the base model has not got is refused when the file is loaded (src/llama-adapter.cpp:333-336).
        kept = {name: to for name, to in kept.items() if there.issuperset(to)}
        same = {_INDEX.sub("*", name): taken.get(_INDEX.sub("*", path)) for path, name in renamed.items()}
        if kept and all(same.get(name) == to for name, to in kept.items()):
            left = {_INDEX.sub("*", name) for path, name in renamed.items() if _INDEX.sub("*", path) in taken}
            if left - set(taken) <= set(kept):
                forms.append([old, new])
                kept = {}
        others |= kept
    layout = {
        "class": type(model).__name__,
        "architecture": model.gguf_writer.arch,
        "taken": {path: "+".join(to) for path, to in sorted((taken | others).items())},
        "forms": forms,
        "dropped": sorted(dropped - set(taken)),
        "experts": sorted(expert_names(model, config)),
    }
    return {key: value for key, value in layout.items() if value}


@dataclass(frozen=True)
class Weight:
    """The weight of a module: its shape as the file has it, and as LoRA's product has it."""

    stored: tuple[int, ...]
    product: tuple[int, int]
    transposed: bool  # a Conv1D, whose LoRA is that of the transposed weight


def weights_of(kind: str, name: str, config: Mapping[str, Any]) -> dict[str, Weight]:
    """The modules of transformers' class that LoRA can reach."""
    import torch
    import transformers
    from transformers.pytorch_utils import Conv1D

    made = type(transformers.AutoConfig.for_model(kind)).from_dict(dict(config))
    with torch.device("meta"):
        model = getattr(transformers, name)(made)
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding | Conv1D):
            rows, columns = module.weight.shape
            # PEFT's halves of an embedding are those of the transposed weight (peft/tuners/lora/layer.py::Embedding).
            turned = not isinstance(module, torch.nn.Linear)
            product = (columns, rows) if turned else (rows, columns)
            found[path] = Weight((rows, columns), product, isinstance(module, Conv1D))
    return found


def made_of(model: Any, weights: Mapping[str, Weight]) -> tuple[dict[str, list[str]], set[str]]:
    """The modules that the converter takes LoRA on and the tensors that they become, and those that it drops."""
    taken: dict[str, list[str]] = {}
    dropped: set[str] = set()
    for path, weight in weights.items():
        found = asked(model, path, weight)
        pattern = _INDEX.sub("*", path)
        if found:
            taken[pattern] = sorted({_INDEX.sub("*", one) for one in found})
        elif found is not None:
            dropped.add(pattern)
    return taken, dropped


def base_tensors(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a base model that llama.cpp has, by name, with their shapes.

    Raises NotImplementedError for a class that the converter does not know.
    """
    import torch

    model = llama_cpp_on_cpu.converter(config)
    found: dict[str, tuple[int, ...]] = {}
    weights = weights_of(config["model_type"], config["architectures"][0], config)
    for path, weight in (weights | (dict(routers(weights, count)) if (count := experts_of(config)) else {})).items():
        if path.endswith("lm_head") and config.get("tie_word_embeddings"):
            continue  # not in the checkpoint
        kept = model.filter_tensors((f"{path}.weight", lambda: None))
        if kept is None:
            continue
        block = next((int(part) for part in kept[0].split(".") if part.isdecimal()), None)
        whole = torch.zeros(weight.stored, device="meta")
        with contextlib.suppress(ValueError):  # a router's name of another class
            found |= {name: tuple(one.shape) for name, one in model.modify_tensors(whole, kept[0], block)}
    return found


def routers(weights: Mapping[str, Weight], experts: int) -> Iterator[tuple[str, Weight]]:
    """The routers of experts, which an older transformers has as modules and today's as parameters."""
    for path in weights:
        layer, _, rest = path.rpartition(".self_attn.")
        if layer and rest == "o_proj":
            hidden = weights[path].stored[0]
            for block in _EXPERT_BLOCKS:
                for name in ("gate", "router"):
                    yield f"{layer}.{block}.{name}", Weight((experts, hidden), (experts, hidden), False)


def asked(model: Any, path: str, weight: Weight) -> list[str] | None:
    """The tensors that the converter makes of LoRA on one module, [] where it drops it, None where it refuses.

    The loader refuses a tensor of another shape than the base model's (src/llama-adapter.cpp:358-371): the converter
    makes that one of the base weight.
    """
    found = through(model, [(path, weight.product)])
    if not found or path.rpartition(".")[2] in ("embed_tokens", "wte"):
        return found
    import torch

    kept = model.filter_tensors((f"{path}.weight", lambda: None))
    block = next((int(part) for part in kept[0].split(".") if part.isdecimal()), None)
    base = torch.zeros(weight.stored, device="meta")
    whole = {name: tuple(one.shape) for name, one in model.modify_tensors(base, kept[0], block)}
    tensor = lora(weight.product)
    made = dict(model.modify_tensors(tensor, kept[0], block))
    if any(tuple(one.shape) != whole.get(name) for name, one in made.items()):
        return None
    # A square weight hides that it was turned round: the halves tell.
    return None if weight.transposed and any(bool(one.get_lora_A_B()[0].any()) for one in made.values()) else found


def lora(shape: tuple[int, int]) -> Any:
    """LoRA on a weight of this shape, with nothing in its first half and ones in its second."""
    import torch
    from convert_lora_to_gguf import LoraTorchTensor

    return LoraTorchTensor(torch.zeros(_LORA_RANK, shape[1]), torch.ones(shape[0], _LORA_RANK))


def through(model: Any, weights: Iterable[tuple[str, tuple[int, int]]]) -> list[str] | None:
    """The same for several modules, one after the other, as ``ModelBase.prepare_tensors`` goes about it."""
    from convert_lora_to_gguf import LoraTorchTensor

    found: list[str] = []
    for path, shape in weights:
        kept = model.filter_tensors((f"{path}.weight", lambda: None))
        if kept is None:
            continue
        name = kept[0]
        block = next((int(part) for part in name.split(".") if part.isdecimal()), None)
        try:
            made = list(model.modify_tensors(lora(shape), name, block))
            if any(not isinstance(item, LoraTorchTensor) for _, item in made):
                return None  # the converter asserts that a tensor stays one of LoRA
        except Exception:  # noqa: BLE001  whatever it raises, it refuses
            return None
        if name == "lm_head.weight" and not made:
            return None  # "lm_head is present in adapter, but is ignored in base model"
        found += [one.removesuffix(".weight") for one, _ in made]
    return found


def experts_of(config: Mapping[str, Any]) -> int:
    """How many experts a layer has."""
    text = config.get("text_config", config)
    return next((text[key] for key in ("num_local_experts", "num_experts", "n_routed_experts") if text.get(key)), 0)


def expert_names(model: Any, config: Mapping[str, Any]) -> Iterator[str]:
    """The names that the experts of a layer may have one by one: ``PATH/NAME,NAME,NAME``."""
    count = experts_of(config)
    layers = range(config.get("text_config", config).get("num_hidden_layers") or 0)
    for block in _EXPERT_BLOCKS if count else ():
        for names in _EXPERT_NAMES:
            for layer in reversed(layers):
                path = f"model.layers.{layer}.{block}.experts"
                every = [(f"{path}.{number}.{name}", (8, 8)) for number in range(count) for name in names]
                found = through(model, every)
                left = getattr(model, "_experts", None)
                if left:
                    for waiting in left if isinstance(left, list) else [left]:
                        waiting.clear()
                if found:
                    yield f"{_INDEX.sub('*', path)}/{','.join(sorted(names))}"
                    break


if __name__ == "__main__":
    sys.exit(main())
