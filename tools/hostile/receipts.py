"""Receipts and journals: what an earlier run, or somebody else, left behind."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostile.case import (
    FAILED,
    INCONCLUSIVE,
    SERVICE,
    TINY_BASE,
    UNREADABLE,
    UPLOAD,
    WAITING,
    Arguments,
    Build,
    Case,
    cases,
    tiny,
)

_EVIL = "\x1b[31m\x1b]0;pwn\x07\n::error::x\r\u202e"
_VALUES: dict[str, Any] = {
    "null": None,
    "5": 5,
    "text": _EVIL,
    "a list": [1],
    "an object": {"a": _EVIL},
    "100,000 characters": "j" * 100_000,
    "true": True,
}
_SECTIONS = (
    "schema_version",
    "adapter",
    "base_model",
    "check",
    "archive",
    "object",
    "submission",
    "endpoint",
    "answer",
    "url",
    "tool",
    "created_at",
)
_FIELDS = (
    ("submission", "job_id"),
    ("submission", "model_name"),
    ("submission", "api"),
    ("object", "key"),
    ("object", "bucket"),
    ("adapter", "sha256"),
    ("adapter", "commit"),
    ("adapter", "source"),
    ("check", "status"),
    ("archive", "sha256"),
    ("endpoint", "id"),
    ("answer", "text"),
)


def _release(folder: Path) -> Arguments:
    tiny(folder)
    return [
        "release",
        "a",
        "--base-config",
        str(TINY_BASE),
        "--base-model",
        "org/model",
        "--model-name",
        "m",
        "--to",
        "s3://bucket/p/",
        "--endpoint-url",
        "http://127.0.0.1:1",
        "--receipt",
        "r.json",
    ]


def _with_receipt(make: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> Arguments:
        make(folder / "r.json")
        return _release(folder)

    return build


def _large(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 500_000_000)


def _written(value: Any) -> Build:
    return _with_receipt(lambda path: path.write_text(value if isinstance(value, str) else json.dumps(value)))


def _field(section: str, field: str, value: Any) -> Any:
    return {"schema_version": 1, "adapter": {"source": "a", "sha256": "0" * 64}, section: {field: value}}


def all_cases() -> list[Case]:
    """Return the cases."""
    files: list[tuple[str, Build]] = [
        ("a FIFO", _with_receipt(os.mkfifo)),
        ("a link to /dev/zero", _with_receipt(lambda path: path.symlink_to("/dev/zero"))),
        ("a folder", _with_receipt(Path.mkdir)),
        ("a link to itself", _with_receipt(lambda path: path.symlink_to("r.json"))),
        ("500 MB", _with_receipt(_large)),
        ("not JSON", _written("{")),
        ("an array", _written("[]")),
        ("deep lists", _written("[" * 100_000 + "]" * 100_000)),
        ("a number of 100,000 digits", _written('{"schema_version": ' + "9" * 100_000 + "}")),
        ("schema_version 999", _written({"schema_version": 999})),
        ("100,000 sections", _written({f"s{n}": n for n in range(100_000)})),
    ]
    sections = [
        (f"{section} = {what}", _written({"schema_version": 1, section: value}))
        for section in _SECTIONS
        for what, value in _VALUES.items()
    ]
    fields = [
        (f"{section}.{field} = {what}", _written(_field(section, field, value)))
        for section, field in _FIELDS
        for what, value in _VALUES.items()
    ]
    keys = {
        "TOGETHER_API_KEY": "key",
        "TOGETHER_BASE_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    exits = frozenset({FAILED, UNREADABLE, INCONCLUSIVE, UPLOAD, SERVICE, WAITING})
    leaves = (".r.json.lock", "*.partial")
    return cases("receipt", [*files, *sections, *fields], exits=exits, environment=keys, leaves=leaves, seconds=3.0)
