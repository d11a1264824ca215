"""Adapters elsewhere, packed and published: from S3, from behind a URL and from the Hub."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import ROOT, TINY, TINY_BASE
from hub_support import HEADER_BYTES, WEIGHTS, fetched, hub
from s3_support import client_for, env, local_s3, put

import lora_packer
from lora_packer.sandbox import LocalHub
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "hub", "local_s3"]
Cli = Callable[..., Any]
BROKEN = ROOT / "fixtures" / "broken"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go: empty again after each command."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def prefix(env: LocalS3, folder: Path) -> str:
    for file in folder.iterdir():
        put(env, f"places/{folder.name}/{file.name}", file.read_bytes())
    return f"s3://{env.bucket}/places/{folder.name}/"


def url_of(env: LocalS3, uri: str) -> str:
    params = {"Bucket": env.bucket, "Key": uri.removeprefix(f"s3://{env.bucket}/")}
    return str(client_for(env).generate_presigned_url("get_object", Params=params))


@pytest.mark.parametrize("kind", ["prefix", "object", "url", "hub"])
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_it_is_packed_as_if_it_were_here(
    kind: str, suffix: str, env: LocalS3, hub: LocalHub, cli: Cli, tmp_path: Path, temporary: Path
) -> None:
    here = lora_packer.pack(TINY, tmp_path / f"here.{suffix}", base_config=TINY_BASE)
    uri = put(env, "places/adapter.tar.gz", lora_packer.pack(TINY, "a.tar.gz", base_config=TINY_BASE).path.read_bytes())
    places = {
        "prefix": lambda: prefix(env, TINY),
        "object": lambda: uri,
        "url": lambda: url_of(env, uri),
        "hub": lambda: "hf://org/public",
    }
    place = places[kind]()
    done = cli("pack", place, "-o", f"there.{suffix}", "--base-config", TINY_BASE, "--format", "json")
    assert done.code == 0, done.text
    told = json.loads(done.out)
    assert told["archive"]["sha256"] == here.sha256
    assert told["check"]["adapter"]["source"] == place.partition("?")[0]
    assert "X-Amz" not in done.text
    assert Path(f"there.{suffix}").read_bytes() == here.path.read_bytes()
    assert not list(temporary.iterdir())


def test_it_is_called_as_there(hub: LocalHub, cli: Cli, env: LocalS3) -> None:
    for place in (prefix(env, TINY), "hf://org/public"):
        assert cli("pack", place, "--base-config", TINY_BASE).code == 0
    assert sorted(file.name for file in Path().glob("*.zip")) == ["public.zip", "tiny-llama-qv.zip"]


def test_optional_files_come_along_where_asked_for(hub: LocalHub, cli: Cli, tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "card")
    (folder / "README.md").write_text("# A card\n")
    (folder / "optimizer.pt").write_bytes(b"state")
    hub.add("org/card", folder)
    done = cli(
        "pack", "hf://org/card", "--include-extras", "--base-config", TINY_BASE, "-o", "a.zip", "--format", "json"
    )
    members = [member["name"] for member in json.loads(done.out)["archive"]["members"]]
    assert sorted(members) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]


def test_its_headers_are_judged_before_its_weights_are_fetched(hub: LocalHub, cli: Cli, temporary: Path) -> None:
    hub.add("org/broken", BROKEN / "wrong-hidden-size")
    done = cli("pack", "hf://org/broken", "--base-config", TINY_BASE)
    assert done.code == 1
    assert "LP301" in done.text
    assert fetched(hub, WEIGHTS) == HEADER_BYTES
    assert not list(temporary.iterdir())


def test_its_values_are_judged_once_they_are_here(hub: LocalHub, cli: Cli, temporary: Path) -> None:
    hub.add("org/nan", BROKEN / "nan")
    done = cli("publish", "hf://org/nan", "--base-config", TINY_BASE, "--to", "s3://nowhere/x/")
    assert done.code == 4  # the place is judged first
    done = cli("pack", "hf://org/nan", "--base-config", TINY_BASE)
    assert done.code == 1, done.text
    assert "LP401" in done.text
    assert not [*Path().glob("*.zip"), *temporary.iterdir()]


def test_a_disk_without_room_is_a_sentence(hub: LocalHub, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    done = cli("pack", "hf://org/public", "--base-config", TINY_BASE)
    assert done.code == 2, done.text
    assert "and there is room for 100" in done.err
    assert "TMPDIR" in done.err


def test_it_is_published_as_if_it_were_here(env: LocalS3, cli: Cli) -> None:
    place = prefix(env, TINY)
    to = f"s3://{env.bucket}/published/"
    done = cli("publish", place, "--to", to, "--base-config", TINY_BASE, "--format", "json")
    assert done.code == 0, done.text
    stored = json.loads(done.out)["object"]
    body = client_for(env).get_object(Bucket=env.bucket, Key=stored["key"])["Body"].read()
    assert hashlib.sha256(body).hexdigest() == stored["sha256"]
    assert body == lora_packer.pack(TINY, "here.zip", base_config=TINY_BASE).path.read_bytes()
