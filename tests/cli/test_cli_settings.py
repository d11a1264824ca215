"""Options from ``[tool.lora-packer]`` and ``lora-packer.toml``: which file counts, what it sets, what it does not."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE

from lora_packer.cli import COMMANDS, _every_option
from lora_packer.cli.settable import refusal

Cli = Callable[..., Any]
ROOT = TINY.parent.parent
BROKEN = ROOT / "broken"
BASE = f'base-config = "{TINY_BASE}"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder below a project, as deep as one works."""
    below = tmp_path / "project" / "work"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    return below


def write(folder: Path, text: str, name: str = "lora-packer.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- which file counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lora-packer.toml", BASE),
        ("lora-packer.toml", f"[check]\n{BASE}"),
        ("lora-packer.toml", f"[tool.lora-packer]\n{BASE}"),
        ("pyproject.toml", f"[tool.lora-packer]\n{BASE}"),
        ("pyproject.toml", f"[project]\nname = 'x'\n[tool.lora-packer.check]\n{BASE}"),
    ],
)
@pytest.mark.parametrize("up", [0, 1, 2])
def test_options_are_found_upwards(cli: Cli, folder: Path, name: str, text: str, up: int) -> None:
    write((folder, *folder.parents)[up], text, name)
    done = cli("check", TINY, "--target", "peft")
    assert (done.code, f"llama ({TINY_BASE})" in done.out) == (0, True)


def test_the_nearest_file_that_has_settings_counts(cli: Cli, folder: Path) -> None:
    write(folder, "[tool.other]\nx = 1\n", "pyproject.toml")
    write(folder.parent, f"[tool.lora-packer]\n{BASE}target = 'peft'\n", "pyproject.toml")
    write(folder.parent.parent, f"{BASE}target = 'vllm'\n")
    assert "target      peft" in cli("check", TINY).out


def test_the_file_of_its_own_goes_before_the_projects(cli: Cli, folder: Path) -> None:
    write(folder, f"{BASE}target = 'peft'\n")
    write(folder, "[tool.lora-packer]\ntarget = 'vllm'\n", "pyproject.toml")
    assert "target      peft" in cli("check", TINY).out


def test_a_project_file_of_other_tools_may_be_broken(cli: Cli, folder: Path) -> None:
    write(folder, "this is no TOML", "pyproject.toml")
    assert cli("check", TINY, "--base-config", TINY_BASE).code == 0


def test_config_names_another_file_and_isolated_reads_none(cli: Cli, folder: Path, tmp_path: Path) -> None:
    write(folder, "target = 'vllm'\n")
    other = write(tmp_path, f"{BASE}target = 'peft'\n", "other.toml")
    assert "target      peft" in cli("check", TINY, "--config", other).out
    assert "target      together" in cli("check", TINY, "--isolated", "--base-config", TINY_BASE).out
    both = cli("check", TINY, "--isolated", "--config", other)
    assert (both.code, "Leave one of them out." in both.err) == (2, True)


def test_verbose_says_which_file_was_read(cli: Cli, folder: Path) -> None:
    path = write(folder.parent, f"[tool.lora-packer]\n{BASE}", "pyproject.toml")
    assert f"settings  '{path}' [tool.lora-packer]\n" in cli("check", TINY, "--verbose").err
    assert "settings" not in cli("check", TINY, "--verbose", "--isolated").err
    assert str(path) not in cli("check", TINY).err


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"= 1", "is not TOML: "),
        (b"[tool.lora-packer]\nx = '\xff'", "cannot be read: "),
        (b"# lora-packer\n" + b"#" * 1_000_000, "cannot be read: it has more than 1,000,000 bytes"),
        (b"x = " + b"[" * 50_000, "is n"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(cli: Cli, folder: Path, data: bytes, told: str) -> None:
    (folder / "lora-packer.toml").write_bytes(data)
    done = cli("check", TINY, "--base-config", TINY_BASE)
    assert done.code == 2
    assert done.err.startswith(f"error: the settings file '{folder / 'lora-packer.toml'}' {told}")
    assert "--isolated reads no settings." in done.err
    assert cli("check", TINY, "--base-config", TINY_BASE, "--isolated").code == 0


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_not_read(cli: Cli, folder: Path, make: Callable[[Path], None]) -> None:
    make(folder / "lora-packer.toml")
    done = cli("check", TINY, "--base-config", TINY_BASE)
    assert (done.code, "cannot be read: " in done.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file or directory."),
        ("[project]\n", "has no [tool.lora-packer]."),
        ("[tool]\nlora-packer = 3\n", "tool.lora-packer is 3, which is no table."),
    ],
)
def test_a_named_file_has_to_have_settings(cli: Cli, folder: Path, text: str | None, told: str) -> None:
    path = folder / "pyproject.toml"
    if text is not None:
        path.write_text(text)
    done = cli("check", TINY, "--base-config", TINY_BASE, "--config", path)
    assert (done.code, told in done.err) == (2, True)


