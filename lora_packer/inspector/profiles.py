"""Targets: the places that load an adapter, and what each is known to do with LoRA's features.

``profiles.json`` holds them as data, with the source of each statement. What a target does not state is a warning that
says so, never an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lora_packer.adapter.adapter import Adapter
from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.errors import InputError
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.redact import escape

DEFAULT_TARGET = "together"


@dataclass(frozen=True, slots=True)
class Profile:
    """One target: its name, and the features it documents nothing about (field -> what to call it)."""

    name: str
    summary: str
    unstated: Mapping[str, str]


@cache
def _profiles() -> Mapping[str, Profile]:
    text = Path(__file__).with_name("profiles.json").read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = json.loads(text)["profiles"]
    return {name: Profile(name, item["summary"], item["unstated"]) for name, item in data.items()}


def profile(name: str) -> Profile:
    """Return the target's profile. Raises InputError."""
    found = _profiles().get(name)
    if found is None:
        raise InputError(f"there is no target '{escape(name, 60)}'.", hint=f"Known: {', '.join(sorted(_profiles()))}.")
    return found


def check_target(target: Profile, adapter: Adapter, config: LoraConfig, base_model: str | None) -> list[Finding]:
    """Return what the target makes of the config's features, and of the base model's name."""
    findings = list(_unstated(target, config, adapter.raw_config))
    named = config.base_model_name_or_path
    if base_model and named and _base_name(named) != _base_name(base_model):
        message = f"adapter_config.json names the base model '{escape(named, 80)}', not '{escape(base_model, 80)}'"
        findings.append(
            rules.OTHER_BASE_NAMED.finding(
                message, file=CONFIG_NAME, field="base_model_name_or_path", expected=base_model, actual=escape(named)
            )
        )
    return findings


def _base_name(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].lower()


def _unstated(target: Profile, config: LoraConfig, raw: Mapping[str, Any]) -> Iterable[Finding]:
    used = [field for field in target.unstated if _uses(field, config, raw)]
    if used:
        named = ", ".join(f"{field} ({target.unstated[field]})" for field in used)
        message = f"{target.summary} says nothing about {named}"
        yield rules.UNSTATED_FEATURE.finding(message, file=CONFIG_NAME, field=used[0], count=len(used))


def _uses(field: str, config: LoraConfig, raw: Mapping[str, Any]) -> bool:
    if field == "bias":
        return config.bias != "none"
    value = getattr(config, field) if hasattr(config, field) else raw.get(field)
    return bool(value)
