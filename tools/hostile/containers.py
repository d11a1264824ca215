"""adapter_model.safetensors and the folder around it: headers that lie, cost, or speak to a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.case import (
    CANARY,
    FAILED,
    INCONCLUSIVE,
    OK,
    TINY_BASE,
    UNREADABLE,
    UPLOAD,
    Arguments,
    Build,
    Case,
    cases,
    check,
    raw_safetensors,
    safetensors,
    tiny,
    tiny_tensors,
    with_weights,
)

_BAD = frozenset({FAILED, UNREADABLE})
_NAMES = {
    "ANSI": "\x1b[31mX\x1b]0;pwn\x07",
    "bidi": "a\u202eb",
    "newline ::error::": "x\n::error::pwned",
    "NUL": "a\x00b",
    "empty": "",
    "100,000 characters": "base_model.model." + "x" * 100_000,
    "1 MB": "y" * 1_000_000,
    "10,000 dots": "." * 10_000,
    "10,000 path parts": "base_model.model." + "a." * 10_000 + "lora_A.weight",
    "surrogates": "\ud83d",
    "traversal": "../../etc/passwd.lora_A.weight",
}


def _renamed(name: str) -> Callable[[], bytes]:
    def raw() -> bytes:
        tensors = tiny_tensors()
        tensors[name] = tensors.pop(next(iter(tensors)))
        return safetensors(tensors, {"format": "pt"})

    return raw


def _header(change: Callable[[dict[str, Any]], None]) -> Callable[[], bytes]:
    def raw() -> bytes:
        whole = safetensors(tiny_tensors())
        length = int.from_bytes(whole[:8], "little")
        header = json.loads(whole[8 : 8 + length])
        change(header)
        return raw_safetensors(json.dumps(header).encode(), whole[8 + length :])

    return raw


def _first(header: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = next(iter(header.values()))
    return entry


def _entry(**values: Any) -> Callable[[], bytes]:
    return _header(lambda header: _first(header).update(values))


def _many(
    count: int, name: str = "base_model.model.model.layers.{}.self_attn.q_proj.lora_A.weight"
) -> Callable[[], bytes]:
    def raw() -> bytes:
        rows = ",".join(
            f'"{name.format(n)}":{{"dtype":"F32","shape":[1],"data_offsets":[{4 * n},{4 * n + 4}]}}'
            for n in range(count)
        )
        return raw_safetensors(b"{" + rows.encode() + b"}", bytes(4 * count))

    return raw


def _metadata(value: Any) -> Callable[[], bytes]:
    return lambda: safetensors(tiny_tensors(), value)


_WEIGHTS: list[tuple[str, Build, frozenset[int]]] = [
    ("empty", with_weights(lambda: b""), _BAD),
    ("seven bytes", with_weights(lambda: b"1234567"), _BAD),
    ("header of 0 bytes", with_weights(lambda: raw_safetensors(b"")), _BAD),
    ("header of 2^63 bytes", with_weights(lambda: raw_safetensors(b"{}", length=1 << 63)), _BAD),
    ("header longer than the file", with_weights(lambda: raw_safetensors(b"{}", length=1000)), _BAD),
    ("header of 99 MB of spaces", with_weights(lambda: raw_safetensors(b"{}" + b" " * 99_000_000)), _BAD),
    ("header nested 100,000 deep", with_weights(lambda: raw_safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)), _BAD),
    ("header not UTF-8", with_weights(lambda: raw_safetensors(b'{"\xff":1}')), _BAD),
    ("header an array", with_weights(lambda: raw_safetensors(b"[]")), _BAD),
    ("header with NaN", with_weights(lambda: raw_safetensors(b'{"a":NaN}')), _BAD),
    ("header with a number of 50,000 digits", with_weights(lambda: raw_safetensors(b'{"a":' + b"9" * 50_000 + b"}")), _BAD),
    ("no tensors", with_weights(lambda: raw_safetensors(b"{}")), _BAD),
    ("a pickle", with_weights(lambda: b"\x80\x02c__builtin__\neval\n"), _BAD),
    ("a Git LFS pointer", with_weights(lambda: b"version https://git-lfs.github.com/spec/v1\n"), _BAD),
    ("an HTML page", with_weights(lambda: b"<!DOCTYPE html><html>" + b"x" * 1000), _BAD),
    ("300,000 tensors", with_weights(_many(300_000)), _BAD),
    ("600,000 tensors", with_weights(_many(600_000, "t{}")), _BAD),
    ("100,000 tensors of one layer", with_weights(_many(100_000, "base_model.model.x{}.lora_A.weight")), _BAD),
    ("shape of 10^6 ones", with_weights(_entry(shape=[1] * 1_000_000)), _BAD),
    ("shape of 10^4 big numbers", with_weights(_entry(shape=[2**62] * 10_000)), _BAD),
    ("shape with a float", with_weights(_entry(shape=[8.0, 64])), _BAD),
    ("shape with true", with_weights(_entry(shape=[True, 64])), _BAD),
    ("negative shape", with_weights(_entry(shape=[-8, 64])), _BAD),
    ("offsets backwards", with_weights(_entry(data_offsets=[64, 0])), _BAD),
    ("offsets behind the end", with_weights(_entry(data_offsets=[0, 10**15])), _BAD),
    ("dtype with ANSI", with_weights(_entry(dtype="\x1b[31mF32")), _BAD),
    ("dtype of 1 MB", with_weights(_entry(dtype="F" * 1_000_000)), _BAD),
    ("dtype an object", with_weights(_entry(dtype={"a": 1})), _BAD),
    ("metadata of 5 MB", with_weights(_metadata({"x": "y" * 5_000_000})), frozenset({OK, FAILED})),
    ("metadata of 500,000 keys", with_weights(_metadata({f"k{n}": "v" for n in range(500_000)})), frozenset({OK, FAILED})),
    ("metadata not text", with_weights(_metadata({"a": 1})), _BAD),
    ("metadata with ANSI", with_weights(_metadata({"format": "\x1b[31m"})), frozenset({OK, FAILED})),
]  # fmt: skip


def _folder(change: Callable[[Path], None], *arguments: str) -> Build:
    def build(folder: Path) -> Arguments:
        tiny(folder)
        change(folder)
        return [*arguments] if arguments else check()

    return build


def _replaced(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "a" / name
        path.unlink()
        make(path)

    return change


def _link_loop(path: Path) -> None:
    path.symlink_to(path.name)


_FILES = ("adapter_config.json", "adapter_model.safetensors")
_FOLDER: list[tuple[str, Build, frozenset[int]]] = [
    *((f"{name} is a FIFO", _folder(_replaced(name, os.mkfifo)), _BAD) for name in _FILES),
    *((f"{name} is a folder", _folder(_replaced(name, Path.mkdir)), _BAD) for name in _FILES),
    *((f"{name} links to itself", _folder(_replaced(name, _link_loop)), _BAD) for name in _FILES),
    *((f"{name} links to a device", _folder(_replaced(name, lambda p: p.symlink_to("/dev/zero"))), _BAD) for name in _FILES),
    *((f"{name} links to nothing", _folder(_replaced(name, lambda p: p.symlink_to("gone"))), _BAD) for name in _FILES),
    *((f"{name} links out of the folder", _folder(_replaced(name, lambda p: p.symlink_to("/etc/passwd")), "pack", "a"), _BAD | {UPLOAD})
      for name in _FILES),
    ("the adapter is a FIFO", lambda folder: os.mkfifo(folder / "a") or check(), frozenset({UNREADABLE})),
    ("the adapter is /dev/zero", lambda folder: ["check", "/dev/zero", "--base-config", str(TINY_BASE)], frozenset({UNREADABLE})),
    ("10,000 strange files", _folder(lambda folder: [(folder / "a" / f"x{n}\x1b[31m").write_bytes(b"") for n in range(10_000)] and None),
     frozenset({OK, FAILED})),
    ("folders 200 deep", _folder(lambda folder: (folder / "a" / "/".join(["d"] * 200)).mkdir(parents=True)), frozenset({OK, FAILED})),
    ("a folder of checkpoints 1,000 wide", lambda folder: [(folder / "c" / f"checkpoint-{n}").mkdir(parents=True) for n in range(1000)]
     and ["check", "c", "--base-config", str(TINY_BASE)], frozenset({FAILED, UNREADABLE})),
    ("the output is the weights", _folder(lambda folder: None, "pack", "a", "--output", "a/adapter_model.safetensors"),
     frozenset({UNREADABLE, UPLOAD})),
    ("the report goes over the weights", _folder(lambda folder: None, *check("--output", "a/adapter_model.safetensors")),
     frozenset({UNREADABLE, UPLOAD})),
    ("the report goes over the config", _folder(lambda folder: None, *check("--output", "a/adapter_config.json")),
     frozenset({UNREADABLE, UPLOAD})),
]  # fmt: skip


def _kept(folder: Path) -> str | None:
    """The adapter's own files are as they were."""
    whole = safetensors(tiny_tensors())
    path = folder / "a" / "adapter_model.safetensors"
    return None if path.stat().st_size >= len(whole) // 2 else "the adapter's weights were overwritten"


