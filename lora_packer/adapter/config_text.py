"""The text of ``adapter_config.json`` in forms that JSON readers refuse or disagree about, and that mean one thing."""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

from lora_packer.adapter.strict_json import StrictJsonError, parse

# A byte order mark says which encoding it is (https://www.unicode.org/faq/utf_bom.html).
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)


def plain_text(data: bytes) -> tuple[bytes, str | None]:
    """Return a text that begins with a byte order mark as plain UTF-8, and what it was; any other one as it is."""
    for mark, encoding, name in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(encoding).encode(), name
            except UnicodeError:
                return data, None
    return data, None


def is_sure(data: bytes) -> bool:
    """Whether a text says one thing, in whatever form: an object whose keys, where they stand twice, have one value."""
    plain, _ = plain_text(data)
    try:
        value, doubts = parse(plain)
    except StrictJsonError:
        return False
    return isinstance(value, dict) and bool(value) and (not doubts or _agree(plain))


def _agree(data: bytes) -> bool:
    """Whether equal keys have equal values everywhere, and every number is one that JSON has."""
    same = True

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal same
        result: dict[str, Any] = {}
        for key, value in pairs:
            is_number = not isinstance(value, float) or math.isfinite(value)
            same = same and is_number and (key not in result or json.dumps(result[key]) == json.dumps(value))
            result[key] = value
        return result

    json.loads(data.decode(), object_pairs_hook=check)
    return same
