"""Durations are read strictly, and shown in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

import lora_packer
from lora_packer.duration import format_duration, parse_duration


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
