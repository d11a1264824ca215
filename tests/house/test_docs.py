"""README and docs say what the program does: every command, option and exit code, and nothing that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT

from lora_packer import errors
from lora_packer.base_model import ARCHITECTURES
from lora_packer.cli import COMMANDS

README = (ROOT / "README.md").read_text()
OPTIONS = (ROOT / "docs" / "options.md").read_text()
PAGES = {path.name: path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented_and_has_help(command: str, cli: Callable[..., Any]) -> None:
    assert f"| `lora-packer {command}" in README
    result = cli(command, "--help")
    assert result.code == 0
    assert f"lora-packer {command}" in result.out or "Usage:" in result.out
    assert len(result.out.splitlines()) > 8


def test_every_command_in_the_readme_exists() -> None:
    assert set(re.findall(r"^\| `lora-packer (\w+)", README, re.MULTILINE)) == set(COMMANDS)
    assert set(re.findall(r"lora-packer ([a-z]+) ", README)) - {"stands"} <= set(COMMANDS)


def test_the_readme_is_short_and_says_where_to_read_on() -> None:
    assert len(README.splitlines()) < 130
    linked = set(re.findall(r"\(docs/([\w-]+\.md)\)", README))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - linked == set()


# Options of programs that the pages speak of beside lora-packer.
OTHERS = {"--hf-token", "--model-source", "--model-type", "--display-name", "--user", "--env", "--env-file", "--install-completion",
          "--show-completion", "--model"}  # fmt: skip


def test_every_option_that_is_named_exists(cli: Callable[..., Any]) -> None:
    helps = "".join(cli(command, "--help").out for command in COMMANDS)
    named = {option for text in PAGES.values() for option in re.findall(r"`(--[a-z-]+)", text)}
    assert {option for option in named - OTHERS if option not in helps} == set()


def test_every_exit_code_is_documented() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", OPTIONS, re.MULTILINE)}
    raised = {
        error.exit_code for error in vars(errors).values() if isinstance(error, type) and hasattr(error, "exit_code")
    }
    assert documented == raised | {0, 130}


# Of these the one needs torch, and the other the service's whole specification.
ELSEWHERE = {"make_pickled.py", "make_openapi.py"}


@pytest.mark.parametrize("tool", sorted({path.name for path in (ROOT / "tools").glob("make_*.py")} - ELSEWHERE))
def test_what_is_generated_is_current(tool: str) -> None:
    """Each generator compares by itself, and prints what differs."""
    done = subprocess.run([sys.executable, ROOT / "tools" / tool, "--check"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_differs_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    from generated import settle

    old, same, gone = tmp_path / "old.md", tmp_path / "same.md", tmp_path / "gone.md"
    old.write_text("one\ntwo\n")
    same.write_text("same\n")
    gone.write_text("gone\n")
    made: dict[Path, str | bytes] = {old: "one\nthree\n", same: "same\n", tmp_path / "raw": b"\xff"}
    monkeypatch.setattr(sys, "argv", ["tools/make_it.py", "--check"])
    assert settle(made, only=[old, gone]) == 1
    told = capsys.readouterr().err
    for line in ("-two\n", "+three\n", "-gone\n", "raw: 0 bytes, and 1 others", "run python tools/make_it.py\n"):
        assert line in told
    assert "same" not in told
    assert old.read_text() == "one\ntwo\n"
    monkeypatch.setattr(sys, "argv", ["tools/make_it.py"])
    assert settle(made, only=[old, gone]) == 0
    assert (old.read_text(), gone.exists(), (tmp_path / "raw").read_bytes()) == ("one\nthree\n", False, b"\xff")
    monkeypatch.setattr(sys, "argv", ["tools/make_it.py", "--check"])
    assert settle(made, only=[old]) == 0


def test_the_table_of_supported_models_and_its_number_are_current() -> None:
    table = (ROOT / "docs" / "supported-models.md").read_text()
    remote = {name for name, architecture in ARCHITECTURES.items() if architecture.proof is not None}
    assert re.findall(r"^\| (\S+) \| \d", table, re.MULTILINE) == sorted(ARCHITECTURES.keys() - remote)
    assert re.findall(r"^\| (\S+) \| (?:built|read) \| .", table, re.MULTILINE) == sorted(remote)
    count = len(ARCHITECTURES) - len(remote)
    assert f"the {count} model types in [docs/supported-models.md]" in README
    assert f"the {count} model types in [supported models]" in PAGES["what-it-checks.md"]
    assert f"Of {len(remote)} types transformers has no class" in PAGES["what-it-checks.md"]
    assert f"for {count} model\n  types" in (ROOT / "CHANGELOG.md").read_text()
