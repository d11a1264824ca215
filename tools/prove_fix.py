"""Break adapters that PEFT wrote in ways that ``fix`` mends, and see that each comes back as it was, to the last bit.

usage: python tools/prove_fix.py [--corpus FILE.tar.xz] [--only KIND] [--every N] [--show N]

The corpus is a ``.tar.xz`` of folders with an adapter's two files and ``base_config.json``; by default the fixtures'.
Each adapter's constant numbers are replaced by ones that differ, so that a tensor under another's name shows. A kind of
breakage that changes nothing of an adapter, or of which nobody could tell what is meant (a square layer's halves), is
passed over and counted. Exit 0 where every adapter came back, a second ``fix`` changed nothing, and ``check`` had said
of each finding rightly whether it is fixable.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import lora_packer
from lora_packer.adapter.safetensors_header import read_header
from lora_packer.inspector.report import Report
from lora_packer.pipeline.fix import Fixed

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fixtures" / "peft-adapters.tar.xz"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]  # name -> dtype, shape, bytes
Adapter = tuple[Tensors, dict[str, Any]]
_WIDTH = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "I64": 8}


class NotSureError(Exception):
    """Of what this makes of an adapter nobody could tell what was meant, or it makes nothing of it."""


# --- files ---


def read(folder: Path) -> Adapter:
    """Return the tensors and the config of an adapter."""
    with (folder / WEIGHTS).open("rb") as file:
        header = read_header(file, (folder / WEIGHTS).stat().st_size)
        tensors = {}
        for name, info in header.tensors.items():
            file.seek(header.data_start + info.begin)
            tensors[name] = (info.dtype, info.shape, file.read(info.end - info.begin))
    return tensors, json.loads((folder / CONFIG).read_text())


def write(folder: Path, adapter: Adapter) -> None:
    """Write an adapter as PEFT does: the widest dtypes first, by name."""
    tensors, config = adapter
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
    (folder / WEIGHTS).write_bytes(as_file(tensors))


def as_file(tensors: Tensors) -> bytes:
    """Return a safetensors file."""
    rank = ["BF16", "F32", "F64", "I64"]
    ordered = sorted(tensors.items(), key=lambda item: item[0].encode())
    ordered.sort(key=lambda item: -(rank.index(item[1][0]) if item[1][0] in rank else -1))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, data) in ordered:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw + b"".join(data for _, (_, _, data) in ordered)


def with_numbers(adapter: Adapter) -> Adapter:
    """The adapter with numbers that all differ; those of float32 are no bfloat16."""
    tensors, config = adapter
    rng = np.random.default_rng(len(tensors))
    changed = {}
    for name, (dtype, shape, data) in tensors.items():
        count = len(data) // _WIDTH[dtype]
        values = (rng.standard_normal(count) * 0.02).astype(np.float32)
        bits = values.view(np.uint32) | np.uint32(1)
        raw = bits.tobytes() if dtype == "F32" else (bits >> np.uint32(16)).astype(np.uint16).tobytes()
        changed[name] = (dtype, shape, raw if dtype in ("F32", "BF16") else data)
    return changed, config


# --- breakages ---


def renamed(change: Callable[[str], str]) -> Callable[[Adapter], Adapter]:
    """A breakage of names."""

    def breaks(adapter: Adapter) -> Adapter:
        tensors, config = adapter
        found = {change(name): tensor for name, tensor in tensors.items()}
        if all(change(name) == name for name in tensors) or len(found) < len(tensors):
            raise NotSureError
        return found, config

    return breaks


def set_to(**changes: Any) -> Callable[[Adapter], Adapter]:
    """A breakage of the config."""
    return lambda adapter: (adapter[0], {**adapter[1], **changes})


def exchanged(name: str) -> str:
    """The name of the other half."""
    return name.replace("lora_A.w", "lora_X.w").replace("lora_B.w", "lora_A.w").replace("lora_X.w", "lora_B.w")


def _pairs(tensors: Tensors) -> list[tuple[str, str]]:
    names = [name for name in tensors if name.endswith(".lora_A.weight")]
    return [(name, name.replace("lora_A.weight", "lora_B.weight")) for name in names]


def swap(adapter: Adapter) -> Adapter:
    """The halves under each other's name, of layers only."""
    if any(
        len(shape) != 2 for name, (_, shape, _) in adapter[0].items() if ".lora_" in name and name.endswith("weight")
    ):
        raise NotSureError
    _require_oblong(adapter)
    return renamed(exchanged)(adapter)


