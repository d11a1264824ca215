"""What others run: the Action's steps as they are written, pre-commit's hook, the image, and completion.

``make hooks`` has the real pre-commit install and run the hook, which needs a package index.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import ROOT, TINY, TINY_BASE

from lora_packer.cli.hook import command_for

BROKEN = ROOT / "fixtures" / "broken"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
HOOK = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]


# --- the Action ------------------------------------------------------------------------------------------------------


class Runner:
    """Runs the ``run`` steps of a composite action as GitHub's runner does (docs.github.com, "Workflow syntax": shell)."""

    def __init__(self, folder: Path) -> None:
        self.temp, self.work, self.bin = folder / "temp", folder / "work", folder / "bin"
        for place in (self.temp, self.work, self.bin):
            place.mkdir()
        self.asked = folder / "asked"
        # What `python -m venv` makes: pip only says what it was asked for, and lora-packer is this one.
        made = self.temp / "lora-packer" / "bin"
        self._script(
            self.bin / "python",
            f'[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && cp {self.bin}/made-* "$3/bin/"\n'
            f'mv "$3/bin/made-python" "$3/bin/python"; mv "$3/bin/made-lora-packer" "$3/bin/lora-packer"\n',
        )
        self._script(self.bin / "made-python", f'printf "%s\\n" "$@" > {self.asked}\n')
        self._script(
            self.bin / "made-lora-packer",
            f'printf "%s\\n" "$@" > {self.asked}-check\nPYTHONPATH={ROOT} exec {sys.executable} -m lora_packer "$@"\n',
        )
        self.made = made

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/bash\n{text}")
        path.chmod(0o755)

    def run(self, **inputs: str) -> tuple[int, str, str]:
        """Return the exit code and the output of the first step that failed, else of the last one."""
        given = {name: item.get("default", "") for name, item in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        done = None
        for step in STEPS:
            if "run" not in step:
                continue
            assert step["shell"] == "bash"
            script = self.temp / "step.sh"
            script.write_text(step["run"])
            environment = {
                name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: given[found[1]], value)
                for name, value in step.get("env", {}).items()
            }
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", script],
                cwd=self.work,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")},
                    "HF_HUB_OFFLINE": "1",
                    "PATH": f"{self.bin}:/usr/bin:/bin",
                    "RUNNER_TEMP": str(self.temp),
                    "GITHUB_ACTION_PATH": str(ROOT),
                    **environment,
                },
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode:
                break
        assert done is not None
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    runner = Runner(tmp_path)
    shutil.copytree(TINY, runner.work / "adapters" / "good")
    return runner


def test_the_steps_install_this_commit_and_check(runner: Runner) -> None:
    code, out, err = runner.run(adapter="adapters/good", base_config=str(TINY_BASE), target="peft")
    assert (code, err) == (0, "")
    assert "::notice title=lora-packer::adapters/good: ok: 0 errors, 0 warnings" in out
    assert runner.asked.read_text().splitlines()[-1] == str(ROOT)


def test_a_broken_adapter_fails_the_step_and_is_annotated(runner: Runner) -> None:
    shutil.copytree(BROKEN / "nan", runner.work / "adapters" / "nan")
    code, out, _ = runner.run(adapter="adapters/*", base_config=str(TINY_BASE))
    assert code == 1
    assert "::error " in out
    assert "LP401" in out


def test_several_adapters_on_lines_and_a_report_in_a_file(runner: Runner) -> None:
    shutil.copytree(TINY, runner.work / "adapters" / "an other")
    words = {"format": "json", "output": "report.json", "fail_on": "warning", "base_config": str(TINY_BASE)}
    code, _, err = runner.run(adapter="adapters/good\nadapters/an other\n", **words)
    assert (code, err) == (0, "")
    report = json.loads((runner.work / "report.json").read_text())
    assert [item["adapter"]["source"] for item in report["reports"]] == ["adapters/good", "adapters/an other"]