def test_help_reads_no_file(cli: Cli, folder: Path) -> None:
    write(folder, "nonsense")
    done = cli("check", "--help")
    assert (done.code, done.err) == (0, "")
    assert "\nConfiguration:\n  --config FILE" in done.out


# --- what it sets ----------------------------------------------------------------------------------------------------


def test_the_command_line_goes_before_the_file(cli: Cli, folder: Path) -> None:
    write(folder, f'{BASE}target = ["vllm", "peft"]\n')
    assert [item["name"] for item in json.loads(cli("check", TINY, "--format", "json").out)["targets"]] == [
        "vllm",
        "peft",
    ]
    assert "target      peft\n" in cli("check", TINY, "--target", "peft").out


def test_a_commands_own_table_goes_before_what_holds_for_all(cli: Cli, folder: Path) -> None:
    write(folder, f"{BASE}target = 'vllm'\n[check]\ntarget = 'peft'\n[release]\ntarget = 'together'\n")
    assert "target      peft\n" in cli("check", TINY).out


def test_every_kind_of_value(cli: Cli, folder: Path) -> None:
    write(folder, f'{BASE}fail-on = "warning"\nno-weights = true\nformat = "json"\njobs = 1\nignore = ["LP5", "LP2"]\n')
    report = json.loads(cli("check", TINY).out)
    assert (report["status"], {item["code"] for item in report["unchecked"]}) == (
        "ok",
        {"LP105", "LP401", "LP402", "LP403", "LP405", "LP406"},
    )


def test_errors_are_json_where_the_file_asks_for_it(cli: Cli, folder: Path) -> None:
    write(folder, 'format = "json"\n')
    for words in (("check", "nowhere"), ("check", TINY, "--no-such-option")):
        done = cli(*words)
        assert (done.code, json.loads(done.out)["error"]["exit_code"]) == (2, 2)


def test_what_holds_for_another_command_is_no_error(cli: Cli, folder: Path) -> None:
    write(folder, f'{BASE}expires-in = "2h"\nto = "s3://bucket/x/"\n[pack]\noutput = "x.zip"\n')
    assert cli("check", TINY).code == 0
    assert not (folder / "x.zip").exists()
    assert cli("pack", TINY).code == 0
    assert (folder / "x.zip").exists()


def test_a_required_option_may_stand_in_the_file(cli: Cli, folder: Path) -> None:
    write(folder, f'{BASE}model-name = "demo"\nbase-model = "tiny/llama"\nsandbox = true\nreceipt = "demo.json"\n')
    assert cli("release", TINY).code == 0
    assert '"demo"' in (folder / "demo.json").read_text()


def test_paths_begin_at_the_file(cli: Cli, folder: Path) -> None:
    (folder.parent / "base").mkdir()
    (folder.parent / "base" / "config.json").write_bytes(TINY_BASE.read_bytes())
    write(folder.parent, '[check]\nbase-config = "base"\noutput = "report.txt"\n')
    assert cli("check", TINY).code == 0
    assert f"llama ({folder.parent / 'base' / 'config.json'})" in (folder.parent / "report.txt").read_text()


def test_an_id_of_the_hub_stays_one(cli: Cli, folder: Path) -> None:
    write(folder, 'base-config = "org/name"\n')
    done = cli("check", TINY)
    assert (done.code, "hf://org/name" in done.out) == (3, True)


def test_a_shell_completes_beside_a_broken_file(cli_process: Cli, folder: Path) -> None:
    write(folder, "nonsense")
    words = {"COMP_WORDS": "lora-packer check --base-c", "COMP_CWORD": "2", "_LORA_PACKER_COMPLETE": "complete_bash"}
    assert "--base-config" in cli_process(env=words, cwd=folder).out


