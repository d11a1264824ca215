"""Where each tensor lands in what an engine makes of the base model (LP516, and refusals as LP514)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.rules.limits import MODULE_AT_TARGET
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.rules.served import CONDITIONAL_FEATURE
from lora_packer.redact import escape
from lora_packer.targets.placement import Base, NotServed, Placement
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


# Whose names, rules and order are known.
_ENGINES = frozenset({"vllm", "sglang", "llama.cpp"})


def _placement(
    target: Target, base: Base, config: LoraConfig | None, tensors: Collection[str]
) -> Placement | NotServed | str:
    """Where the tensors land in one engine; each is loaded where it is asked."""
    if target.placement == "vllm":
        from lora_packer.targets import vllm

        return vllm.placement(target, base, tensors)
    if target.placement == "sglang":
        from lora_packer.targets import sglang

        return sglang.placement(target, base, tensors, None if config is None else config.target_modules)
    from lora_packer.targets import llama_cpp

    return llama_cpp.placement(target, base, tensors)


def engines(target: Target) -> Sequence[Target]:
    """Return the engines, of those that the target is, whose classes are known by name."""
    return [one for one in target.engines or (target,) if one.placement in _ENGINES]


def placed(
    among: Iterable[Target], base: BaseModel, config: LoraConfig | None, tensors: Collection[str]
) -> tuple[tuple[Finding, ...], str]:
    """Return what becomes of the tensors in what serves the base model, and why that is not known, or ""."""
    findings: list[Finding] = []
    why = ""
    for target in among:
        found = _placement(target, _served(base), config, tensors)
        if isinstance(found, str):
            why = found
        elif isinstance(found, NotServed):
            said = escape(found.why, 200)
            findings.append(MODULE_AT_TARGET.finding(said, file=WEIGHTS_NAME, tensors=sorted(tensors)))
        else:
            findings += _told(found)
    return tuple(findings), why


def is_placed(target: Target, base: BaseModel, config: LoraConfig) -> bool:
    """Whether it is known where this target puts every tensor, so that no feature of them needs a warning."""
    known = target.placement in _ENGINES
    return known and isinstance(_placement(target, _served(base), config, ()), Placement)


def _served(base: BaseModel) -> Base:
    return Base(base.named_class, base.model_type, base.tied)


def _told(found: Placement) -> Iterator[Finding]:
    served = escape(found.served, 200)
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
