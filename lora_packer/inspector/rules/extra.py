"""Tensors that nothing expects, told by cause (LP313 to LP317, LP320)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lora_packer.adapter.keys import WEIGHTS_NAME, parse_key
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case, Tensor
from lora_packer.inspector.foreign import tool_of
from lora_packer.inspector.leftovers import Leftover, Leftovers, Why, base_shape
from lora_packer.inspector.narrowing import exact_change
from lora_packer.inspector.rules.rule import OF_ANOTHER_BASE, Rule
from lora_packer.inspector.rules.shapes import WRONG_BASE
from lora_packer.inspector.words import counted
from lora_packer.peft.targets import targeting
from lora_packer.redact import escape

DROPPED_BY_CONFIG = Rule(
    "LP313",
    "dropped-by-config",
    "error",
    "The file has trained tensors for modules that the config does not target.",
    "PEFT drops them in silence, and the adapter does not act as it was trained.",
    "Correct target_modules, exclude_modules or layers_to_transform.",
    needs="base",
)
FLAG_OFF = Rule(
    "LP314",
    "flag-off",
    "error",
    "The file has tensors of a feature that the config has switched off.",
    "PEFT drops them in silence, and the adapter does not act as it was trained.",
    "Write the field into adapter_config.json as it was in training.",
    needs="base",
)
BASE_WEIGHTS = Rule(
    "LP315",
    "base-weights",
    "error",
    "The file has weights of the base model itself.",
    "They overwrite the base model's own weights at load, also for everybody else who uses that base.",
    "If they were trained, name their modules in modules_to_save; if not, remove them.",
    needs="base",
)
UNKNOWN_TENSOR = Rule(
    "LP316",
    "unknown-tensor",
    "warning",
    "The file has tensors that belong to nothing in the base model.",
    "PEFT ignores them in silence; stricter engines refuse the adapter.",
    "Check that the base model is the right one; if it is, export the adapter again with the tool that trained it.",
    needs="base",
    explains=OF_ANOTHER_BASE,
    retold="; {message}",
)
LAYER_OUT_OF_RANGE = Rule(
    "LP317",
    "layer-out-of-range",
    "error",
    "The file has tensors for layers or experts that the base model does not have.",
    "PEFT drops them in silence. It means another base model.",
    "Give the config of the base model that the adapter was trained on.",
    needs="base",
    retold="; {message}",
)
SAVED_EMBEDDINGS = Rule(
    "LP320",
    "saved-embeddings",
    "warning",
    "The file has full embeddings that the config does not mention.",
    "They overwrite the base model's own embeddings at load, and many servers refuse them.",
    "If they were trained, name them in modules_to_save; if not, remove them (save_embedding_layers=False does).",
    needs="base",
)


def unexpected(extra: Leftovers, case: Case, elsewhere: str = "") -> Iterator[Finding]:
    """Yield one finding for each cause; ``elsewhere`` is what the same cause left without tensors."""
    for why, items in extra.by_cause().items():
        yield _told(why, items, extra, case, elsewhere)


def too_many(message: str, count: int) -> Finding:
    """Return the finding for a file of so many tensors that it is not compared name by name."""
    return UNKNOWN_TENSOR.finding(message, severity="error", file=WEIGHTS_NAME, actual=count)


def _told(why: Why, items: tuple[Leftover, ...], extra: Leftovers, case: Case, elsewhere: str) -> Finding:
    first = items[0].tensor
    details: dict[str, Any] = {"file": WEIGHTS_NAME, "actual": list(first.info.shape)}
    details["tensors"] = [item.tensor.name for item in items]
    what = escape(", ".join(sorted({item.what for item in items})), 120)
    tensors = counted(len(items))
    match why:
        case "past":
            return _past(tensors, extra, case, elsewhere, details)
        case "feature":
            message = f"{tensors} would be dropped: the config does not set {what}"
            on = _switching_on(what, items, case)
            return FLAG_OFF.finding(message, field=what, hint=on, fixable=on in _SWITCHES, **details)
        case "untargeted":
            field = _excluding_field(first.module, case)
            because = "" if field == "target_modules" else f" because of {field}"
            message = f"{tensors} would be dropped: the config does not target {what}{because}{elsewhere}"
            hint = _targeting(field, what, case)
            return DROPPED_BY_CONFIG.finding(message, field=field, hint=hint, fixable=hint is not None, **details)
        case "surplus":
            message = f"{tensors} would be dropped: the LoRA that the config puts on {what} has none of that name"
            return DROPPED_BY_CONFIG.finding(message + elsewhere, hint=_HINT_SURPLUS, **details)
        case "embeddings":
            return _embeddings(tensors, case, details)
        case "misfits":
            message = f"{tensors} with full embeddings of another shape than this base model's"
            return WRONG_BASE.finding(message, expected=_base_shape(first, case), **details)
        case "base":
            hint = _keeping(items, case)
            return BASE_WEIGHTS.finding(f"{tensors} would overwrite the base model's own weights", hint=hint, **details)
        case "misshapen":
            message = f"{tensors} of the base model's own weights in another shape: PEFT raises a size mismatch"
            return BASE_WEIGHTS.finding(message, expected=_base_shape(first, case), **details)
        case "lora":
            message = f"{tensors} of modules that {case.base_name} does not have would be dropped"
            fused = any(m.kind == "parameter" and len(m.weight_shape) == 3 for m in case.modules.values())
            tool = tool_of((item.tensor.name for item in items), fused=fused)
            if tool is not None:
                message += f" ({tool.name})"
            return UNKNOWN_TENSOR.finding(message, severity="error", hint=tool.way_out if tool else None, **details)
        case "unknown":
            belongs = counted(len(items), "belongs", "belong")
            hint = _HINT_UNKNOWN if case.difference.matched else None
            return UNKNOWN_TENSOR.finding(f"{belongs} to nothing in {case.base_name}", hint=hint, **details)


def _targeting(field: str, what: str, case: Case) -> str | None:
    """The change after which the config targets what the file has."""
    if field == "modules_to_save":
        return f"Take {what} out of modules_to_save, whose weights the file does not have."
    change = exact_change(case)
    return str(change) if change else None


# What makes a file whole that has the tensors of a feature for every module.
_SWITCHES = ("Set lora_bias to true.", "Set use_dora to true.")


def _switching_on(field: str, items: Sequence[Leftover], case: Case) -> str | None:
    """The field and its value, where with it the file is whole."""
    if field == "lora_bias":
        return _SWITCHES[0]
    if field != "use_dora":
        return None
    modules = len({item.tensor.module for item in items})
    if modules == len(case.expectation.targeted):
        return _SWITCHES[1]
    lacking = counted(len(case.expectation.targeted) - modules, noun="other module")
    return f"Save the adapter again with use_dora: {lacking} should have one too."


def _keeping(items: Sequence[Leftover], case: Case) -> str | None:
    """Where to name modules whose weights were trained; a module with LoRA cannot be saved whole besides."""
    owners = list(dict.fromkeys(item.tensor.owner for item in items))
    if any(owner in case.expectation.targeted for owner in owners):
        return "Remove them: modules that get LoRA keep the base model's own weights."
    if len(owners) > _OWNERS_TOLD:
        return None
    return f"If they were trained, add {json.dumps(owners)} to modules_to_save; if not, remove them."


_OWNERS_TOLD = 3
_HINT_UNKNOWN = "Remove them, which changes nothing that PEFT loads; if they were trained, export the adapter again."
_HINT_SURPLUS = "Save the adapter with PEFT's save_pretrained, or remove these tensors if they are left over."


def _past(tensors: str, extra: Leftovers, case: Case, elsewhere: str, details: dict[str, Any]) -> Finding:
    what, last = extra.past or ("layers", -1)
    message = f"{tensors} for {what} that {case.base_name} does not have (its last is {last}){elsewhere}"
    return LAYER_OUT_OF_RANGE.finding(message, expected=f"{what} 0 to {last}", **details)


def _base_shape(tensor: Tensor, case: Case) -> list[int]:
    return list(base_shape(tensor, case) or ())


# The fields that take modules away from target_modules, and what each has when it does not.
_EXCLUDING: Mapping[str, Mapping[str, Any]] = {
    "exclude_modules": {"exclude_modules": None},
    "layers_to_transform": {"layers_to_transform": None, "layers_pattern": ()},
    "modules_to_save": {"modules_to_save": (), "task_type": None},
}


def _excluding_field(path: str, case: Case) -> str:
    """The field without which the config would target the module."""
    if path in case.modules:
        for name, absent in _EXCLUDING.items():
            if targeting(replace(case.config, **absent), case.modules, case.base.default_targets)(path):
                return name
    return "target_modules"


def _embeddings(tensors: str, case: Case, details: dict[str, Any]) -> Finding:
    """PEFT saves the input and the output embedding together, or one that was trained (modules_to_save).

    An input embedding alone that the config does not mention replaces the base's and nobody meant it.
    """
    message = f"{tensors} with full embeddings of the base model"
    head = case.output_head
    if head is None or any(Tensor(name, parse_key(name), info).owner == head for name, info in case.tensors.items()):
        return SAVED_EMBEDDINGS.finding(message, **details)
    message += " and without its output head: it would overwrite the base's embedding"
    return SAVED_EMBEDDINGS.finding(message, severity="error", **details)
