"""What of a built model the module trees do not say: its input and output embeddings, and PEFT's default targets."""

from __future__ import annotations

from typing import Any

from lora_packer.base_model import BaseModel
from lora_packer.peft.targets import output_head


def parts_difference(theirs: Any, ours: BaseModel) -> str | None:
    """Return the first of these that the definition has otherwise than transformers and PEFT, or None."""
    paths = {id(module): path for path, module in theirs.named_modules()}
    for what, asked, answer in (
        ("input embedding", "get_input_embeddings", ours.input_embedding),
        ("output embedding", "get_output_embeddings", output_head(ours.modules)),
    ):
        try:
            module = getattr(theirs, asked)()
        except Exception:  # noqa: BLE001 - some classes have none and say so in ways of their own
            continue
        path = paths.get(id(module), "")
        if what == "input embedding" and path in ours.modules and ours.modules[path].kind != "embedding":
            continue  # of patches
        if what == "output embedding" and path in ours.modules and ours.modules[path].kind == "embedding":
            path = "none that is linear" if answer is not None else answer  # FSMT's is what its decoder reads
        if path in ours.modules and path != answer:
            return f"{what}: transformers has {path}, the definition {answer}"
    # PEFT asks the config that was built: gpt-sw3 is a gpt2 there.
    return _targets_difference(theirs.config.model_type, ours)


def _targets_difference(model_type: str, ours: BaseModel) -> str | None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    wanted = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(model_type, ())
    held: Any = ours.default_targets  # names, or a pattern
    alike = wanted == held if isinstance(wanted, str) or isinstance(held, str) else set(wanted) == set(held)
    return None if alike else f"default targets: PEFT has {wanted!r}, the definition {ours.default_targets!r}"
