"""The fenced blocks of the documentation, and what each kind has to be: run, compiled or parsed, and none left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import typer
from builders import ROOT

from lora_packer.cli import COMMANDS, build

# Where people read. The pages of rules are docs/rules/*.md: tests/house/test_rule_pages.py runs their sessions.
PAGES = (
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "rules").glob("*.md")),
    ROOT / "fixtures" / "README.md",
)
_BLOCK = re.compile(r"^([ ]*)```(\S*)\n((?:.*\n)*?)\1```", re.MULTILINE)
# What stands between the words of a shell: the commands of a line are looked at one by one.
_BETWEEN = re.compile(r" && | \| |; ")


@dataclass(frozen=True)
class Block:
    """One fenced block: on which page, from which line on, in which language, and its text without the indentation."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], re.sub(f"^{found[1]}", "", found[3], flags=re.M))
        for found in _BLOCK.finditer(text)
    ]


def commands(text: str) -> Iterator[str]:
    """Yield the commands of shell text, one a line, without comments, with continued lines joined."""
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"(^|\s)#.*", "", line).strip()
        if command:
            yield command


def parts(command: str) -> list[list[str]]:
    """Return the words of each command of a line. Raises ValueError where a quotation has no end."""
    return [shlex.split(part) for part in _BETWEEN.split(command)]


@cache
def _group() -> Any:
    return typer.main.get_command(build())


def parse(words: list[str]) -> None:
    """Hold a lora-packer command's words against its options and arguments. Raises AssertionError."""
    if words in (["--install-completion"], ["--show-completion"]):
        return
    name, *others = words
    assert name in COMMANDS, f"there is no command {name}"
    try:
        with _group().commands[name].make_context(name, others):
            pass
    except Exception as error:  # noqa: BLE001 - of typer's own click
        raise AssertionError(f"lora-packer {shlex.join(words)}: {error}") from None
