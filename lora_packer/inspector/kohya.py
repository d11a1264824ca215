"""The names of kohya's sd-scripts, and whose modules they are.

``networks/lora.py::LoRANetwork.create_modules`` (github.com/kohya-ss/sd-scripts): which model it is, then the module's
path with an underscore for each dot. Only the base model shows which of them were dots; PEFT's own converter goes the
same way (github.com/huggingface/peft examples/stable_diffusion/convert_sd_adapter_to_peft.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lora_packer.adapter import AdapterSource
from lora_packer.adapter.kohya import NAME, is_kohya
from lora_packer.adapter.safetensors_header import HeaderError, read_header
from lora_packer.base_model import BaseModel
from lora_packer.misplaced import weights_meant


def modules_named(names: Iterable[str], base: BaseModel) -> Mapping[str, str] | None:
    """Return the path of each module on the base model by its name in the file, or None where one is not sure."""
    found = [match for name in names if (match := NAME.fullmatch(name))]
    if len({match["prefix"] for match in found}) != 1:
        return None
    wanted = {match["flat"] for match in found}
    for modules in base.dialects.values():
        paths: dict[str, list[str]] = {}
        for path, module in modules.items():
            if module.kind != "parameter":
                paths.setdefault(flat(path), []).append(path)
        if all(len(paths.get(name, ())) == 1 for name in wanted):
            return {name: paths[name][0] for name in wanted}
    return None


def flat(path: str) -> str:
    """Return a module's path as kohya writes it."""
    return path.replace(".", "_")


def needs_no_config(source: AdapterSource, base: BaseModel | str) -> bool:
    """Whether the one file of weights is kohya's, whose tensors say what a config would, and of this base model."""
    weights = weights_meant(source.files())
    if isinstance(base, str) or len(weights) != 1 or not weights[0].endswith(".safetensors"):
        return False
    try:
        with source.open(weights[0]) as file:
            names = read_header(file, source.size(weights[0])).tensors
    except (HeaderError, OSError):
        return False
    return is_kohya(names) and modules_named(names, base) is not None
