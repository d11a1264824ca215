"""The record of a release is read strictly, and comes back as it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lora_packer
from lora_packer.pipeline.receipt import Receipt, load_receipt


def test_receipts_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    assert load_receipt(path) is None
    written = Receipt({"model_name": "a"}, {"sha256": {}}, path=path).with_(check={"status": "ok"})
    assert load_receipt(path) == written
    assert json.loads(path.read_text())["check"] == {"status": "ok"}


@pytest.mark.parametrize(
    "value",
    [
        "{}",
        "[]",
        "nonsense",
        "[" * 100_000,
        {"schema_version": 2, "release": {}, "adapter": {}},
        {"schema_version": 1, "release": {}, "adapter": {}, "job": 3},
    ],
)
def test_what_is_no_receipt(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "r.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(lora_packer.InputError, match="not a receipt"):
        load_receipt(path)


def test_a_receipt_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(lora_packer.InputError, match="cannot be written"):
        Receipt({}, {}, path=tmp_path / "gone" / "r.json").save()
