"""A hostile case: what it puts into a folder, the command that meets it, and what may come out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
TINY_BASE = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"

# A credential that must never be seen in anything the program prints, writes or passes on.
CANARY = "hf_CanaryCanaryCanaryCanaryCanary0"

OK, FAILED, UNREADABLE, INCONCLUSIVE, UPLOAD, SERVICE, WAITING = range(7)
# What a check may end with, whatever it is given.
CHECKED = frozenset({OK, FAILED, UNREADABLE, INCONCLUSIVE})

Arguments = Sequence[str]
Build = Callable[[Path], Arguments]


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile input.

    Attributes:
        kind: the group it is told under.
        name: what is hostile about it.
        build: makes the input in a folder, and returns the arguments of ``lora-packer``; run with it as working folder.
        exits: the exit codes that are right.
        environment: variables that are set.
        stdout: where the standard output goes: kept, closed at once, or the device that is always full.
        leaves: names (globs) that may be in the folder afterwards beside what ``build`` made.
        silent: whether it may say nothing.
        short_deadlines: whether requests have a short deadline (``short.py``).
        signal_after: a signal and the seconds after which it is sent.
        seconds, megabytes: what it may take: of the processor's time, of memory.
        deadline: seconds after which it is killed.
        judge: looks at the folder afterwards, and returns what is wrong with it.
    """

    kind: str
    name: str
    build: Build
    exits: frozenset[int] = CHECKED
    environment: Mapping[str, str] = field(default_factory=dict)
    stdout: str = "kept"
    leaves: Sequence[str] = ()
    silent: bool = False
    short_deadlines: bool = False
    signal_after: tuple[int, float] | None = None
    seconds: float = 2.0
    megabytes: int = 300
    deadline: float = 30.0
    judge: Callable[[Path], str | None] | None = None


def check(*more: str) -> Arguments:
    """The arguments of a check of the adapter ``a`` against the tiny base model."""
    return ["check", "a", "--base-config", str(TINY_BASE), *more]


def tiny(folder: Path, **changes: Any) -> Path:
    """Copy the tiny adapter to ``a``, with changes to its config; ``...`` takes a field out."""
    target = folder / "a"
    shutil.copytree(TINY, target)
    if changes:
        write_config(target, changes)
    return target


def write_config(adapter: Path, changes: Mapping[str, Any]) -> None:
    """Change fields of the adapter's config."""
    config = json.loads((TINY / "adapter_config.json").read_text())
    config.update(changes)
    kept = {key: value for key, value in config.items() if value is not ...}
    (adapter / "adapter_config.json").write_text(json.dumps(kept))


def with_config(changes: Mapping[str, Any], *more: str) -> Build:
    """Return what makes a tiny adapter with these fields, to be checked."""

    def build(folder: Path) -> Arguments:
        tiny(folder, **changes)
        return check(*more)

    return build


def with_config_text(text: str | bytes, *more: str) -> Build:
    """Return what makes a tiny adapter with exactly this config file."""

    def build(folder: Path) -> Arguments:
        raw = text.encode() if isinstance(text, str) else text
        (tiny(folder) / "adapter_config.json").write_bytes(raw)
        return check(*more)

    return build


def with_base(config: Mapping[str, Any] | str | bytes) -> Build:
    """Return what checks the tiny adapter against this base config."""

    def build(folder: Path) -> Arguments:
        tiny(folder)
        raw = (
            config
            if isinstance(config, bytes)
            else (config if isinstance(config, str) else json.dumps(config)).encode()
        )
        (folder / "base.json").write_bytes(raw)
        return ["check", "a", "--base-config", "base.json"]

    return build


def base(**changes: Any) -> dict[str, Any]:
    """Return the tiny base model's config with changes."""
    return {**json.loads(TINY_BASE.read_text()), **changes}


def tiny_tensors() -> dict[str, tuple[str, list[int], bytes]]:
    """Return the tiny adapter's tensors: name -> dtype, shape, bytes."""
    loaded = load_file(TINY / "adapter_model.safetensors")
    return {name: ("F32", list(value.shape), value.tobytes()) for name, value in loaded.items()}


def safetensors(tensors: Mapping[str, tuple[str, list[int], bytes]], metadata: Any = None) -> bytes:
    """Return a safetensors file with these tensors."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    return raw_safetensors(json.dumps(header).encode(), b"".join(raw for _, _, raw in tensors.values()))


def raw_safetensors(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a safetensors file with exactly this header."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def with_weights(raw: Callable[[], bytes], *more: str) -> Build:
    """Return what makes the tiny adapter with exactly this weights file."""

    def build(folder: Path) -> Arguments:
        (tiny(folder) / "adapter_model.safetensors").write_bytes(raw())
        return check(*more)

    return build


def cases(kind: str, rows: Iterable[tuple[Any, ...]], **common: Any) -> list[Case]:
    """Return the cases of a table: name, build and, where they are not ``common``'s, the exit codes."""
    made = []
    for name, build, *exits in rows:
        settings = {**common, **({"exits": frozenset(exits[0])} if exits else {})}
        made.append(Case(kind, name, build, **settings))
    return made
