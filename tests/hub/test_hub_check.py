"""``check`` and ``identify`` of a Hub repository, and base models whose config or checkpoint is on the Hub."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter
from hub_support import HEADER_BYTES, WEIGHTS, asking, fetched, hub, point_to, token_of, write_bare
from safetensors.numpy import save_file

import lora_packer
from lora_packer.base_model import BaseModel
from lora_packer.base_model.checkpoint import load_checkpoint
from lora_packer.hub import HubRepo
from lora_packer.sandbox import LocalHub

Cli = Callable[..., Any]
__all__ = ["hub"]
UNKNOWN = {"model_type": "brand_new", "architectures": ["BrandNewForCausalLM"]}


# ---- adapters


@pytest.mark.parametrize("source", ["hf://org/public", "hf://org/public@main", "https://huggingface.co/org/public"])
def test_check_reads_the_header_alone(cli: Cli, hub: LocalHub, source: str) -> None:
    result = cli("check", source, "--base-config", TINY_BASE, "--format", "json")
    assert result.code == 0, result.text
    report = json.loads(result.out)
    with asking(hub) as connection:
        assert report["adapter"]["source"] == f"hf://org/public@{connection.snapshot(HubRepo('org/public')).commit}"
    assert (report["status"], report["findings"], report["adapter"]["tensors"]) == ("ok", [], 8)
    assert {item["code"] for item in report["unchecked"]} >= {"LP401", "LP402"}
    assert all("values were not read" in item["reason"] for item in report["unchecked"])
    assert fetched(hub, WEIGHTS) == HEADER_BYTES


def test_check_finds_what_the_header_shows(cli: Cli, hub: LocalHub) -> None:
    hub.add("org/broken", TINY.parent.parent / "broken" / "wrong-hidden-size")
    result = cli("check", "hf://org/broken", "--base-config", TINY_BASE)
    assert result.code == 1
    assert "LP301" in result.out
    assert "hidden size 32 instead of 48" in result.out


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"adapter_model__bin": b"x", "adapter_config__json": b"{}"}, "There is adapter_model.bin, a pickle"),
        ({"README__md": b"x"}, "adapter_config.json is missing"),
    ],
)
def test_check_says_what_is_there_instead(
    cli: Cli, hub: LocalHub, tmp_path: Path, files: dict[str, bytes], says: str
) -> None:
    hub.add("org/half", write_bare(tmp_path / "half", **files))
    result = cli("check", "hf://org/half", "--base-config", TINY_BASE)
    assert result.code == 1
    assert says in result.out


def test_check_finds_the_files_one_folder_below(cli: Cli, hub: LocalHub, tmp_path: Path) -> None:
    write_adapter(tmp_path / "repo" / "checkpoint-9")
    hub.add("org/nested", tmp_path / "repo")
    result = cli("check", "hf://org/nested", "--base-config", TINY_BASE)
    assert result.code == 1
    assert "'checkpoint-9'" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("hf://org/none",), 2, "does not exist, or is private"),
        (("hf://org/gated",), 2, "is gated"),
        (("hf://org/public", "--stats"), 2, "--stats reads the values"),
        (("hf://org",), 2, "not a model repository"),
    ],
)
def test_check_refuses_with_a_sentence(
    cli: Cli, hub: LocalHub, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = cli("check", *arguments, "--base-config", TINY_BASE)
    assert result.code == code
    assert says in result.err
    assert result.out == ""


def test_check_without_a_hub_is_inconclusive(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = cli("check", "hf://org/public", "--base-config", TINY_BASE, "--format", "json")
    assert result.code == 3
    assert json.loads(result.out)["error"]["exit_code"] == 3
    assert "no answer from the Hub" in result.err


def test_identify(cli: Cli, hub: LocalHub, tmp_path: Path) -> None:
    local, remote = cli("identify", TINY, "--verbose"), cli("identify", "hf://org/public", "--verbose")
    assert (remote.code, remote.out) == (local.code, local.out)
    assert fetched(hub, WEIGHTS) == HEADER_BYTES


# ---- base models


def checkpoint(folder: Path, shards: int) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(UNKNOWN))
    tensors = {
        path if module.kind == "parameter" else f"{path}.weight": np.zeros(module.weight_shape, np.float16)
        for path, module in BaseModel.load(TINY_BASE).modules.items()
    }
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    weight_map = {name: f"model-{i % shards}.safetensors" for i, name in enumerate(tensors)}
    for file in set(weight_map.values()):
        save_file({name: t for name, t in tensors.items() if weight_map[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("shards", [1, 3])
def test_a_base_without_a_definition_is_read_from_its_headers(hub: LocalHub, tmp_path: Path, shards: int) -> None:
    folder = checkpoint(tmp_path / "base", shards)
    hub.add("org/base", folder)
    base = load_checkpoint("org/base")
    assert base.modules == load_checkpoint(folder).modules
    assert (base.model_type, base.source) == ("brand_new", "org/base")
    files = [path for path in folder.iterdir() if path.suffix == ".safetensors"]
    assert len(files) == shards
    for path in files:
        assert fetched(hub, path.name) == 8 + int.from_bytes(path.read_bytes()[:8], "little")


def test_check_against_a_checkpoint_on_the_hub(hub: LocalHub, tmp_path: Path) -> None:
    hub.add("org/base", checkpoint(tmp_path / "base", 2))
    report = lora_packer.check("hf://org/public", base_config="org/base")
    assert (report.status, report.findings, report.base_model.model_type) == ("ok", (), "brand_new")


def test_the_base_that_the_adapter_names_is_fetched_once(hub: LocalHub, tmp_path: Path) -> None:
    hub.add("org/tiny", write_bare(tmp_path / "tiny", config__json=TINY_BASE.read_bytes()))
    adapter = write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path="org/tiny"))
    for _ in range(2):
        report = lora_packer.check(adapter)
        assert (report.status, report.base_model.config_source) == ("ok", "org/tiny")
    assert fetched(hub) == TINY_BASE.stat().st_size
    assert lora_packer.check(adapter, base_config="org/tiny@main").status == "ok"


@pytest.mark.parametrize(
    ("base", "who", "says"),
    [
        (
            "org/base",
            "nobody",
            "is gated, and no HF_TOKEN is set. Accept the licence at https://huggingface.co/org/base",
        ),
        ("org/base", "other", "is gated, and the account of HF_TOKEN has no access to it"),
        ("org/base", "invalid", "The Hub refuses the token"),
        ("org/none", "nobody", "does not exist, or is private"),
        ("org/public", "nobody", "lacks the file: config.json"),
    ],
)
def test_a_base_that_cannot_be_fetched_is_inconclusive(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, who: str, says: str
) -> None:
    hub.add("org/base", write_bare(tmp_path / "base", config__json=TINY_BASE.read_bytes()), access="gated")
    point_to(hub, monkeypatch, who)
    report = lora_packer.check(TINY, base_config=base)
    assert report.status == "inconclusive"
    reason = report.unchecked[0].reason
    assert says in reason
    token = token_of(hub, who)
    assert token is None or token.reveal() not in reason


def test_a_gated_base_opens_for_its_account(hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/base", checkpoint(tmp_path / "base", 1), access="gated")
    point_to(hub, monkeypatch, "owner")
    assert load_checkpoint("org/base").model_type == "brand_new"


def test_a_checkpoint_without_safetensors(hub: LocalHub, tmp_path: Path) -> None:
    hub.add("org/pickles", write_bare(tmp_path / "p", config__json=json.dumps(UNKNOWN).encode()))
    with pytest.raises(lora_packer.InconclusiveError, match="neither model"):
        load_checkpoint("org/pickles")
    write_bare(tmp_path / "q", config__json=json.dumps(UNKNOWN).encode(), model__safetensors=b"version https://git-lfs")
    hub.add("org/pointer", tmp_path / "q")
    with pytest.raises(lora_packer.InconclusiveError, match="Git LFS pointer"):
        load_checkpoint("org/pointer")


def test_a_folder_is_checked_without_the_hub(tmp_path: Path) -> None:
    code = (
        "import sys, lora_packer; lora_packer.check(sys.argv[1], base_config=sys.argv[2]);"
        "print([n for n in ('httpx2', 'huggingface_hub', 'boto3') if n in sys.modules])"
    )
    command = [sys.executable, "-c", code, TINY, TINY_BASE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