def test_what_the_documentation_shows_is_taken(cli: Cli, folder: Path) -> None:
    project, own = re.findall(r"```toml\n(.*?)```", (ROOT.parent / "docs" / "configuration.md").read_text(), re.DOTALL)
    (folder / "base").mkdir()
    (folder / "base" / "config.json").write_bytes(TINY_BASE.read_bytes())
    write(folder, project, "pyproject.toml")
    done = cli("check", TINY, "--verbose")
    assert (done.code, "pyproject.toml' [tool.lora-packer]" in done.err, "vllm@0.31.0" in done.out) == (0, True, True)
    write(folder, own)
    done = cli("check", TINY, "--base-config", TINY_BASE)
    assert (done.code, "target      vllm" in done.out, "--no-weights" in done.out) == (0, True, True)


# --- what it does not ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("fail-om = 'error'", "has an option that is not known: 'fail-om'.", "Did you mean fail-on?"),
        ("fail_on = 'error'", "has an option that is not known: 'fail_on'.", "Did you mean fail-on?"),
        ("supress = []", "has an option that is not known: 'supress'.", "Did you mean suppress?"),
        ("adapter = 'x'", "has an option that is not known: 'adapter'.", ""),
        ("[chekc]", "has a table that is not known: 'chekc'.", "Did you mean check?"),
        ("[pack]\njobs = 3", "[pack] has an option that is not known: 'jobs'.", ""),
        ("fail-on = 'x'", ': fail-on is "x"; expected "error" or "warning".', ""),
        ("jobs = 0", ": jobs is 0; expected a whole number from 1 up.", ""),
        ("jobs = true", ": jobs is true; expected a whole number from 1 up.", ""),
        ("no-weights = 1", ": no-weights is 1; expected true or false.", ""),
        ("target = ['vllm', 3]", ": target is ['vllm', 3]; expected a text or a list of texts.", ""),
        ("base-config = 3", ": base-config is 3; expected a text.", ""),
        ("temperature = 'hot'", ': temperature is "hot"; expected a number from 0 up.', ""),
        ("[check]\nfail-on = 'x'", '[check]: fail-on is "x"; expected "error" or "warning".', ""),
        ("[submit]\napi = 'v3'", '[submit]: api is "v3"; expected "auto" or "v1" or "v2".', ""),
        ("'\\u001b[31mx' = 1", "has an option that is not known: '\\x1b[31mx'.", ""),
    ],
)
def test_a_wrong_setting_is_told(cli: Cli, folder: Path, text: str, told: str, hint: str) -> None:
    path = write(folder, text.replace("'\\u001b[31mx'", '"\\u001b[31mx"'))
    done = cli("check", TINY, "--base-config", TINY_BASE)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: '{path}'")
    assert told in " ".join(done.err.split())
    assert hint in done.err


@pytest.mark.parametrize(
    "text",
    [
        "endpoint-url = 'https://evil.example'",
        "allow-private-endpoint = true",
        "executor = 'dask://evil.example:1'",
        "url-file = '/tmp/url'",
        "show-url = true",
        "hf-token = 'x'",
        "base-url = 'https://evil.example'",
        "proxy = 'http://evil.example'",
        "[publish]\nendpoint-url = 'https://evil.example'",
        "[sandbox]\nenv-file = 'x'",
    ],
)
@pytest.mark.parametrize("command", ["check", "publish"])
def test_where_secrets_go_is_not_taken_from_a_file(cli: Cli, folder: Path, command: str, text: str) -> None:
    write(folder, f"{BASE}to = 's3://b/x/'\n{text}\n")
    done = cli(command, TINY)
    assert done.code == 2
    assert "is not taken from a file: it decides where secrets go" in done.err


@pytest.mark.parametrize("text", ["[models]\ndelete = true", "[stop]\nall = true", "clean = true", "config = 'x.toml'"])
def test_what_removes_something_is_given_each_time(cli: Cli, folder: Path, text: str) -> None:
    write(folder, f"{BASE}{text}\n")
    done = cli("check", TINY)
    assert (done.code, "is not taken from a file: it" in done.err) == (2, True)


def test_every_option_has_a_kind_that_a_file_can_have() -> None:
    every = _every_option()
    assert list(every) == list(COMMANDS)
    for options in every.values():
        assert {"config", "isolated"} <= options.keys()
        for option in options.values():
            assert option.takes
    assert refusal("endpoint-url") is not None
    assert refusal("base-config") is None
