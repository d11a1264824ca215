"""The example on a rule's page: written from an adapter, and read back into one by the test that holds it.

A page says all that an adapter is made of: its config word for word, each tensor with its dtype, shape and values, other files,
the base model, a server of one's own. So whoever reads it can build the same, and so does the test.
"""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from builders import ROOT, Tensors
from safetensors.numpy import load_file, save_file

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASES = (ROOT / "fixtures" / "base-configs", ROOT / "fixtures" / "loading")
HEAD = "| tensor | dtype | shape | values |\n|---|---|---|---|"
_TABLE = r"\| tensor \| dtype \| shape \| values \|\n\|[-|]+\|\n((?:\|.*\n)*)"
_ROW = re.compile(r"^\| `([^`]*)` \| (\w+) \| ([\dx ]*) \| (.*) \|$", re.MULTILINE)
_DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I8": np.dtype("i1")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
PRINTED = "<!-- printed -->\n"
CUT = "The file ends {} bytes before the last tensor's end."
OTHERS = "What the safetensors library reads in its place:"


@dataclass(frozen=True)
class Example:
    """What a page has: the command, what it prints, and the folder in which it does."""

    command: str
    output: str


# --- values ----------------------------------------------------------------------------------------------------------


def told_values(tensor: Any) -> str:
    """Say what a tensor's values are, as far as a rule may ask."""
    if tensor.size == 0:
        return "none"
    if np.all(tensor == tensor.flat[0]):
        value = tensor.flat[0]
        short = f"{value:g}"
        return f"all {short if tensor.dtype.type(short) == value else value}"
    told = "any"
    if tensor.dtype == np.float32 and not np.any(np.ascontiguousarray(tensor).view(np.uint32) & 0xFFFF):
        told = "any that bfloat16 has"
    if tensor.ndim > 1 and not np.any(tensor[len(tensor) // 2 :]):
        told += f", 0 from row {len(tensor) // 2} on"
    for place in np.argwhere(~np.isfinite(tensor)) if tensor.dtype.kind == "f" else ():
        told += f", NaN at {' '.join(map(str, place))}"
    return told


def values(told: str, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    """Return a tensor of which ``told`` is true."""
    if found := re.fullmatch(r"all (\S+)", told):
        return np.full(shape, float(found[1]), dtype)
    drawn = np.random.default_rng(zlib.crc32(name.encode())).uniform(-0.1, 0.1, shape)
    tensor = (drawn * 1000 if dtype.kind == "i" else drawn).astype(dtype)
    if "that bfloat16 has" in told:
        tensor = (tensor.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    if found := re.search(r"0 from row (\d+) on", told):
        tensor[int(found[1]) :] = 0
    for found in re.finditer(r"NaN at ([\d ]+)", told):
        tensor[tuple(map(int, found[1].split()))] = np.nan
    return tensor


def rows(tensors: Tensors) -> str:
    """Return the table of an adapter's tensors."""
    lines = [HEAD]
    for name, tensor in sorted(tensors.items()):
        shape = " x ".join(map(str, tensor.shape))
        lines.append(f"| `{_shown(name)}` | {_NAMES[tensor.dtype]} | {shape} | {told_values(tensor)} |")
    return "\n".join(lines)


def differences(config: str, found: Tensors, good_config: Mapping[str, Any], good: Tensors) -> str:
    """Say in what an adapter is another than a good one."""
    told = []
    try:
        fields = json.loads(config)
    except ValueError:
        fields = dict(good_config)
        told.append("its config is no JSON")
    for name in [*fields, *sorted(good_config.keys() - fields.keys())]:
        if name not in fields:
            told.append(f"`{name}` is not in the config")
        elif name not in good_config or fields[name] != good_config[name]:
            told.append(f"`{_shown(name)}` is `{json.dumps(fields[name])}` in the config")
    for names, what in (
        (sorted(good.keys() - found.keys()), "not there"),
        (sorted(found.keys() - good.keys()), "there besides"),
        (
            sorted(name for name in good.keys() & found.keys() if good[name].shape != found[name].shape),
            "of other shapes",
        ),
        (
            sorted(name for name in good.keys() & found.keys() if _values_differ(good[name], found[name])),
            "of other values",
        ),
    ):
        if names:
            some = f" and {len(names) - 1} more" if len(names) > 1 else ""
            told.append(f"`{_shown(names[0])}`{some} {'are' if some else 'is'} {what}")
    return "; ".join(told)


def _values_differ(one: Any, other: Any) -> bool:
    return one.shape == other.shape and (one.dtype != other.dtype or told_values(one) != told_values(other))


def _shown(name: str) -> str:
    """A name as JSON has it between its quotes, with nothing in it that Markdown could read."""
    return re.sub(r"[|`<>]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(name)[1:-1])


def tensors(table: str) -> Tensors:
    """Return the tensors of a table."""
    found: Tensors = {}
    for row in _ROW.finditer(table):
        name, shape = json.loads(f'"{row[1]}"'), tuple(map(int, re.findall(r"\d+", row[3])))
        found[name] = values(row[4], name, _DTYPES[row[2]], shape)
    return found


# --- pages -----------------------------------------------------------------------------------------------------------


def page(
    adapter: Path, command: str, unlike: str, *, whole: Tensors | None = None, other: Tensors | None = None
) -> str:
    """Return the part of a page that has the command, PRINTED for its output, and what the adapter is made of.

    ``unlike`` says in what it is another than a good one; ``whole`` is what a file holds that was cut off, ``other``
    what the safetensors library reads in its place.
    """
    folder = adapter.parent
    parts = [*([unlike] if unlike else []), f"```console\n$ {command}\n{PRINTED}```", "What the adapter is made of:"]
    for path in sorted(folder.glob("*.*")):
        if not any((place / path.name).exists() for place in BASES):
            parts.append(_file(path))
    parts.append(_file(adapter / CONFIG))
    weights = adapter / WEIGHTS
    if not weights.exists():
        parts.append(f"There is no `{WEIGHTS}`.")
    else:
        held = load_file(weights) if whole is None else whole
        parts.append(f"`{WEIGHTS}`{'' if held else ', without a tensor'}:\n\n{rows(held)}")
    if whole is not None:
        save_file(whole, folder / "whole")
        parts.append(CUT.format((folder / "whole").stat().st_size - weights.stat().st_size))
    if other is not None:
        parts.append(f"{OTHERS}\n\n{rows(other)}")
    beside = sorted(path.name for path in adapter.iterdir() if path.name not in (CONFIG, WEIGHTS))
    parts += [f"Beside them is `{name}`." for name in beside]
    return "\n\n".join(parts) + "\n"


def _file(path: Path) -> str:
    text = path.read_text(encoding="utf-8").rstrip("\n")
    language = path.suffix[1:]
    if language == "json":
        try:
            json.loads(text)
        except ValueError:
            language = "text"
    return f"`{path.name}`:\n\n```{language}\n{text}\n```"


def build(text: str, folder: Path) -> tuple[Example, Tensors | None]:
    """Build what a page says below a folder; return its example, and what the safetensors library is to read, if other.

    Raises AssertionError where the page has no example.
    """
    found = re.search(r"```console\n\$ lora-packer (check ([\w-]+).*)\n((?:.*\n)*?)```", text)
    assert found is not None
    adapter = folder / found[2]
    adapter.mkdir()
    for file in re.finditer(r"`([\w.-]+)`:\n\n```\w*\n((?:.*\n)*?)```", text):
        place = adapter if file[1] == CONFIG else folder
        (place / file[1]).write_text(file[2], encoding="utf-8")
    for name in re.findall(r"Beside them is `(.*)`\.", text):
        (adapter / name).write_bytes(b"never opened")
    tables = [tensors(table) for table in re.findall(_TABLE, text)]
    if tables:
        save_file(tables[0], adapter / WEIGHTS, {"format": "pt"})
    if cut := re.search(CUT.format(r"(\d+)"), text):
        whole = (adapter / WEIGHTS).read_bytes()
        (adapter / WEIGHTS).write_bytes(whole[: len(whole) - int(cut[1])])
    for word in found[1].split():
        for place in BASES:
            if (place / word).is_file():
                shutil.copyfile(place / word, folder / word)
    return Example(found[1], found[3]), tables[1] if len(tables) > 1 else None


@contextmanager
def library_reads(other: Mapping[str, Any] | None, folder: Path) -> Iterator[None]:
    """Within this the safetensors library reads other tensors than the file holds, where there are any."""
    if other is None:
        yield
        return
    import safetensors

    real: Any = safetensors.deserialize  # without types
    place = folder / "other"
    save_file(dict(other), place, {"format": "pt"})
    with patch.object(safetensors, "deserialize", lambda _: real(place.read_bytes())):
        yield
