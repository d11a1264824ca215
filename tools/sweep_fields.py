"""Every field of a LoraConfig with hostile and odd values: what PEFT does with the adapter, and what the check says.

usage: python tools/sweep_fields.py [--base NAME ...] [--record fixtures/peft-fields.json.xz]

For each case PEFT writes the adapter for that config, or, where it makes none, the tensors are those that the project
expects; then PEFT loads it. PEFT raises, or the output is the base model's: the check has to fail. PEFT loads and
applies it: the check has to pass. Every disagreement is printed; exit 1 where one is not in ``ALLOWED``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import lzma
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft_oracle as oracle
from sweep_cases import ALLOWED, OWN, PLAIN, TOGETHER, VALUES, write_unread

import lora_packer
from lora_packer.adapter.config import parse_config
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel
from lora_packer.peft.expected import expect

Raw = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One adapter: a base model, the fields that differ from its plain config, and the field that is swept."""

    base: str
    field: str
    changes: Raw

    @property
    def name(self) -> str:
        """How it is told of."""
        return f"{self.base} {json.dumps(self.changes)}"

    @property
    def raw(self) -> Raw:
        """The whole ``adapter_config.json``."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": 4,
            "lora_alpha": 8,
            **PLAIN[self.base],
            **self.changes,
        }


def cases() -> Iterator[Case]:
    """Every case, once."""
    from peft import LoraConfig

    fields = [field.name for field in dataclasses.fields(LoraConfig) if field.init]
    seen = set()
    every = [Case("llama", name, {name: value}) for name in fields for value in (*VALUES, *OWN.get(name, ()))]
    for case in [*every, *(Case(base, "+".join(changes), dict(changes)) for base, changes in TOGETHER)]:
        if case.name not in seen:
            seen.add(case.name)
            yield case


def tensors_of(case: Case) -> dict[str, Any]:
    """What PEFT writes for the case; where it writes nothing, what the project expects; else the plain adapter's."""
    state = oracle.written(case.base, case.raw)
    if state:
        return state
    config, _ = parse_config(case.raw)
    base = BaseModel.load(oracle.base_config(case.base))
    try:
        wanted = expect(config, base.modules, ("q_proj", "v_proj")).required
    except PatternError:
        wanted = {}
    if wanted:
        return oracle.filled({name: want.shape for name, want in wanted.items()})
    plain = oracle.written(case.base, Case(case.base, "", {}).raw)
    assert plain, case.base
    return plain


def agrees(verdict: str, status: str) -> bool:
    """Whether the check says what PEFT does."""
    return status == ("ok" if verdict == "loads" else "failed")


def status_of(raw: Raw, base: Raw, shapes: Mapping[str, Sequence[int]]) -> tuple[str, str]:
    """What the check says of an adapter with tensors of these shapes: its status, and its first error."""
    with tempfile.TemporaryDirectory() as folder:
        write_unread(Path(folder), raw, shapes)
        report = lora_packer.check(folder, base_config=base, target="peft", weights=False)
    errors = [f"{item.code} {item.message}" for item in report.findings if item.severity == "error"]
    return report.status, next(iter(errors), "")


def main() -> int:
    """Run the sweep; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", action="append", help="only the cases on this base model")
    parser.add_argument("--field", action="append", help="only the cases of this field, or of fields joined by +")
    parser.add_argument("--record", type=Path, help="write the cases and PEFT's answers here")
    given = parser.parse_args()
    oracle.quiet()
    recorded = []
    bad = 0
    for case in cases():
        if (given.base and case.base not in given.base) or (given.field and case.field not in given.field):
            continue
        tensors = tensors_of(case)
        outcome = oracle.judge(case.base, case.raw, tensors)
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        status, error = status_of(case.raw, oracle.base_config(case.base), shapes)
        recorded.append((case, outcome, shapes))
        if not agrees(outcome.verdict, status):
            allowed = ALLOWED.get(case.name)
            bad += allowed is None
            shown = f"allowed: {allowed}" if allowed else "DISAGREE"
            print(f"{shown}\n  {case.name}\n  peft: {outcome.verdict} {outcome.why}\n  check: {status} {error}")
    print(f"{len(recorded)} cases, {len({case.field for case, _, _ in recorded})} fields: {bad} disagreements")
    if given.record:
        record(given.record, recorded)
    return 1 if bad else 0


def record(path: Path, found: Sequence[tuple[Case, oracle.Outcome, Mapping[str, list[int]]]]) -> None:
    """Write the cases as data, each set of shapes once."""
    shapes: list[Any] = []
    rows = []
    for case, outcome, wanted in found:
        if wanted not in shapes:
            shapes.append(wanted)
        rows.append([case.base, case.field, case.changes, outcome.verdict, outcome.why, shapes.index(wanted)])
    content = {
        "made_by": "tools/sweep_fields.py",
        "versions": oracle.versions(),
        "bases": {name: oracle.base_config(name) for name in sorted({case.base for case, _, _ in found})},
        "shapes": shapes,
        "cases": rows,
    }
    path.write_bytes(lzma.compress(json.dumps(content).encode(), preset=9))


if __name__ == "__main__":
    sys.exit(main())
