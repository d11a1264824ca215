"""Single fields of ``adapter_config.json``: those that PEFT does not know, and values in a form that it refuses."""

from __future__ import annotations

import json
import re

from lora_packer.adapter.config import parse_config
from lora_packer.adapter.config_mending import FIELDS, KEEP, mended_value
from lora_packer.base_model.names import cached_repo
from lora_packer.redact import escape
from lora_packer.repair.draft import Draft
from lora_packer.repair.result import repaired, skipped
from lora_packer.repair.setting import Mended, Setting

_SHOWN = 6


def known_fields(draft: Draft, _setting: Setting) -> Mended:
    """Take out the fields that PEFT does not know: today's drops them, and older releases refuse the whole config."""
    unknown = _unknown(draft)
    if not unknown:
        return draft, []
    listed = ", ".join(escape(name, 40) for name in unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
    message = f"{len(unknown)} fields that PEFT does not know were taken out: {listed}"
    proof = "no PEFT acts on them: 0.14 and newer drop them at load, and older ones refuse the config because of them"
    mended = draft.with_config(**dict.fromkeys(unknown, ...))
    return mended, [repaired("unknown-fields", "LP203", len(unknown), message, proof)]


def _unknown(draft: Draft) -> list[str]:
    problems = {problem.field for problem in parse_config(draft.config)[1] if problem.kind == "unknown"}
    return [name for name in draft.config if escape(name, 60) in problems]


def values(draft: Draft, _setting: Setting) -> Mended:
    """Write a value in the form that PEFT takes, where it is the same value: "16" for 16, null for no pattern."""
    told = []
    for name in FIELDS:
        value = mended_value(draft.config, name)
        if value is KEEP:
            continue
        before = json.dumps(draft.config.get(name)) if name in draft.config else "missing"
        draft = draft.with_config(**{name: value})
        message = f"{name} was {escape(before, 60)} and is {escape(json.dumps(value), 60)}"
        proof = "it is the same value in the form that PEFT reads"
        if name == "peft_type":
            proof = "PEFT has no other method that is called so, or that has r and lora_alpha"
        told.append(repaired("field-value", "LP202", 1, message, proof))
    return draft, list(told)


# What Unsloth and the bitsandbytes integration call 4-bit copies of a base (https://huggingface.co/unsloth).
_FOUR_BIT = re.compile(r"(?:-unsloth)?-bnb-4bit$")
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def base_id(draft: Draft, setting: Setting) -> Mended:
    """Name the base model by an id that others can find, where a 4-bit copy or a place on a disk is named."""
    named = draft.config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return draft, []
    if _HUB_ID.fullmatch(named) and _FOUR_BIT.search(named):
        meant, why = _FOUR_BIT.sub("", named), "the adapter's shapes are those of the base whose 4-bit copy it names"
    elif _is_local(named):
        found = cached_repo(named) or setting.hosted
        if found is None:
            reason = (
                f"base_model_name_or_path is '{escape(named, 80)}', a place on one machine. Say with --base-model "
                "which model it is."
            )
            return draft, [skipped("base-id", None, reason)]
        meant, why = found, "it is the repository that this place in the Hub's cache holds"
        if not cached_repo(named):
            why = "--base-model says which model it is"
    else:
        return draft, []
    message = f"base_model_name_or_path was '{escape(named, 80)}' and is '{escape(meant, 80)}'"
    proof = f"{why}; no loader takes rank, scale or shapes from this field"
    return draft.with_config(base_model_name_or_path=meant), [repaired("base-id", None, 1, message, proof)]


def _is_local(named: str) -> bool:
    return named.startswith(("/", "./", "../", "~", "\\")) or bool(re.match(r"[A-Za-z]:[\\/]", named))
