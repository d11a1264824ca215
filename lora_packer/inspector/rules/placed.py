"""Where each tensor lands in the class that an engine serves the base model with (LP516, and refusals as LP514)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.rules.served import CONDITIONAL_FEATURE, MODULE_AT_TARGET
from lora_packer.redact import escape
from lora_packer.targets.served import Layout, place, served_class
from lora_packer.targets.target import Target

LANDS_NOWHERE = Rule(
    "LP516",
    "lands-nowhere",
    "error",
    "Tensors land on no module of the class that the target serves the base model with.",
    "The target loads the adapter without a word and answers without these tensors: as the base model if none lands.",
    "Train on the class that the base config names, or serve it with another target: --target all shows where.",
    needs="base",
)
_SHOWN = 60  # characters of a module's path


def engines(target: Target) -> Sequence[Target]:
    """Return the engines, of those that the target is, whose classes are known by name."""
    return [one for one in target.engines or (target,) if one.placement == "vllm"]


def placed(among: Iterable[Target], base: BaseModel, tensors: Collection[str]) -> tuple[tuple[Finding, ...], str]:
    """Return what becomes of the tensors in the class that serves the base model, and why that is not known, or ""."""
    findings: list[Finding] = []
    why = ""
    for target in among:
        layout = served_class(target, base.named_class, base.model_type)
        if isinstance(layout, str):
            why = layout
        elif layout is None:
            findings.append(_without_lora(target, base, tensors))
        else:
            findings += _in_class(target, layout, tensors)
    return tuple(findings), why


def _without_lora(target: Target, base: BaseModel, tensors: Collection[str]) -> Finding:
    name = escape(base.named_class or f"the class of {base.model_type}", _SHOWN)
    message = f"{target.summary} {target.version} serves {name} without LoRA: with --enable-lora it does not start"
    return MODULE_AT_TARGET.finding(message, file=WEIGHTS_NAME, tensors=sorted(tensors))


def _in_class(target: Target, layout: Layout, tensors: Collection[str]) -> Iterator[Finding]:
    found = place(layout, target, tensors)
    served = f"{target.summary} {target.version} serves this base model with {layout.name}, which"
    for why, names in found.refused.items():
        yield MODULE_AT_TARGET.finding(f"{served} {escape(why, 200)}", file=WEIGHTS_NAME, tensors=names)
    if found.in_towers:
        setting = "has LoRA outside the language model only with --enable-tower-connector-lora"
        hint = "Start the server with --enable-tower-connector-lora."
        yield CONDITIONAL_FEATURE.finding(f"{served} {setting}", hint=hint, file=WEIGHTS_NAME, tensors=found.in_towers)
    if not found.nowhere or found.refused:
        return
    first = escape(found.nowhere[0], _SHOWN * 2)
    if found.landed or found.in_towers:
        count = len(found.nowhere) + len(found.landed) + len(found.in_towers)
        message = f"{served} has no module for {len(found.nowhere)} of {count} tensors and ignores them: {first}"
    else:
        message = f"{served} has no module for any of the tensors: it answers as the base model. The first is {first}"
    yield LANDS_NOWHERE.finding(message, file=WEIGHTS_NAME, tensors=found.nowhere)