@pytest.mark.parametrize("name", [name for name in ACTION["inputs"] if name != "format"])
@pytest.mark.parametrize(
    "evil", ["$(touch pwned)", "`touch pwned`", '"; touch pwned; "', "'; touch pwned #", "x && touch pwned", "--help"]
)
def test_an_input_is_never_a_command_nor_another_option(runner: Runner, name: str, evil: str) -> None:
    given = {"adapter": "adapters/good", "base-config": str(TINY_BASE), name: evil}
    code, _, _ = runner.run(**{key.replace("-", "_"): value for key, value in given.items()})
    assert not list(runner.work.rglob("pwned"))
    words = Path(f"{runner.asked}-check").read_text().splitlines()
    assert evil in words[words.index("--") + 1 :] if name == "adapter" else f"--{name}={evil}" in words
    assert code != 0 or name in ("output", "base-model")


def test_without_an_adapter_the_step_says_so(runner: Runner) -> None:
    code, out, err = runner.run(adapter="")
    assert (code, "Missing argument" in out + err) == (2, True)


def test_no_input_stands_in_a_script_and_every_action_is_pinned() -> None:
    for step in STEPS:
        assert "${{" not in step.get("run", "")
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
    used = {
        name
        for step in STEPS
        for value in step.get("env", {}).values()
        for name in re.findall(r"inputs\.([\w-]+)", value)
    }
    assert used == set(ACTION["inputs"])
    assert all(item["description"] for item in ACTION["inputs"].values())


# --- pre-commit ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a/adapter_config.json", "a/adapter_model.safetensors"], ["check", "--", "a"]),
        (["--target=vllm", "b/c/adapter_config.json"], ["check", "--target=vllm", "--", "b/c"]),
        (["adapter_config.json"], ["check", "--", "."]),
        (["-q", "-x/adapter_config.json"], ["check", "-q", "--", "-x"]),
        (["--quiet"], None),
        ([], None),
    ],
)
def test_files_of_adapters_become_their_folders(words: list[str], expected: list[str] | None) -> None:
    assert command_for(words) == expected


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("nan", 1)])
def test_the_hook_as_pre_commit_calls_it(tmp_path: Path, name: str, code: int) -> None:
    folder = tmp_path / "adapters" / name
    shutil.copytree(TINY if name == "good" else BROKEN / name, folder)
    files = [str(path.relative_to(tmp_path)) for path in sorted(folder.iterdir())]
    passed = [file for file in files if re.search(HOOK["files"], file)]
    assert len(passed) == 2
    entry = shlex.split(HOOK["entry"])
    assert entry[0] == "python"
    done = subprocess.run(
        [sys.executable, *entry[1:], f"--base-config={TINY_BASE}", *passed],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, f"adapters/{name}" in done.stdout, done.stderr) == (code, True, "")


def test_the_hook_is_for_the_files_of_adapters() -> None:
    pattern = re.compile(HOOK["files"])
    for file in ("adapter_config.json", "a/b/adapter_model.safetensors"):
        assert pattern.search(file)
    for file in ("my_adapter_config.json", "adapter_config.json.bak", "config.json", "a/adapter_model.bin"):
        assert not pattern.search(file)


# --- the image, and completion ---------------------------------------------------------------------------------------


def test_the_image_is_slim_and_runs_as_nobody_in_particular() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    said = [line.split() for line in lines if line and not line.startswith(("#", " "))]
    last = max(at for at, words in enumerate(said) if words[0] == "FROM")
    assert all(words[1].endswith("-slim") for words in said if words[0] == "FROM")
    assert ["USER", "10001"] in said[last:]
    assert said[-2:] == [["ENTRYPOINT", '["lora-packer"]'], ["CMD", '["--help"]']]
    assert not any(words[0] == "ADD" for words in said)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for words in said if words[0] == "COPY" and "--from=build" not in words for word in words[1:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_completion_is_installed_by_one_command(tmp_path: Path, cli_process: Callable[..., Any]) -> None:
    """From a shell as one uses it: which one that is, the process above says."""
    script = f'PYTHONPATH="{ROOT}" "{sys.executable}" -m lora_packer --install-completion; echo "exit $?"'
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        env={**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "exit 0" in done.stdout
    installed = tmp_path / ".bash_completions" / "lora-packer.sh"
    assert "complete -o default -F" in installed.read_text()
    assert str(installed) in (tmp_path / ".bashrc").read_text()
