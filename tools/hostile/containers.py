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
    TINY,
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
    (
        "header nested 100,000 deep",
        with_weights(lambda: raw_safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
        _BAD,
    ),
    ("header not UTF-8", with_weights(lambda: raw_safetensors(b'{"\xff":1}')), _BAD),
    ("header an array", with_weights(lambda: raw_safetensors(b"[]")), _BAD),
    ("header with NaN", with_weights(lambda: raw_safetensors(b'{"a":NaN}')), _BAD),
    (
        "header with a number of 50,000 digits",
        with_weights(lambda: raw_safetensors(b'{"a":' + b"9" * 50_000 + b"}")),
        _BAD,
    ),
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
    (
        "metadata of 500,000 keys",
        with_weights(_metadata({f"k{n}": "v" for n in range(500_000)})),
        frozenset({OK, FAILED}),
    ),
    ("metadata not text", with_weights(_metadata({"a": 1})), _BAD),
    ("metadata with ANSI", with_weights(_metadata({"format": "\x1b[31m"})), frozenset({OK, FAILED})),
]


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


def _strange_files(folder: Path) -> None:
    for number in range(10_000):
        (folder / "a" / f"x{number}\x1b[31m").write_bytes(b"")


def _deep_folders(folder: Path) -> None:
    (folder / "a" / "/".join(["d"] * 200)).mkdir(parents=True)


def _checkpoints(folder: Path) -> Arguments:
    for number in range(1000):
        (folder / "c" / f"checkpoint-{number}").mkdir(parents=True)
    return ["check", "c", "--base-config", str(TINY_BASE)]


def _fifo(folder: Path) -> Arguments:
    os.mkfifo(folder / "a")
    return check()


def _device(_: Path) -> Arguments:
    return ["check", "/dev/zero", "--base-config", str(TINY_BASE)]


def _unchanged(_: Path) -> None:
    return


def _linked(to: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(to)


_FILES = ("adapter_config.json", "adapter_model.safetensors")
_IN_PLACE: dict[str, Callable[[Path], None]] = {
    "is a FIFO": os.mkfifo,
    "is a folder": Path.mkdir,
    "links to itself": _link_loop,
    "links to a device": _linked("/dev/zero"),
    "links to nothing": _linked("gone"),
}
_KEPT = frozenset({UNREADABLE, UPLOAD})
_FOLDER: list[tuple[str, Build, frozenset[int]]] = [
    *((f"{name} {what}", _folder(_replaced(name, make)), _BAD) for name in _FILES for what, make in _IN_PLACE.items()),
    *(
        (f"{name} links out", _folder(_replaced(name, _linked("/etc/passwd")), "pack", "a"), _BAD | {UPLOAD})
        for name in _FILES
    ),
    ("the adapter is a FIFO", _fifo, frozenset({UNREADABLE})),
    ("the adapter is /dev/zero", _device, frozenset({UNREADABLE})),
    ("10,000 strange files", _folder(_strange_files), frozenset({OK, FAILED})),
    ("folders 200 deep", _folder(_deep_folders), frozenset({OK, FAILED})),
    ("a folder of checkpoints 1,000 wide", _checkpoints, frozenset({FAILED, UNREADABLE})),
    *(
        (f"the archive goes over {name}", _folder(_unchanged, "pack", *check()[1:], "--output", f"a/{name}"), _KEPT)
        for name in _FILES
    ),
    *((f"the report goes over {name}", _folder(_unchanged, *check("--output", f"a/{name}")), _KEPT) for name in _FILES),
]


def _kept(folder: Path) -> str | None:
    """Say so where one of the adapter's own files is not what it was any more."""
    for name in _FILES:
        path = folder / "a" / name
        if path.is_file() and not path.is_symlink() and path.read_bytes() != (TINY / name).read_bytes():
            return f"{name} was overwritten"
    return None


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
        *cases("folder", _FOLDER, judge=_kept),
        *cases("secret in the adapter", tokens, exits=frozenset({FAILED, UNREADABLE, INCONCLUSIVE, UPLOAD})),
    ]
