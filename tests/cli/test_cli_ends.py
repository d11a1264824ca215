"""How a command ends where it has no verdict: a bug, a standard output that takes nothing, an interrupt."""

from __future__ import annotations

import json
import os
import shlex
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
    assert done.stderr.endswith(
        "error: This is a bug in lora-packer, and no verdict on what was given (AttributeError: a bug).\n"
        "  Report it with the lines above.\n"
    )


def test_a_bug_is_json_where_json_was_asked_for_and_keeps_secrets() -> None:
    code = BUG.replace("a bug", "hf_abcdefghijklmnopqrstuvwxyz")
    done = run(*CHECK, "--format", "json", code=("-c", code))
    assert done.returncode == 70
    error = json.loads(done.stdout)["error"]
    assert (error["type"], error["exit_code"]) == ("InternalError", 70)
    assert "hf_abc" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ('OSError(28, "No space left on device", "/tmp/x")', "There is no room to write '/tmp/x': No space left"),
        ("MemoryError()", "There is not enough memory for this."),
    ],
)
def test_a_full_disk_and_a_full_memory_are_a_sentence(raised: str, said: str) -> None:
    done = run(*CHECK, code=("-c", BUG.replace('AttributeError("a bug")', raised)))
    assert (done.returncode, done.stdout) == (70, "")
    assert done.stderr.startswith(f"error: {said}")
    assert "Traceback" not in done.stderr


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
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "redirected", "code", "said"),
    [
        (CHECK, ">&-", 70, "error: The result cannot be printed: standard output is closed.\n"),
        (("--help",), ">&-", 70, "error: The result cannot be printed: standard output is closed.\n"),
        (("check", "nowhere"), ">&-", 2, "error: there is no folder or archive 'nowhere'"),
        (CHECK, "2>&-", 0, ""),
        (("check", "nowhere"), "2>&-", 2, ""),
        (CHECK, "<&- >&- 2>&-", 70, ""),
        (CHECK, "2>/dev/full", 0, ""),
        (("check",), "2>/dev/full", 2, ""),
        (("pack", *CHECK[1:], "--output", "a.zip"), "2>/dev/full", 0, ""),
        (("pack", *CHECK[1:], "--output", "a.zip"), "<&- 2>&-", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full_change_no_verdict(
    tmp_path: Path, arguments: tuple[str, ...], redirected: str, code: int, said: str
) -> None:
    line = f"exec {shlex.join((sys.executable, '-m', 'lora_packer', *arguments))} {redirected}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("check",), "Missing argument 'ADAPTER...'.", "`lora-packer check --help` has every option."),
        (("check", "a", "--nothing"), "No such option: --nothing", "`lora-packer check --help` has every option."),
        (("check", "a", "--fail-on", "x"), "Invalid value for '--fail-on': 'x' is", "`lora-packer check --help` has"),
        (("publish", "a", "--to"), "Option '--to' requires an argument.", "`lora-packer publish --help` has every"),
        (("release", "a"), "Missing option '--", "`lora-packer release --help` has every option."),
        (("chekc", "a"), "No such command 'chekc'.", "`lora-packer --help` lists the commands."),
    ],
)
@pytest.mark.parametrize("json_words", [("--format", "json"), ("--format=json",), ()])
def test_a_wrong_command_line_is_told_as_every_error(
    cli: Cli, arguments: tuple[str, ...], message: str, hint: str, json_words: tuple[str, ...]
) -> None:
    done = cli(*arguments[:1], *json_words, *arguments[1:])
    assert done.code == 2
    assert done.err.startswith(f"error: {message}")
    assert f"\n  {hint}" in done.err
    if json_words:
        error = json.loads(done.out)["error"]
        assert error["type"] == "UsageError"
        assert error["message"].startswith(message)
        assert error["exit_code"] == 2
    else:
        assert done.out == ""


def test_the_last_format_counts(cli: Cli) -> None:
    assert cli("check", "--format", "json", "--format", "text").out == ""


def test_without_a_command_there_is_the_help(cli: Cli) -> None:
    done = cli()
    assert done.code == 2
    assert done.err.startswith("Usage: ")


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
            "lora_packer.pipeline.publish.publish",
            "Nothing was sent.\n  Go on with: lora-packer publish",
        ),
        (
            ("release", str(TINY), *PLACE, "--model-name", "m", "--base-model", "tiny/llama"),
            "lora_packer.pipeline.release.release",
            "Nothing was sent.\n  Go on with: lora-packer release",
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
    assert "interrupted\n  " in result.err
    assert said in result.err
    assert json.loads(cli(*arguments, "--format", "json").out)["error"]["exit_code"] == 130


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
    assert "named after ADAPTER: my-lora.NAME.receipt.json for path/to/my-lora" in text
