"""Every code block of README and docs: shell is run against the sandbox, sessions are compared, Python is run, data is read.

What cannot be run here is listed with its reason, and its words are held against the command's own options.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from builders import ROOT, tiny_config, tiny_tensors, write_adapter
from code_blocks import PAGES, Block, blocks, commands, parse, parts

import lora_packer
from lora_packer.cli.help import EXAMPLES
from lora_packer.inspector.manifest import parse_manifest
from lora_packer.sandbox import LocalHub, LocalS3, Sandbox, Service
from lora_packer.targets import chosen

LLAMA = ROOT / "fixtures" / "base-configs" / "meta-llama--Llama-3.3-70B-Instruct.json"
BASE = "meta-llama/Llama-3.3-70B-Instruct"
RULES = ROOT / "docs" / "rules"
Cli = Callable[..., Any]
ALL = [block for page in PAGES for block in blocks(page)]
RUN = {
    page: [block for block in blocks(page) if block.language in ("sh", "python")]
    for page in PAGES
    if page.parent != RULES
}

# Pages that begin where an adapter was released and its archive kept.
RELEASED = {"compare.md"}
# A command of lora-packer that is not run, and why; its options and arguments are parsed nevertheless.
NOT_RUN = {
    r"sandbox ": "runs until Ctrl-C; tests/sandbox starts it",
    r"--install-completion|--show-completion": "changes the shell's own files; tests/house/test_hooks.py runs it",
}
# Other programs, and what is held of their words.
PROGRAMS: dict[str, Callable[[list[str]], bool]] = {
    "pip": lambda words: words[1] == "install" and "lora-packer" in words[-1],
    ".venv/bin/pip": lambda words: words[1] == "install" and words[-1] == "lora-packer",
    "python3": lambda words: words[1:3] == ["-m", "venv"],
    "export": lambda words: re.fullmatch(r"(HF|TOGETHER|AWS)_\w+=.+", words[1]) is not None,
    "docker": lambda words: words[1] in ("build", "run") and "lora-packer" in words,
    "ssh": lambda words: len(words) == 3,
}


# --- a place where the commands of every page can be run -------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalS3, LocalHub]]:
    """A store with the bucket and a Hub with the repository that the pages speak of."""
    folder = tmp_path_factory.mktemp("stores")
    _write(folder)
    with LocalS3() as s3, LocalHub() as hub:
        sandbox = _around(s3, hub)
        client = sandbox.session().client("s3", endpoint_url=s3.endpoint_url)
        client.create_bucket(Bucket="my-bucket")
        archive = lora_packer.pack(folder / "my-adapter", folder / "my-adapter.zip", check=False)
        client.upload_file(str(archive.path), "my-bucket", "adapters/finished.zip")
        for name in ("org/my-adapter", "org/summaries"):
            hub.add(name, folder / "my-adapter")
        yield s3, hub


def _around(s3: LocalS3, hub: LocalHub) -> Sandbox:
    sandbox = Sandbox(delay=0)
    sandbox.s3, sandbox.hub = s3, hub
    sandbox.service = Service(delay=0, hub=hub)
    return sandbox


@pytest.fixture
def place(
    stores: tuple[LocalS3, LocalHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> Iterator[Place]:
    """A working folder and a service of their own for one page."""
    _write(tmp_path)
    monkeypatch.chdir(tmp_path)
    sandbox = _around(*stores)
    with sandbox.service:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        yield Place(cli)


@dataclass
class Place:
    """Runs the commands of one page, one after the other, and knows the names that they printed."""

    cli: Cli
    named: dict[str, str] = field(default_factory=dict)

    def run(self, words: list[str]) -> Any:
        """Run one command, with this page's own job and model for their placeholders, and globs expanded."""
        given = [self.named.get(word, word) for word in words]
        given = [name for word in given for name in (sorted(glob(word)) if "*" in word else [word])]
        result = self.cli(*given)
        for placeholder, label in {"JOB_ID": "job", "MODEL": "model"}.items():
            if found := re.search(rf"^{label} +(?:job )?(\S+)", result.out, re.MULTILINE):
                self.named[placeholder] = found[1]
        return result


def _tensors() -> dict[str, Any]:
    """LoRA of rank 1 on each q_proj and v_proj of Llama 3.3 70B, which the service hosts: 80 layers of 8192."""
    name = "base_model.model.model.layers.{}.self_attn.{}.weight"
    drawn = np.random.default_rng(1).uniform(-0.1, 0.1, 8192).astype(np.float32)
    first, query, value = drawn.reshape(1, 8192), drawn.reshape(8192, 1), drawn[:1024].reshape(1024, 1)
    halves = {"q_proj.lora_A": first, "q_proj.lora_B": query, "v_proj.lora_A": first, "v_proj.lora_B": value}
    return {name.format(layer, half): tensor for layer in range(80) for half, tensor in halves.items()}


def _write(folder: Path) -> None:
    """Write what the pages speak of: adapters, a base model's config, a manifest, checkpoints."""
    config = tiny_config(r=1, lora_alpha=2, target_modules=["q_proj", "v_proj"], base_model_name_or_path=BASE)
    mine = write_adapter(folder / "my-adapter", _tensors(), config)
    for name in ("a", "b", "adapters/support", "adapters/summaries", "adapters/support-7", "out/checkpoint-500"):
        shutil.copytree(mine, folder / name)
    write_adapter(folder / "broken", {f"module.{name}": tensor for name, tensor in _tensors().items()}, config)
    for name in (".", "base", "path/to/base", "path/to/its"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LLAMA, folder / name / "config.json")
    (folder / "adapters.csv").write_text("adapter\nadapters/support\nadapters/summaries\n")
    write_adapter(folder / "checkpoint-1000")
    later = {
        name: tensor * (1.1 if "layers.0" in name and "lora_B" in name else 1)
        for name, tensor in tiny_tensors().items()
    }
    write_adapter(folder / "checkpoint-2000", later, tiny_config(lora_alpha=16))


