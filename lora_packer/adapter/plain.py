"""A tensor's name as PEFT writes it, as far as the name alone says."""

from __future__ import annotations

import re

from lora_packer.adapter.keys import PREFIX, WRAPPER_SEGMENTS, canonical_name, parse_key

_LOWER = re.compile(r"\.lora_([ab])(?=\.|$)")
_PREFIXES = re.compile(r"(?:base_model\.model\.)+")


def guessed_name(name: str) -> str:
    """Return the plain name, with PEFT's prefix before whatever has the name of a LoRA tensor: likely, and not sure."""
    plain = plain_name(name)
    return plain if PREFIX in plain or not parse_key(plain).part else PREFIX + plain


def plain_name(name: str) -> str:
    """Return the name without what no base model has in it, with PEFT's prefix; another framework's stays."""
    segments = [segment for segment in name.split(".") if segment not in WRAPPER_SEGMENTS]
    plain = ".".join(segments)
    at = plain.rfind(PREFIX)
    if at < 0:
        known = plain.startswith("model.") and parse_key(plain).part
        return PREFIX + canonical_name(plain) if known else name
    if at > 0 and plain[:at].strip(".") and not _PREFIXES.fullmatch(plain[:at]):
        return name
    return canonical_name(_LOWER.sub(lambda found: f".lora_{found[1].upper()}", plain[at:]))
