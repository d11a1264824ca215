"""Which tensor of llama.cpp's model each tensor of an adapter becomes.

``data/llama-cpp-classes.json`` has what its converter makes of each class (``tools/record_llama_cpp.py``). The rules
are those of ``convert_lora_to_gguf.py`` and ``conversion/base.py`` of the llama.cpp in llama-cpp-python 0.3.36, and of
``src/llama-adapter.cpp`` there, which loads what was converted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lora_packer.adapter.keys import PREFIX
from lora_packer.targets.placement import HALF, Base, NotServed, Placement, every_layer, recorded
from lora_packer.targets.target import Target

_TABLE, _NAMES = "llama-cpp-classes.json", "llama-cpp-names.json"
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
# TextModel.filter_tensors (conversion/base.py:1387-1399): what has one of these in its name is no part of a text model.
_OTHER_PARTS = re.compile(
    r"^(?:mlp|vit\.|vpm\.|siglip2\.|conformer\.|merger\.|resampler\.|sound_encoder\.|sound_projection\."
    r"|speech_embeddings\.)|visual\.|vision\.|audio\.|talker\.|vision_|audio_|token2wav\.|code2wav\.|projector\."
    r"|pre_mm_projector_norm|image_newline|view_seperator|patch_embed|patch_merger\.|patch_merge_mlp\.|model\.connector\."
)


def placement(target: Target, base: Base, tensors: Collection[str]) -> Placement | NotServed | str:
    """Follow every half of an update to the tensor that it becomes; or why that is not known, or none is taken."""
    table = recorded(_TABLE)
    name = base.architecture or table["types"].get(base.model_type)
    if name not in table["classes"]:
        return f"what {target.summary} makes of {name or base.model_type} was not recorded"
    index = table["classes"][name]
    if index is None:
        return NotServed(f"{target.summary}'s converter does not know {name}")
    layout = table["layouts"][index]
    landed: dict[str, str] = {}
    nowhere: list[str] = []
    refused: dict[str, list[str]] = {}
    experts: dict[str, dict[str, set[str]]] = {}
    for tensor in tensors:
        if not HALF.search(tensor):
            continue
        path = HALF.sub("", tensor.replace(PREFIX, ""))
        to = _becomes(layout, path)
        if to is not None:
            landed[tensor] = to
        elif _OTHER_PARTS.search(path) or every_layer(path) in layout.get("dropped", ()):
            nowhere.append(tensor)
        elif one := _one_expert(layout, path):
            experts.setdefault(one[0], {}).setdefault(one[1], set()).add(one[2])
            landed[tensor] = every_layer(one[0])
        else:
            refused.setdefault(_why(path), []).append(tensor)
    if lacking := list(_lacking(layout, experts)):
        why = "stacks the experts of a layer, and refuses them where one or a projection of one has no LoRA"
        refused[why] = [name for name in landed if any(path in name for path in lacking)]
    if base.tied and (heads := [name for name, to in landed.items() if to == "output"]):
        # convert_lora_to_gguf.py writes output.weight, and a tied model has none (src/llama-adapter.cpp:333-336).
        refused["has no output head of its own, as it is tied to the input embedding, and refuses LoRA on it"] = heads
    told = {why: tuple(names) for why, names in refused.items()}
    served = f"{target.summary} converts this base model with {layout['class']}, which"
    return Placement(served, landed, tuple(nowhere), refused=told)


def _becomes(layout: Mapping[str, Any], path: str) -> str | None:
    taken: Mapping[str, str] = layout.get("taken", {})
    pattern = every_layer(path)
    if pattern in taken:
        return taken[pattern]
    for old, new in layout.get("forms", ()):
        if pattern.startswith(new) and (found := taken.get(old + pattern.removeprefix(new))):
            return found
    # A name of another class for a tensor that this one has, too (gguf/tensor_mapping.py).
    there = set(taken.values())
    known = recorded(_NAMES).get(pattern.replace("language_model.", ""), ())
    return next((one for one in known if one in there), None)


def _why(path: str) -> str:
    *_, owner, leaf = ("", *every_layer(path).split("."))
    return f"has no tensor for {f'{owner}.{leaf}' if owner else leaf}, and refuses LoRA on it"


def _one_expert(layout: Mapping[str, Any], path: str) -> tuple[str, str, str] | None:
    found = _EXPERT.fullmatch(path.replace("language_model.", ""))
    if found is None:
        return None
    of_layer = every_layer(found[1])
    for entry in layout.get("experts", ()):
        where, _, names = entry.rpartition("/")
        if where == of_layer and found[3] in names.split(","):
            return found[1], found[2], found[3]
    return None


def _lacking(layout: Mapping[str, Any], experts: Mapping[str, Mapping[str, set[str]]]) -> Iterator[str]:
    """The layers whose experts do not all have LoRA on each projection: "Unprocessed experts" (conversion/*.py)."""
    forms = [set(entry.rpartition("/")[2].split(",")) for entry in layout.get("experts", ())]
    for layer, found in experts.items():
        whole = [names for names in forms if all(of_one == names for of_one in found.values())]
        if not whole or sorted(map(int, found)) != list(range(len(found))):
            yield layer