# --- shell and Python are run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in RUN if RUN[page]], ids=lambda page: page.name)
def test_what_a_page_says_to_run_runs(page: Path, place: Place) -> None:
    if page.name in RELEASED:
        place.run(
            ["release", "my-adapter", "--base-model", BASE, "--model-name", "my-adapter", "--to", "s3://my-bucket/"]
        )
        place.run(["pack", "my-adapter", "--output", "my-adapter.zip"])
    for block in RUN[page]:
        if block.language == "python":
            run_python(block)
            continue
        for command in commands(block.text):
            for words in parts(command):
                program, *others = words
                if program not in ("lora-packer", ".venv/bin/lora-packer"):
                    assert PROGRAMS[program](words), f"{block}: {command}"
                elif any(re.search(pattern, command) for pattern in NOT_RUN):
                    parse(others)
                else:
                    result = place.run(others)
                    assert result.code == 0, f"{block}: {command}\n{result.text}"


def run_python(block: Block) -> None:
    code = compile(block.text, str(block), "exec")
    if "Trainer(" in block.text:  # transformers' own: `make callback-proof` trains with it
        from lora_packer import callback

        names = re.findall(r"from lora_packer.callback import (\w+)", block.text)
        assert names
        assert set(names) <= set(callback.__all__)
        return
    base = json.loads(LLAMA.read_text())
    exec(code, {"model": SimpleNamespace(config=SimpleNamespace(to_dict=lambda: base))})


@pytest.mark.parametrize(
    "block", [block for block in ALL if block.page.parent == RULES and block.language == "sh"], ids=str
)
def test_the_commands_on_a_rule_s_page_exist(block: Block) -> None:
    for command in commands(block.text):
        (words,) = parts(command)
        assert words[:2] == ["lora-packer", "check"]
        parse(words[1:])


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_help_exist(name: str) -> None:
    for command in EXAMPLES[name]:
        (words,) = parts(command)
        assert words[:2] == ["lora-packer", name]
        parse(words[1:])


# --- sessions are compared -------------------------------------------------------------------------------------------

# What is another each time: ports, times, ids.
CHANGING = [
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "TIME"),
    (r"job_[0-9a-f-]{36}", "JOB"),
]


def steady(text: str) -> str:
    for pattern, name in CHANGING:
        text = re.sub(pattern, name, text)
    return text


SESSIONS = [block for block in ALL if block.language == "console" and block.page.parent != RULES]


@pytest.mark.parametrize("block", SESSIONS, ids=str)
def test_a_session_is_a_real_one(block: Block, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    command, shown = block.text.removeprefix("$ ").split("\n", 1)
    if "fixtures/" in command:  # in a clone of the repository
        Path("fixtures").symlink_to(ROOT / "fixtures")
    (words,) = parts(command)
    assert words[0] == "lora-packer"
    monkeypatch.delenv("HF_TOKEN")
    result = place.cli(*words[1:])
    both = result.err + result.out if words[1] == "release" else result.out
    assert steady(both) == steady(shown)


# --- data is read ----------------------------------------------------------------------------------------------------


def read_yaml(block: Block, cli: Cli) -> None:
    for text in strings(yaml.safe_load(block.text)):
        for command in commands(text) if "lora-packer " in text else ():
            for words in parts(command):
                if words[0] == "lora-packer":
                    parse(words[1:])
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    for step in re.findall(r"uses: OWNER/lora-packer@.*\n +with:\n((?: {10,}.*\n)+)", block.text):
        assert set(re.findall(r"^ +([\w-]+):", step, re.MULTILINE)) <= set(action["inputs"])
    hooks = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    assert set(re.findall(r"- id: (\S+)", block.text)) <= hooks


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)
    elif isinstance(value, str):
        yield value


def read_toml(block: Block, cli: Cli) -> None:
    """A configuration: under its own name it is one that the command line takes."""
    value = tomllib.loads(block.text)
    name = "pyproject.toml" if "tool" in value else "lora-packer.toml"
    Path(name).write_text(block.text)
    if "engine" in value:  # a server of one's own
        chosen("together", name)
    else:
        result = cli("check", "nowhere", "--config", name)
        assert (result.code, "nowhere" in result.err, name in result.err) == (2, True, False)


def read_csv(block: Block, cli: Cli) -> None:
    assert parse_manifest(block.text.encode(), "it")


def read_json(block: Block, cli: Cli) -> None:
    json.loads(block.text)


def read_text(block: Block, cli: Cli) -> None:
    """What is nothing else: the config that is not JSON."""
    assert block.page.name == "LP102.md"


READ = {"yaml": read_yaml, "toml": read_toml, "csv": read_csv, "json": read_json, "text": read_text}


@pytest.mark.parametrize("block", [block for block in ALL if block.language in READ], ids=str)
def test_data_can_be_read(block: Block, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    READ[block.language](block, cli)


def test_no_block_is_of_another_kind() -> None:
    assert {
        str(block): block.language for block in ALL if block.language not in {*READ, "sh", "python", "console"}
    } == {}
    assert {block.page.parent for block in ALL if block.language == "sh"} <= {ROOT, ROOT / "docs", RULES}


def test_each_fence_belongs_to_a_block() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), page.name


def test_a_command_that_is_none_is_told() -> None:
    for words in (["check", "a", "--nope"], ["nope"], ["pack"], ["check", "a", "--fail-on", "never"]):
        with pytest.raises(AssertionError):
            parse(words)
