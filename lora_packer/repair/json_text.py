"""The text of ``adapter_config.json``: read where all readers would agree on what it means, whatever form it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.adapter.config import CONFIG_NAME
from lora_packer.adapter.config_text import is_sure, plain_text
from lora_packer.adapter.strict_json import StrictJsonError, parse
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.repair.result import Told, repaired, skipped

_AGAIN = "Save the adapter again with save_pretrained."


@frozen
class ConfigText:
    """A config file: its fields, its bytes, and whether these have to be written anew."""

    value: Mapping[str, Any]
    data: bytes
    changed: bool


def read_config(data: bytes) -> tuple[ConfigText | None, list[Told]]:
    """Return the fields, or None where the file says nothing sure, and what was mended or not."""
    told: list[Told] = []
    plain, form = plain_text(data)
    if form is not None:
        proof = "the same characters are written as plain UTF-8"
        told.append(repaired("json", "LP102", 1, f"{CONFIG_NAME} was {form}, which JSON readers refuse", proof))
    try:
        value, doubts = parse(plain)
    except StrictJsonError as error:
        reason = f"{CONFIG_NAME} is not JSON: {escape(str(error))}. {_AGAIN}"
        return None, [skipped("json", "LP102", reason)]
    if not isinstance(value, dict) or not value:
        return None, [skipped("json", "LP102", f"{CONFIG_NAME} holds no fields. {_AGAIN}")]
    if doubts and not is_sure(plain):
        reason = f"{CONFIG_NAME}: {doubts[0].message}, and readers take different values. Write the one of training."
        return ConfigText(value, data, changed=False), [skipped("json", "LP103", reason)]
    if doubts:
        proof = "each time it has the same value, so that every reader takes that"
        names = ", ".join(f"'{escape(doubt.key, 40)}'" for doubt in doubts)
        told.append(repaired("json", "LP103", len(doubts), f"{names} stands once now", proof))
    return ConfigText(value, data, changed=bool(told)), told
