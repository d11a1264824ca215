"""Adapters before and after their hints were followed, for ``tools/loading_oracle.py`` to load with PEFT itself.

It follows the hint of every case of ``tests/inspector`` that has one to follow, and writes a line for each adapter that
comes out. Where PEFT loads less of one than of the adapter before it, or not all of it, the advice is wrong:

usage (with PYTHONPATH=tests/support:tests/inspector):
       python tools/advice_cases.py OUT            the cases; needs no torch
       python tools/advice_cases.py OUT ANSWERS    what PEFT made of them: exit 1 where advice was wrong
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import lora_packer

Adapter = tuple[str, Mapping[str, Any], Any, Any]  # what it is, its base config, its tensors and its config


def adapters() -> Iterator[Adapter]:
    """Yield the adapters of the tests that have a hint to follow."""
    case, targets_of, made = (import_module(name) for name in ("test_inspector", "test_inspector_targets", "lora_on"))
    tiny_base = import_module("builders").TINY_BASE
    tiny = json.loads(tiny_base.read_text())
    yield from ((name, tiny, tensors, config) for name, tensors, config, _ in case.CASES)
    lora_on, config = made.lora_on, made.lora_config
    for at, (base, targets, trained, *_) in enumerate(targets_of.WIDER):
        yield f"wider {at}", base, lora_on(base, trained), config(target_modules=targets)
    for at, (base, targets, *_) in enumerate(targets_of.UNMATCHED):
        yield f"unmatched {at}", base, lora_on(base, targets_of.attention), config(**targets)
    output = lora_on(made.PHI3, lambda path: path.endswith("o_proj"))
    both = lora_on(made.PHI3, lambda path: path.endswith(("qkv_proj", "o_proj")))
    for at, (targets, _) in enumerate(targets_of.NOTHING):
        yield f"nothing {at}", made.PHI3, output, config(target_modules=targets)
    for at, fields in enumerate(targets_of.DROPPED):
        yield f"dropped {at}", made.PHI3, both, config(**fields)


def followed() -> Iterator[dict[str, Any]]:
    """Yield each adapter with a hint to follow, and what comes out of that."""
    follow = import_module("follow_hints").follow
    write_adapter = import_module("builders").write_adapter
    for name, base, tensors, config in adapters():
        with tempfile.TemporaryDirectory() as folder:
            before = write_adapter(Path(folder) / "a", tensors, config)
            findings = lora_packer.check(before, base_config=base, target="peft").findings
            if len({item.code for item in findings if item.severity != "info"}) > 1:
                continue  # the hint of one mends that one
            for finding in findings:
                ways = None if finding.code in ("LP102", "LP103", "LP104") else follow(finding, before, base)
                for at, (settings, changed) in enumerate(ways or ()):
                    shapes = {key: list(tensor.shape) for key, tensor in changed.items()}
                    named = f"{name}: {finding.code}, way {at + 1}"
                    yield {"id": named, "code": finding.code, "base": dict(base), "config": settings, "tensors": shapes}


def judge(cases: Path, answers: Path) -> int:
    """Print what PEFT made of the cases; return 1 where it does not load all of one."""
    codes = {case["id"]: case["code"] for case in map(json.loads, cases.read_text().splitlines())}
    wrong = Counter[str]()
    loaded = Counter[str]()
    for answer in map(json.loads, answers.read_text().splitlines()[1:]):  # the first says of which releases
        code = codes[answer["id"]]
        fine = answer["loads"] == "all" and not (code == "LP309" and answer.get("missing"))
        (loaded if fine else wrong)[code] += 1
        if not fine:
            print(answer["id"], answer["loads"], str(answer.get("why") or answer.get("dropped"))[:200])
    print(f"{loaded.total()} adapters load whole after their hint was followed: {dict(sorted(loaded.items()))}")
    return 1 if wrong or len(codes) != loaded.total() else 0


def main() -> int:
    """Write the cases, or judge by the answers."""
    if len(sys.argv) == 3:
        return judge(Path(sys.argv[1]), Path(sys.argv[2]))
    with Path(sys.argv[1]).open("w", encoding="utf-8") as out:
        for case in followed():
            out.write(json.dumps(case) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
