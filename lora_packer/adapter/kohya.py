"""The names of kohya's sd-scripts, as they stand in a file (``networks/lora.py``, github.com/kohya-ss/sd-scripts)."""

from __future__ import annotations

import re
from collections.abc import Iterable

PREFIX = re.compile(r"lora_(?:unet|te\d?)_")
NAME = re.compile(rf"(?P<prefix>{PREFIX.pattern})(?P<flat>[^.]+)\.(?P<part>lora_down\.weight|lora_up\.weight|alpha)")


def is_kohya(names: Iterable[str]) -> bool:
    """Whether these are the names of a LoRA of kohya's, and all of them."""
    names = list(names)
    return bool(names) and all(NAME.fullmatch(name) for name in names)
