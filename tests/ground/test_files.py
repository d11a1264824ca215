"""Files are written whole or not at all; durations and receipts are read strictly."""

from __future__ import annotations

import json
import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import lora_packer
from lora_packer.duration import format_duration, parse_duration
from lora_packer.files import write_whole
from lora_packer.pipeline.receipt import Receipt, load_receipt


@pytest.mark.parametrize(
    ("private", "umask", "mode"), [(False, 0o022, 0o644), (False, 0o027, 0o640), (True, 0o000, 0o600)]
)
def test_modes(tmp_path: Path, private: bool, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "f", "text\n", private=private)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode
    assert (tmp_path / "f").read_text() == "text\n"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_whole(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("100m", 6000), ("12h", 43200), ("7d", 604800), ("1h30m", 5400), (" 1H 30M ", 5400)],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "soon", "1.5h", "-1h", "1w", "h", "１h", "9" * 30])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(lora_packer.InputError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (45, "45 s"), (60, "1 min"), (6000, "1 h 40 min"), (43200, "12 h"), (90061, "1 d 1 h")],
)
def test_durations_are_shown(seconds: int, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


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
