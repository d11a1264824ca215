"""How a command ends where it has no verdict: a bug, a standard output that takes nothing, an interrupt."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from builders import TINY, TINY_BASE

Cli = Callable[..., Any]
CHECK = ("check", str(TINY), "--base-config", str(TINY_BASE))
PLACE = ("--base-config", str(TINY_BASE), "--to", "s3://bucket/prefix/")

BUG = """
import lora_packer.inspector
from lora_packer.cli import main
def check(*arguments, **options):
    raise AttributeError("a bug")
lora_packer.inspector.check = check
main()
"""


def run(*arguments: str, stdout: Any = subprocess.PIPE, code: tuple[str, ...] = ("-m", "lora_packer")) -> Any:
    command = [sys.executable, *code, *arguments]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_a_bug_keeps_its_traceback_and_is_no_verdict() -> None:
    done = run(*CHECK, code=("-c", BUG))
    assert (done.returncode, done.stdout) == (70, "")
    assert "Traceback" in done.stderr
    assert "AttributeError: a bug" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (CHECK, "error: The result cannot be printed: No space left on device.\n"),
        ((*CHECK, "--format", "json"), "error: The result cannot be printed: No space left on device.\n"),
        (("check", "nowhere", "--format", "json"), "error: there is no folder or archive 'nowhere'"),
        (("--help",), "No space left on device"),
    ],
)
def test_a_full_standard_output_is_no_verdict(arguments: tuple[str, ...], said: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == (2 if "nowhere" in arguments else 70)
    assert said in done.stderr
    assert ("Traceback" in done.stderr) is (arguments == ("--help",))


@pytest.mark.parametrize("arguments", [CHECK, ("rule",), ("--help",), ("release", "--help")])
def test_a_closed_standard_output_is_no_verdict_and_no_noise(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(*arguments, stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (70, "")


@pytest.mark.parametrize(
    ("arguments", "function", "said"),
    [
        (
            ("publish", str(TINY), *PLACE),
            "lora_packer.publisher.publish",
            "Run the same command again to go on: parts that the store has are kept",
        ),
        (
            ("release", str(TINY), *PLACE, "--model-name", "m", "--base-model", "tiny/llama"),
            "lora_packer.pipeline.release.release",
            "Run the same command again to go on: the receipt knows what is done",
        ),
        (
            ("release", str(TINY), *PLACE, "--model-name", "m", "--base-model", "tiny/llama", "--sandbox"),
            "lora_packer.sandbox.Sandbox",
            "nothing of the rehearsal is kept",
        ),
    ],
)
def test_an_interrupt_says_what_is_kept_and_what_to_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], function: str, said: str
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupted)
    result = cli(*arguments)
    assert result.code == 130
    assert said in result.err
    assert result.err.endswith("\ninterrupted\n")


@pytest.mark.parametrize("where", ["nowhere/u.url", ".", "held/u.url"])
@pytest.mark.parametrize("command", ["publish", "presign"])
def test_a_url_file_that_cannot_be_written_is_known_before_anything_is_sent(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, where: str
) -> None:
    def asked(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the store was asked")

    monkeypatch.setattr("lora_packer.publisher.publish", asked)
    monkeypatch.setattr("lora_packer.publisher.presign_object", asked)
    (tmp_path / "held").write_text("a file, not a folder")
    source = [str(TINY), *PLACE] if command == "publish" else ["s3://bucket/key.zip"]
    result = cli(command, *source, "--url-file", tmp_path / where)
    assert (result.code, result.out) == (2, "")
    assert "cannot be written" in result.err
    assert "Choose another --url-file." in result.err


def test_the_help_of_release_says_what_the_receipt_is_called(cli: Cli) -> None:
    text = " ".join(cli("release", "--help").out.split())
    assert "named after ADAPTER: my-lora.receipt.json for path/to/my-lora" in text
