"""Two breakages at once: ``check`` says ``fixable`` of exactly what ``fix`` then mends, whichever two they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from breakages import BREAKAGES
from builders import TINY, TINY_BASE, tiny_config, tiny_tensors, write_adapter

import lora_packer
from lora_packer.inspector.narrowing import Change

WEIGHTS = "adapter_model.safetensors"

# One takes the other back.
_NOTHING = ({"prefix lost", "prefix twice"}, {"one model. lost", "one model. too many"})
# Square layers look the same exchanged and transposed; two names of adapters are left; without .weight, lora_a is MLX's.
_BEYOND = (
    {"exchanged", "transposed"},
    {"exchanged", "A alone transposed"},
    {"default left", "another name left"},
    {"no .weight", "lower case"},
)


def comes_out(one: str, other: str) -> str:
    if {one, other} in _NOTHING:
        return "unchanged"
    # An adapter's name in the last word's place, where that was taken away: it may be a misspelling.
    is_beyond = {one, other} in _BEYOND or (one, other) == ("another name left", "no .weight")
    return "failed" if is_beyond else "fixed"


@pytest.mark.parametrize("one", BREAKAGES)
def test_what_check_promises_fix_keeps(one: str, tmp_path: Path) -> None:
    wrong = {}
    for other in BREAKAGES:
        if other == one:
            continue
        first = BREAKAGES[one][1](tiny_tensors(), tiny_config())
        broken = write_adapter(tmp_path / f"{other} broken", *BREAKAGES[other][1](*first))
        told = lora_packer.check(broken, base_config=TINY_BASE, target="peft")
        result = lora_packer.fix(broken, tmp_path / f"{other} fixed", base_config=TINY_BASE, target="peft")
        promised = {(item.code, item.field) for item in told.findings if item.fixable}
        left = {(item.code, item.field) for item in result.report.findings}
        gone = {(item.code, item.field) for item in told.findings if item.severity != "info"} - left
        if promised & left or (result.ok and gone - promised) or (result.repairs and not promised):
            wrong[other] = f"promised {promised}, left {left}, gone {gone}"
        elif result.status != comes_out(one, other):
            wrong[other] = f"{result.status}, {result.skipped}"
        elif result.ok and (tmp_path / f"{other} fixed" / WEIGHTS).read_bytes() != (TINY / WEIGHTS).read_bytes():
            wrong[other] = "another file came out"
    assert wrong == {}


def test_a_change_of_several_fields_says_each() -> None:
    change = Change("target_modules", ("q_proj",), ("exclude_modules", "layers_to_transform"))
    assert str(change) == ('Remove exclude_modules. Remove layers_to_transform. Set target_modules to ["q_proj"].')
    assert change.written() == {"exclude_modules": ..., "layers_to_transform": ..., "target_modules": ["q_proj"]}
    assert str(Change("layers_to_transform", None)) == "Remove layers_to_transform."
