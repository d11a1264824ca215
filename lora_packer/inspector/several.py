"""Names and a config that are wrong at once: what each hides of the other, and whether both can be mended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from lora_packer.adapter import LoraConfig
from lora_packer.adapter.keys import key_name, parse_key
from lora_packer.adapter.plain import guessed_name
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel, Modules
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case
from lora_packer.inspector.diagnosis import Diagnosis, diagnose
from lora_packer.inspector.loading import as_peft_loads
from lora_packer.inspector.matching import core_of
from lora_packer.inspector.narrowing import exact_change
from lora_packer.inspector.todays import by_core

Tensors = Mapping[str, TensorInfo]
_MOST_TENSORS = 20_000  # to judge so many takes a tenth of a second, and this does it twice


def placed(case: Case, names: Iterable[str]) -> Mapping[str, str] | None:
    """Return for each tensor the name of the module of this base model that it names, whatever the config targets.

    None where one names none, two name one, or all have such names already.
    """
    given, modules = tuple(names), case.modules
    if all(_is_of(name, modules) for name in given):
        return None
    places = by_core(modules)
    found = {name: _placed(name, modules, places) for name in given}
    sure = len(set(found.values())) == len(given) and all(_is_of(name, modules) for name in found.values())
    return found if sure else None


def _is_of(name: str, modules: Modules) -> bool:
    """Whether it is PEFT's name for a LoRA tensor of one of these modules."""
    key = parse_key(name)
    return bool(key.part) and key.prefixed and name == key_name(key.path, _whole(key.part)) and key.path in modules


def _whole(part: str) -> str:
    """The part as PEFT writes it: some tools leave the last word out."""
    return f"{part}.weight" if part in ("lora_A", "lora_B") else part


def _placed(name: str, modules: Modules, places: Mapping[str, str | None]) -> str:
    guess = guessed_name(name)
    key = parse_key(guess)
    place = key.path if key.path in modules else places.get(core_of(key_name(key.path, "")))
    return guess if place is None or not key.part else key_name(place, _whole(key.part))


def told_fixable(
    findings: tuple[Finding, ...], found: Diagnosis, config: LoraConfig, base: BaseModel, tensors: Tensors, target: str
) -> tuple[Finding, ...]:
    """Return the findings, with those told as fixable that go when the names are put right, and then the config.

    Raises PatternError.
    """
    if all(item.fixable or item.severity == "info" for item in findings) or len(tensors) > _MOST_TENSORS:
        return findings
    names = None if found.case.sources else placed(found.case, tensors)
    if names is None:
        return findings
    after = _with_its_config({names[name]: info for name, info in tensors.items()}, config, base, target)
    if any(not item.fixable for item in after.errors):
        return findings
    left = {item.code for item in after.findings}
    return tuple(
        item if item.severity == "info" or item.code in left else replace(item, fixable=True) for item in findings
    )


def _with_its_config(tensors: Tensors, config: LoraConfig, base: BaseModel, target: str) -> Diagnosis:
    """How the tensors stand with the config, or with the change to it that reaches all of them."""
    found = as_peft_loads(diagnose(config, base, tensors), config, base, tensors, target)
    change = exact_change(found.as_given or found.case) if found.errors else None
    if change is None:
        return found
    changed = replace(config, **change.fields())
    return as_peft_loads(diagnose(changed, base, tensors), changed, base, tensors, target)
