"""The help, and what a person at a terminal sees: whole sentences, sections, examples that parse, colours, completion."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE
from typer.main import get_command

from lora_packer.cli import COMMANDS, build
from lora_packer.cli.help import ENVIRONMENT, EXAMPLES

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_each_command_is_told_in_a_whole_sentence(cli: Cli) -> None:
    text = cli("--help").out
    assert "..." not in text.replace("[ARGS]...", "")
    rows = re.findall(r"^  (\w+) {2,}(.*(?:\n {5,}.*)*)", text.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in rows] == list(COMMANDS)
    assert all(sentence.endswith(".") for _, sentence in rows)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_and_has_sections_and_examples(cli: Cli, name: str) -> None:
    text = cli(name, "--help").out
    assert max(map(len, text.splitlines())) <= 80
    assert "{" not in text.splitlines()[0]
    assert "<str>" not in text
    assert "\nExamples:\n" in text
    assert "\nOutput:\n" in text
    assert ("\nEnvironment:\n" in text) is (name in ENVIRONMENT)


@pytest.mark.parametrize(("name", "example"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_every_example_is_a_command_line(name: str, example: str) -> None:
    words = shlex.split(example)
    assert words[:2] == ["lora-packer", name]
    command = get_command(build([name])).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words[2:]).close()


def test_an_example_over_several_lines_is_one_command_line(cli: Cli) -> None:
    shown = cli("release", "--help").out.partition("Examples:\n")[2].partition("\n\n")[0]
    joined = [" ".join(line.split()) for line in shown.replace("\\\n", " ").splitlines()]
    assert joined == list(EXAMPLES["release"])


@pytest.mark.parametrize(
    ("environment", "options", "is_colored"),
    [
        ({}, [], False),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, [], True),
        ({"FORCE_COLOR": "1"}, ["--no-color"], False),
        ({"FORCE_COLOR": ""}, [], False),
    ],
)
def test_colours_in_a_pipe(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], options: list[str], is_colored: bool
) -> None:
    monkeypatch.delenv("NO_COLOR")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in cli("check", TINY, "--base-config", TINY_BASE, *options).out) is is_colored


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands_and_options(shell: str) -> None:
    def completed(line: str) -> str:
        environment = {
            **os.environ,
            "_LORA_PACKER_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(shlex.split(line)) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        done = subprocess.run(
            [sys.executable, "-m", "lora_packer"], env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    assert "release" in completed("lora-packer rel")
    assert "--base-config" in completed("lora-packer check --base-c")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("check", "org/repo"), "For a repo of the Hugging Face Hub write hf://org/repo."),
        (("identify", "org/repo@v1"), "For a repo of the Hugging Face Hub write hf://org/repo@v1."),
        (("pack", "org/repo"), "For a repo of the Hugging Face Hub write hf://org/repo."),
    ],
)
def test_a_hub_repo_is_proposed_for_a_name_that_is_no_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.code == 2
    assert hint in done.err


@pytest.mark.parametrize("name", ["nowhere", "./org/repo", "a/b/c", "/org/repo", "..", "org/"])
def test_what_can_be_no_repo_is_not_proposed(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "hf://" not in cli("check", name).err


@pytest.mark.parametrize(
    "arguments",
    [("check", TINY, "--base-config", TINY_BASE), ("pack", TINY, "--no-check", "--output", "a.zip"), ("rule",)],
)
def test_verbose_says_something_in_every_command(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    plain, verbose = cli(*arguments), cli(*arguments, "--verbose")
    assert plain.code == verbose.code
    assert "lora-packer 0." not in plain.err
    first, *_, last = verbose.err.splitlines()
    assert first.startswith("lora-packer 0.")
    assert re.fullmatch(r"took \d+\.\d s", last)
    assert cli(*arguments, "--verbose", "--quiet").err == ""
