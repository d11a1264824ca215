"""A report as text and as JSON: what is said, and how it is escaped, counted and grouped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lora_packer.cli.common import Output
from lora_packer.finding import Finding, Unchecked
from lora_packer.inspector import AdapterSummary, BaseModelSummary, Report
from lora_packer.inspector.report import TargetVerdict
from lora_packer.report import json as json_report
from lora_packer.report import text

ADAPTER = AdapterSummary("a", 8, 1536, 8254, ("BF16", "F32"), (4, 16))
BASE = BaseModelSummary("org/Base", "catalogue:org/Base", "llama")
SHAPE = Finding(
    "LP301", "wrong-shape", "error", "off", tensor="x", count=3, expected=[4, 48], actual=[4, 32], hint="Do."
)
FIELD = Finding("LP202", "invalid-field", "warning", "odd", field="r", expected="a number")


def report(status: Any = "ok", **changes: Any) -> Report:
    values: dict[str, Any] = {"base_model": BASE, "target": "peft", "findings": (), "unchecked": ()} | changes
    return Report(status, ADAPTER, **values)


def lines(shown: Report, *, quiet: bool = False) -> list[str]:
    return text.render(shown, Output(quiet=quiet, no_color=True)).split("\n")


def test_what_was_checked_comes_first_and_the_verdict_last() -> None:
    assert lines(report()) == [
        "adapter     a",
        "            8 tensors, 1,536 parameters, BF16/F32, rank 4 to 16, 8,254 bytes",
        "base model  org/Base, llama (catalogue:org/Base)",
        "target      peft",
        "",
        "ok: 0 errors, 0 warnings",
    ]
    assert lines(report(), quiet=True) == ["ok: 0 errors, 0 warnings"]


def test_each_finding_says_where_and_what_next() -> None:
    assert lines(report("failed", findings=(SHAPE, FIELD)), quiet=True) == [
        "error LP301 wrong-shape: off",
        "    tensor    x (and 2 more)",
        "    expected  4 x 48",
        "    actual    4 x 32",
        "    next      Do.",
        "warning LP202 invalid-field: odd",
        "    field     r",
        "    expected  a number",
        "failed: 1 error, 1 warning",
    ]


@pytest.mark.parametrize(
    ("codes", "shown"),
    [(["LP301", "LP302"], "LP301, LP302"), ([f"LP30{n}" for n in range(1, 9)], "LP301 to LP308")],
)
def test_what_was_not_checked_is_told_once_for_each_reason(codes: list[str], shown: str) -> None:
    unchecked = (*(Unchecked(code, "no base") for code in codes), Unchecked("LP401", "no values"))
    told = lines(report("inconclusive", unchecked=unchecked), quiet=True)
    assert told == [
        f"not checked {shown}: no base",
        "not checked LP401: no values",
        "inconclusive: a required check could not run; 0 errors, 0 warnings",
    ]


def test_json_is_the_report_itself() -> None:
    failed = report("failed", findings=(SHAPE,), unchecked=(Unchecked("LP401", "\u2028 no values"),))
    shown = json_report.render(failed)
    assert json.loads(shown) == json.loads(json.dumps(failed.to_dict()))
    assert shown.isascii()


def test_a_reason_that_many_targets_share_is_told_once_below_their_table() -> None:
    names = "together", "peft", "mlx"
    reasons = "no base config", "no base config", "LP505 refuses it"
    kinds: tuple[Any, ...] = ("inconclusive", "inconclusive", "failed")
    rows = tuple(
        TargetVerdict(name, None, kind, 0, 0, reason, name)
        for name, kind, reason in zip(names, kinds, reasons, strict=True)
    )
    shown = lines(report("inconclusive", targets=rows, deciding=1, unchecked=(Unchecked("LP301", "no base config"),)))
    assert sum("no base config" in line for line in shown) == 1
    assert [line.split()[-1] for line in shown if line.strip("* ").startswith(names)] == ["below", "below", "it"]
