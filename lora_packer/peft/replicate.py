"""``layer_replication``: a model's layers listed again, some of them several times."""

from __future__ import annotations

from collections.abc import Sequence

from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import Module, Modules
from lora_packer.peft.targets import containers

Ranges = Sequence[tuple[int, int]]
# More than any model has with its layers listed twice or three times.
_MOST_MODULES = 300_000


def layers_of(modules: Modules) -> tuple[str, int] | None:
    """Return the path and the length of the list of layers that PEFT replicates, or None where it finds none.

    It follows ``model.model...`` and looks for the names that Llama, Bert and Falcon give their layers
    (peft/tuners/tuners_utils.py::replicate_layers).
    """
    paths = containers(modules)
    root = ""
    while f"{root}model" in paths:
        root += "model."
    if f"{root}bert" in paths:
        root += "bert."
    stack = next((root + name for name in ("layers", "encoder.layer", "h") if root + name in paths), None)
    if stack is None:
        return None
    indices = {path[len(stack) + 1 :].partition(".")[0] for path in modules if path.startswith(f"{stack}.")}
    return (stack, len(indices)) if all(map(str.isdecimal, indices)) else None


def replicated(modules: Modules, ranges: Ranges) -> Modules:
    """Return the modules with the layers of each [start, end) one after another; unchanged where there are none.

    Raises PatternError where they would be too many.
    """
    found = layers_of(modules)
    if found is None:
        return modules
    stack = found[0] + "."
    layers: dict[int, list[tuple[str, Module]]] = {}
    result: dict[str, Module] = {}
    for path, module in modules.items():
        if path.startswith(stack):
            index, _, rest = path[len(stack) :].partition(".")
            layers.setdefault(int(index), []).append((rest, module))
        else:
            result[path] = module
    order = (index for start, end in ranges for index in range(start, end))
    for position, source in enumerate(order):
        from_the_end = source + found[1] if source < 0 else source
        result |= {f"{stack}{position}.{rest}": module for rest, module in layers.get(from_the_end, [])}
        if len(result) > _MOST_MODULES:
            raise PatternError("unsupported", f"layer_replication makes more than {_MOST_MODULES} modules")
    return result
