"""What a person sees on terminals of 30 to 160 columns, with colours and without; elsewhere a sentence is one line."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY, TINY_BASE

from lora_packer.cli.fold import fold

Cli = Callable[..., Any]
BROKEN = ROOT / "fixtures" / "broken" / "missing-lora-b"
STYLE = re.compile(r"\x1b\[[0-9;]*[mK]")
WIDTHS = (30, 40, 80, 160)

SENTENCE = "error LP306 half-pair: lora_B is missing for 1 module, whose other half is in the file"
# What it is: width, line, and what it becomes.
CASES = {
    "fits": (80, "ok: 0 errors", "ok: 0 errors"),
    "a sentence goes on further in": (
        40,
        SENTENCE,
        "error LP306 half-pair: lora_B is missing\n    for 1 module, whose other half is in\n    the file",
    ),
    "a value goes on under itself": (
        40,
        "    next      Save the adapter again; half of it was lost.",
        "    next      Save the adapter again;\n              half of it was lost.",
    ),
    "an indented line keeps its indentation": (
        30,
        "  Give the folder that holds both of its files.",
        "  Give the folder that holds\n  both of its files.",
    ),
    "a path is not cut, and stays beside its label": (
        30,
        "    tensor    base_model.model.model.layers.0.self_attn",
        "    tensor    base_model.model.model.layers.0.self_attn",
    ),
    "a command between backquotes is one word": (
        40,
        "it costs $3.90 an hour until `lora-packer stop ep_1`",
        "it costs $3.90 an hour until\n    `lora-packer stop ep_1`",
    ),
    "a command to copy stays one line": (
        30,
        "next      lora-packer ask ep_1234567890 'Hello there'",
        "next      lora-packer ask ep_1234567890 'Hello there'",
    ),
    "what goes on is copied too": (
        30,
        "  Go on with: lora-packer release a --model-name b --to s3://c/",
        "  Go on with: lora-packer release a --model-name b --to s3://c/",
    ),
    "the sentence of a table's row": (
        60,
        "LP101  error    missing-file           A required file is not at the root.",
        "LP101  error    missing-file           A required file is\n" + " " * 39 + "not at the root.",
    ),
    "the sentence of a row without room for it": (
        40,
        "LP101  error    missing-file           A required file is not there.",
        "LP101  error    missing-file\n                A required file is not\n                there.",
    ),
    "colours take no room": (
        20,
        "\x1b[1;31merror\x1b[0m: there is none",
        "\x1b[1;31merror\x1b[0m: there is none",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("width", "line", "expected"), CASES.values(), ids=CASES)
def test_fold(width: int, line: str, expected: str) -> None:
    assert fold(line, width) == expected
    assert " ".join(fold(line, width).split()) == " ".join(line.split())


def shown(width: int, *arguments: object, color: bool = False) -> str:
    """What a command shows on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    wanted = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment = {**wanted, "TERM": "xterm-256color", **({} if color else {"NO_COLOR": "1"})}
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_packer", *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    read = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        read += piece
    process.wait(60)
    os.close(ours)
    return read.decode().replace("\r\n", "\n")


COMMANDS: dict[str, tuple[object, ...]] = {
    "a report": ("check", BROKEN, "--base-config", TINY_BASE),
    "several reports": ("check", BROKEN, "nowhere", "--base-config", TINY_BASE),
    "several lines": ("check", BROKEN, "nowhere", "--base-config", TINY_BASE, "--quiet"),
    "a difference": ("diff", TINY, BROKEN),
    "a picture": ("check", TINY, "--base-config", TINY_BASE, "--stats"),
    "a help": ("release", "--help"),
    "all commands": ("--help",),
    "a table": ("rule",),
    "a rule": ("rule", "LP306"),
    "an error": ("check", "nowhere"),
    "a wrong command line": ("stop", "a", "--all"),
}


@pytest.mark.parametrize("color", [False, True], ids=["plain", "coloured"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_line_fits_the_terminal(name: str, width: int, color: bool) -> None:
    """Longer ones are a path, an address or a command: the last word of a line, or a line to copy."""
    seen = shown(width, *COMMANDS[name], color=color)
    plain = STYLE.sub("", seen)
    assert plain.strip()
    assert color or seen == plain
    for line in plain.splitlines():
        if len(line) <= width or "lora-packer" in line or line.endswith("\\"):
            continue
        before, _, word = line.rstrip().rpartition(" ")
        assert len(before.rstrip()) < width, (width, line)
        assert len(word) > width // 2, (width, line)


def test_where_nobody_looks_a_sentence_is_one_line(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    for told in (cli("check", BROKEN, "--base-config", TINY_BASE).out,):
        assert SENTENCE in told.splitlines()
    assert "error: there is no folder or archive 'nowhere'." in cli("check", "nowhere").err.splitlines()


@pytest.mark.parametrize("form", ["json", "sarif", "junit", "github"])
def test_what_is_for_a_program_is_the_same_on_a_narrow_terminal(cli: Cli, form: str) -> None:
    arguments = ("check", BROKEN, "nowhere", "--base-config", TINY_BASE, "--format", form)
    assert shown(20, *arguments, color=True) == cli(*arguments).out
