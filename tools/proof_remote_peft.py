"""What PEFT writes for a model of remote code, compared with what a check expects of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from lora_packer.adapter.config import parse_config
from lora_packer.base_model import BaseModel
from lora_packer.peft.expected import expect

RANK = 2


def target_lists(base: BaseModel) -> Iterator[Any]:
    """Yield what to target: nothing said, all linear layers, and each name that a linear layer ends in."""
    yield None
    yield "all-linear"
    linears = (path.rpartition(".")[2] for path, module in base.modules.items() if module.kind == "linear")
    for name in dict.fromkeys(linears):
        if not name.isdigit():  # which would match a layer's number too
            yield [name]


def peft_difference(model: Any, base: BaseModel) -> str | None:
    """Return the first tensor that PEFT has otherwise than expected, or None."""
    for targets in target_lists(base):
        theirs = _written(model, targets)
        raw = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": targets}
        config, _ = parse_config(raw)
        expected = expect(config, base.modules, base.default_targets)
        # PEFT refuses a target that is no layer, and one that is nowhere.
        wanted = {} if expected.unsupported else expected.required
        ours = {name: tuple(want.shape) for name, want in wanted.items()} or None
        if theirs != ours:
            names = sorted((theirs or {}).keys() ^ (ours or {}).keys()) or [
                name for name, shape in (theirs or {}).items() if (ours or {})[name] != shape
            ]
            return f"target_modules {targets}: PEFT writes {(theirs or {}).get(names[0])} for {names[0]}"
    return None


def _written(model: Any, targets: Any) -> dict[str, tuple[int, ...]] | None:
    """The tensors that PEFT writes, or None where it refuses."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

    try:
        wrapped = get_peft_model(copy.deepcopy(model), LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
    except ValueError:
        return None
    return {
        name: tuple(tensor.shape)
        for name, tensor in get_peft_model_state_dict(wrapped, save_embedding_layers=False).items()
    }