def _with_token(place: str) -> Build:
    def build(folder: Path) -> Arguments:
        adapter = tiny(folder)
        if place == "metadata":
            raw = safetensors(tiny_tensors(), {"format": "pt", "note": CANARY})
            (adapter / "adapter_model.safetensors").write_bytes(raw)
        elif place == "config":
            tiny_config = json.loads((adapter / "adapter_config.json").read_text())
            (adapter / "adapter_config.json").write_text(
                json.dumps({**tiny_config, "base_model_name_or_path": f"https://user:{CANARY}@huggingface.co/a/b"})
            )
        else:
            (adapter / "README.md").write_text(f"---\ntags: [x]\n---\ntoken: {CANARY}\n")
        extras = ["--include-extras"] if place == "readme" else []
        return ["pack", "a", *extras, "--base-config", str(TINY_BASE)]

    return build


def all_cases() -> list[Case]:
    """Return the cases."""
    names = [(f"a tensor's name: {what}", with_weights(_renamed(name)), _BAD) for what, name in _NAMES.items()]
    tokens = [(f"a token in the {place}", _with_token(place)) for place in ("metadata", "config", "readme")]
    return [
        *cases("weights", _WEIGHTS),
        *cases("weights", names),
        *cases("folder", _FOLDER, judge=lambda folder: _kept(folder) if "weights" in str(folder) else None),
        *cases("secret in the adapter", tokens, exits=frozenset({FAILED, UNREADABLE, INCONCLUSIVE, UPLOAD})),
    ]
