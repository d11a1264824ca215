"""A target's data file becomes a :class:`Target`: the facts of one release."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lora_packer.errors import InputError
from lora_packer.redact import escape
from lora_packer.targets.target import Fact, ModuleNames, RankLimits, Target, numbers

NAMES = (
    "together",
    "peft",
    "vllm",
    "sglang",
    "tgi",
    "lorax",
    "tensorrt-llm",
    "llama-cpp",
    "mlx",
    "lmdeploy",
    "fireworks",
    "cloudflare",
    "sagemaker",
    "nim",
    "portable",
)
_DATA = Path(__file__).with_name("data")


@cache
def find_target(asked: str) -> Target:
    """Return the target of this name: ``vllm``, or with a release ``vllm@0.31.0``. Raises InputError."""
    name, at, version = asked.partition("@")
    if name not in NAMES:
        near = difflib.get_close_matches(name.lower(), NAMES, 1, 0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"there is no target '{escape(name, 60)}'.", hint=f"{hint}Known: {', '.join(NAMES)}.")
    data = tomllib.loads((_DATA / f"{name}.toml").read_text(encoding="utf-8"))
    return _target(data, name, _release(data.get("versions", ()), name, version if at else None), asked)


def _release(read: Sequence[str], name: str, asked: str | None) -> str | None:
    """The release that is asked about. Raises InputError where nothing was read of it."""
    if asked is None:
        return read[-1] if read else None
    shown = escape(asked, 40)
    if not read:
        raise InputError(
            f"the target '{name}' has no releases here, so that nothing is known of '{shown}'.", hint=f"Give {name}."
        )
    try:
        wanted = numbers(asked)
    except ValueError:
        raise InputError(
            f"'{shown}' is no release of {name}: one is written like {read[-1]}.", hint=f"Give {name}@{read[-1]}."
        ) from None
    if numbers(read[0]) <= wanted <= numbers(read[-1]):
        return asked
    nearest = read[0] if wanted < numbers(read[0]) else read[-1]
    known = read[0] if len(read) == 1 else f"{read[0]} to {read[-1]}"
    raise InputError(f"of {name} {shown} nothing is known: what was read is {known}.", hint=f"Give {name}@{nearest}.")


def _target(data: Mapping[str, Any], name: str, version: str | None, label: str) -> Target:
    rank, modules, size = data.get("rank", {}), data.get("modules"), data.get("size", {})
    config = {key: tuple(value) for key, value in data.get("config", {}).items() if key != "source"}
    return Target(
        name=name,
        version=version,
        label=label,
        summary=data["summary"],
        kind=data["kind"],
        facts=MappingProxyType({item["of"]: _fact(item) for item in data.get("facts", ()) if _holds(item, version)}),
        otherwise=data.get("otherwise", "supported"),
        rank=RankLimits(
            rank.get("least", 1),
            rank.get("most"),
            rank.get("default"),
            rank.get("setting"),
            tuple(rank.get("choices", ())),
            rank.get("source", ""),
        ),
        modules=modules and ModuleNames(frozenset(modules["names"]), modules["effect"], modules["source"]),
        placement=data.get("placement", ""),
        most_bytes=size.get("most_bytes"),
        size_source=size.get("source", ""),
        config=MappingProxyType(config),
        config_source=data.get("config", {}).get("source", ""),
        files=frozenset(data.get("files", ())),
        files_source=data.get("files_source", ""),
        smallest_safe_rank=data.get("smallest_safe_rank", 0),
        rank_multiple=data.get("advised_rank_multiple", 0),
        rank_advice=data.get("smallest_safe_rank_source", data.get("advised_rank_multiple_source", "")),
        engine=find_target(data["engine"]) if "engine" in data else None,
        engines=tuple(find_target(one) for one in data.get("engines", ())),
    )


def _fact(item: Mapping[str, str]) -> Fact:
    return Fact(item["of"], item["effect"], item.get("says", ""), item.get("source", ""), item.get("by", ""))  # type: ignore[arg-type]


def _holds(item: Mapping[str, str], version: str | None) -> bool:
    """Whether a fact is one of this release: ``versions`` is ``>=A``, ``<B`` or ``>=A,<B``."""
    for bound in item.get("versions", "").split(","):
        if bound and version is not None:
            limit = numbers(bound.lstrip("<>="))
            if not (numbers(version) >= limit if bound.startswith(">=") else numbers(version) < limit):
                return False
    return True
