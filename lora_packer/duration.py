"""Durations as people write them: ``12h``, ``100m``, ``1h30m``, ``7d``, ``90s``."""

from __future__ import annotations

import re
from datetime import timedelta

from lora_packer.errors import InputError

_DURATION = re.compile(r"(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Return the duration that ``text`` names; a bare number is seconds. Raises InputError."""
    compact = text.strip().lower().replace(" ", "")
    if compact.isascii() and compact.isdigit() and len(compact) <= 9:
        return timedelta(seconds=int(compact))
    match = _DURATION.fullmatch(compact)
    if not compact or match is None:
        raise InputError(f"{text!r} is not a duration.", hint="Write it like 12h, 100m, 1h30m, 7d or 90s.")
    days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Return the duration in at most two units: ``12 h``, ``1 h 40 min``, ``45 s``."""
    seconds = max(0, round(duration.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    return " ".join([part for part in parts if part][:2])
