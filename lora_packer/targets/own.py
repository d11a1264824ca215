"""``--target-file``: a server of one's own, as a small TOML file says what it runs and takes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_packer.errors import InputError
from lora_packer.redact import escape
from lora_packer.targets.load import find_target
from lora_packer.targets.target import ModuleNames, RankLimits, Target
from lora_packer.toml_file import read_toml

_DTYPES = ("BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2")
# Field -> what it has to be, in words.
_FIELDS: Mapping[str, str] = MappingProxyType(
    {
        "engine": "a target's name, such as 'vllm'",
        "version": "a release of the engine, such as '0.31.0'",
        "max_rank": "a whole number above 0",
        "modules": "a list of the last names of modules, such as ['q_proj', 'v_proj']",
        "dtypes": f"a list of {', '.join(_DTYPES)}",
        "max_bytes": "a whole number above 0",
    }
)


def read_target_file(file: str | Path) -> Target:
    """Return the server that a file describes: the engine's facts with its own limits. Raises InputError."""
    path = Path(file)
    shown = escape(str(path))
    data = read_toml(path, "the target file")
    for key, value in data.items():
        if key not in _FIELDS:
            near = difflib.get_close_matches(key, _FIELDS, 1, 0.5)
            hint = (f"Did you mean {near[0]}? " if near else "") + f"Known: {', '.join(_FIELDS)}."
            raise InputError(f"the target file '{shown}' has a key that is not known: '{escape(key, 60)}'.", hint=hint)
        if not _fits(key, value):
            told = escape(str(value), 60)
            raise InputError(f"the target file '{shown}': {key} is {told}, which is not {_FIELDS[key]}.")
    if "engine" not in data:
        raise InputError(f"the target file '{shown}' names no engine.", hint='Write engine = "vllm", or another one.')
    asked = f"{data['engine']}@{data['version']}" if "version" in data else data["engine"]
    try:
        engine = find_target(asked)
    except InputError as error:
        raise InputError(f"the target file '{shown}': {error.message}", hint=error.hint) from None
    label = escape(path.stem, 60)
    limits = RankLimits(most=data.get("max_rank"), source=shown) if "max_rank" in data else engine.rank
    modules = ModuleNames(frozenset(data["modules"]), "rejected", shown) if "modules" in data else engine.modules
    return replace(
        engine,
        name=label,
        label=label,
        summary=f"{label} ({engine.summary})",
        rank=limits,
        modules=modules,
        dtypes=frozenset(data.get("dtypes", ())),
        most_bytes=data.get("max_bytes", engine.most_bytes),
        size_source=shown if "max_bytes" in data else engine.size_source,
    )


def _fits(key: str, value: Any) -> bool:
    if key in ("max_rank", "max_bytes"):
        return type(value) is int and value > 0
    if key in ("engine", "version"):
        return isinstance(value, str) and bool(value)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        return False
    return key == "modules" or all(item in _DTYPES for item in value)
