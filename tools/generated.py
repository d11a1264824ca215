"""What every generator of this folder does with what it made: write it, or with ``--check`` say what differs."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_MOST_LINES = 40  # of a difference that are shown
_MOST_CHARACTERS = 400  # of a line of it


def settle(made: Mapping[Path, str | bytes], *, only: Iterable[Path] | None = None) -> int:
    """Write each file, or with ``--check`` on the command line print what differs; return the exit code.

    ``only`` lists the files that are there already: one that was not made is removed, or is a difference.
    """
    checked = "--check" in sys.argv[1:]
    wrong = 0
    for path in sorted({*made, *(only or ())}):
        before = path.read_bytes() if path.exists() else b""
        content = made.get(path)
        after = content.encode() if isinstance(content, str) else content
        if before == after and path.exists():
            continue
        wrong += 1
        if checked:
            sys.stderr.writelines(f"{line}\n" for line in _difference(path, before, after or b""))
        elif after is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(after)
    if wrong and checked:
        sys.stderr.write(f"run python {Path(sys.argv[0]).parent.name}/{Path(sys.argv[0]).name}\n")
    return 1 if wrong and checked else 0


def _difference(path: Path, before: bytes, after: bytes) -> list[str]:
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
    try:
        old, new = before.decode().splitlines(), after.decode().splitlines()
    except UnicodeDecodeError:
        return [f"{name}: {len(before):,} bytes, and {len(after):,} others are made now"]
    lines = list(difflib.unified_diff(old, new, name, f"{name}, as it is made now", lineterm="", n=1))
    more = [f"... and {len(lines) - _MOST_LINES:,} lines more"] if len(lines) > _MOST_LINES else []
    return [line[:_MOST_CHARACTERS] for line in lines[:_MOST_LINES]] + more


def plain(text: str) -> str:
    """Return a text so that Markdown shows it as it is: `<` and `*` begin nothing in it; what is code stays code."""
    words, *others = re.split(r"(`+[^`]+`+)", " ".join(text.split()))
    shown = [_escaped(words)]
    for code, words in zip(others[::2], others[1::2], strict=True):
        shown += [code, _escaped(words)]
    return "".join(shown)


def _escaped(text: str) -> str:
    return re.sub(r"([<*_\[\]])", r"\\\1", text)
