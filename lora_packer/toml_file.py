"""A TOML file that a person wrote: regular, bounded in size, and told in a sentence where it cannot be read."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from lora_packer.errors import InputError
from lora_packer.files import read_whole
from lora_packer.redact import escape

MOST_BYTES = 1_000_000


def read_toml(path: Path, what: str, *, hint: str | None = None) -> dict[str, Any]:
    """Return what is in a TOML file; ``what`` is what the sentences call it. Raises InputError."""
    return parse_toml(toml_bytes(path, what, hint=hint), path, what, hint=hint)


def toml_bytes(path: Path, what: str, *, hint: str | None = None) -> bytes:
    """Return the bytes of a regular file that is not too large. Raises InputError."""
    try:
        return read_whole(path, MOST_BYTES)
    except OSError as error:
        told = error.strerror or str(error)
    except ValueError as error:  # too long, or no path at all
        told = escape(str(error), 120)
    raise InputError(f"{what} '{escape(str(path))}' cannot be read: {told}.", hint=hint)


def parse_toml(data: bytes, path: Path, what: str, *, hint: str | None = None) -> dict[str, Any]:
    """Return what the bytes of a TOML file say. Raises InputError."""
    shown = escape(str(path))
    try:
        return tomllib.loads(data.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{what} '{shown}' is not TOML: {escape(str(error), 120)}.", hint=hint) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{what} '{shown}' cannot be read: {escape(str(error), 120)}.", hint=hint) from None
    except RecursionError:
        raise InputError(f"{what} '{shown}' is nested too deeply.", hint=hint) from None
    except ValueError as error:  # a number with more digits than Python converts
        raise InputError(f"{what} '{shown}' cannot be read: {escape(str(error), 120)}.", hint=hint) from None