def _require_oblong(adapter: Adapter) -> None:
    """Where every layer is square, or is not a matrix, its pair looks the same transposed and exchanged."""
    tensors, config = adapter
    shapes = [(tensors[a][1], tensors[b][1]) for a, b in _pairs(tensors) if b in tensors]
    if not any(a[1:] != b[:1] for a, b in shapes) or config.get("target_parameters"):
        raise NotSureError
    if any(len(a) != 2 or a[1] == a[0] or b[0] == b[1] for a, b in shapes):
        raise NotSureError


def transpose(adapter: Adapter) -> Adapter:
    """Both halves the other way round, as other frameworks write them."""
    _require_oblong(adapter)
    tensors = dict(adapter[0])
    for name in [name for pair in _pairs(tensors) for name in pair if name in tensors]:
        dtype, shape, data = tensors[name]
        array = np.frombuffer(data, f"<u{_WIDTH[dtype]}").reshape(shape)
        tensors[name] = (dtype, shape[::-1], np.ascontiguousarray(array.T).tobytes())
    return tensors, adapter[1]


def one_target_less(adapter: Adapter) -> Adapter:
    """A config that lost one of its targets."""
    tensors, config = adapter
    targets = config.get("target_modules")
    alone = not config.get("target_parameters") and not config.get("exclude_modules")
    if not isinstance(targets, list) or len(targets) < 2 or not alone or config.get("layers_to_transform"):
        raise NotSureError
    if any("." in name for name in targets) or config.get("ensure_weight_tying"):
        raise NotSureError
    return tensors, {**config, "target_modules": sorted(targets)[1:]}


def dora_off(adapter: Adapter) -> Adapter:
    """A config that lost its DoRA."""
    if not adapter[1].get("use_dora"):
        raise NotSureError
    return adapter[0], {**adapter[1], "use_dora": False}


KINDS: dict[str, Callable[[Adapter], Adapter]] = {
    "prefix lost": renamed(lambda name: name.removeprefix(PREFIX)),
    "prefix twice": renamed(lambda name: PREFIX + name),
    "module.": renamed(lambda name: f"module.{name}"),
    "_orig_mod.": renamed(lambda name: name.replace(PREFIX, f"{PREFIX}_orig_mod.", 1)),
    "FSDP": renamed(lambda name: name.replace(".layers.", ".layers._fsdp_wrapped_module.", 1)),
    "checkpoint wrapper": renamed(lambda name: name.replace("_proj.", "_proj._checkpoint_wrapped_module.", 1)),
    ".default.": renamed(lambda name: name.replace(".weight", ".default.weight") if ".lora_" in name else name),
    "another adapter's name": renamed(
        lambda name: name.replace("lora_A.w", "lora_A.run7.w").replace("lora_B.w", "lora_B.run7.w")
    ),
    "lower case": renamed(lambda name: name.replace("lora_A.w", "lora_a.w").replace("lora_B.w", "lora_b.w")),
    "halves exchanged": swap,
    "halves transposed": transpose,
    "unknown fields": set_to(brand_new_field={"a": 1}, another=7),
    "peft_type in lower case": set_to(peft_type="lora"),
    "a target lost": one_target_less,
    "DoRA lost": dora_off,
}


def in_a_folder(folder: Path) -> None:
    """The adapter as the newest of two checkpoints."""
    for step in (5, 40):
        shutil.copytree(folder, folder / f"checkpoint-{step}", ignore=shutil.ignore_patterns("checkpoint-*"))
    for name in (WEIGHTS, CONFIG):
        (folder / name).unlink()


def in_shards(folder: Path) -> None:
    """The adapter's tensors in two files."""
    tensors, _ = read(folder)
    names = sorted(tensors)
    for at, own in enumerate((names[::2], names[1::2]), 1):
        part = as_file({name: tensors[name] for name in own})
        (folder / f"adapter_model-0000{at}-of-00002.safetensors").write_bytes(part)
    (folder / WEIGHTS).unlink()


def padded(folder: Path) -> None:
    """Bytes behind the last tensor."""
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0" * 4096)


def with_a_mark(folder: Path) -> None:
    """A byte order mark before the config."""
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())


ON_DISK: dict[str, Callable[[Path], None]] = {
    "nested checkpoints": in_a_folder,
    "shards": in_shards,
    "bytes behind the end": padded,
    "byte order mark": with_a_mark,
}

# --- the proof ---


def proven(kind: str, original: Adapter, base: Path, folder: Path) -> str | None:
    """Break an adapter, mend it, and mend it again; return what is wrong, or None. Raises NotSureError."""
    broken = KINDS[kind](original) if kind in KINDS else original
    write(folder / "broken", broken)
    if kind in ON_DISK:
        ON_DISK[kind](folder / "broken")
    before = {path: path.read_bytes() for path in (folder / "broken").rglob("*") if path.is_file()}
    told = lora_packer.check(folder / "broken", base_config=base, target="peft")
    result = lora_packer.fix(folder / "broken", folder / "fixed", base_config=base, target="peft")
    if {path: path.read_bytes() for path in (folder / "broken").rglob("*") if path.is_file()} != before:
        return "the input was changed"
    if result.status != "fixed" or result.output is None:
        return f"{result.status}: {[item.reason for item in result.skipped][:2]}"
    if (folder / "fixed" / WEIGHTS).read_bytes() != as_file(original[0]):
        return f"the weights are not the original's ({[item.name for item in result.repairs]})"
    config = json.loads((folder / "fixed" / CONFIG).read_text())
    if kind == "a target lost":
        config["target_modules"] = original[1]["target_modules"] if result.report.ok else None
    if config != original[1]:
        return f"the config differs in {[name for name in config if config[name] != original[1].get(name)]}"
    wrong = promised(told, result)
    if wrong is not None:
        return wrong
    again = lora_packer.fix(folder / "fixed", folder / "again", base_config=base, target="peft")
    if again.status != "unchanged" or again.repairs:
        return f"a second fix does {[item.name for item in again.repairs]}"
    same = all(
        (folder / "fixed" / name).read_bytes() == (folder / "again" / name).read_bytes() for name in (WEIGHTS, CONFIG)
    )
    return None if same else "a second fix gives other bytes"


def promised(told: Report, result: Fixed) -> str | None:
    """Return what ``check`` said of the broken adapter that ``fix`` did not keep, or did without its being said."""
    fixable = {item.code for item in told.findings if item.fixable}
    if not fixable and any(item.severity != "info" for item in told.findings):
        return "check says of no finding that it is fixable"
    there = {(item.code, item.field) for item in result.report.findings}
    left = {item.code for item in told.findings if item.fixable and (item.code, item.field) in there}
    if left:
        return f"{sorted(left)} were told to be fixable, and are there still"
    gone = {item.code for item in told.findings} - {item.code for item in result.report.findings}
    silent = gone & {item.code for item in result.repairs} - fixable
    return f"{sorted(silent)} were mended, and not told to be fixable" if silent else None


def main() -> int:
    """Run all kinds over all adapters."""
    options = argparse.ArgumentParser()
    options.add_argument("--corpus", type=Path, default=CORPUS)
    options.add_argument("--only")
    options.add_argument("--every", type=int, default=1)
    options.add_argument("--show", type=int, default=20)
    args = options.parse_args()
    kinds = [kind for kind in (*KINDS, *ON_DISK) if args.only in (None, kind)]
    counts: Counter[str] = Counter()
    passed, adapters, began = dict.fromkeys(kinds, 0), 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run(["tar", "xJf", args.corpus, "-C", tmp], check=True)
        found = sorted(Path(tmp).glob("*/*/oracle.json"))[:: args.every]
        for oracle in found:
            base = oracle.parent / "base_config.json"
            adapter = next(oracle.parent.rglob(CONFIG)).parent
            if not lora_packer.check(adapter, base_config=base, target="peft").ok:
                counts["not good to begin with"] += 1
                continue
            adapters += 1
            original = with_numbers(read(adapter))
            for kind in kinds:
                with tempfile.TemporaryDirectory() as place:
                    try:
                        wrong = proven(kind, original, base, Path(place))
                    except NotSureError:
                        counts["passed over"] += 1
                        continue
                if wrong is None:
                    passed[kind] += 1
                    continue
                counts["wrong"] += 1
                if counts["wrong"] <= args.show:
                    print(f"{oracle.parent.parent.name}/{oracle.parent.name}: {kind}: {wrong}"[:300], file=sys.stderr)
    for kind in kinds:
        print(f"{passed[kind]:5} {kind}")
    took = time.perf_counter() - began
    print(
        f"{sum(passed.values())} breakages of {adapters} adapters came back bit for bit in {took:.0f} s; {dict(counts)}"
    )
    return 1 if counts["wrong"] or not adapters else 0


if __name__ == "__main__":
    sys.exit(main())
