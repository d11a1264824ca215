"""The sandbox's Hub, seen by huggingface_hub itself: what it reads, and which errors it raises."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY
from hub_support import CONFIG, WEIGHTS, hub_of_every_kind, token_of
from huggingface_hub import HfApi, errors, hf_hub_download
from safetensors.numpy import load_file, save_file

from lora_packer.sandbox import LocalHub


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with hub_of_every_kind() as started:
        yield started


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def api(hub: LocalHub, who: str = "owner") -> HfApi:
    token = token_of(hub, who)
    return HfApi(endpoint=hub.endpoint, token=token.reveal() if token else False)


def test_model_info(hub: LocalHub) -> None:
    info = api(hub).model_info("org/private", files_metadata=True)
    assert (info.id, info.private, info.gated, len(info.sha)) == ("org/private", True, False, 40)
    files = {item.rfilename: item for item in info.siblings}
    assert files[CONFIG].size == (TINY / CONFIG).stat().st_size
    assert files[CONFIG].lfs is None
    assert len(files[WEIGHTS].lfs.sha256) == 64
    assert api(hub).model_info("org/gated").gated == "manual"
    assert api(hub, "nobody").model_info("org/gated", revision=info.sha).sha == info.sha


@pytest.mark.parametrize("repo", ["org/public", "org/private", "org/gated"])
def test_download_as_transformers_does(hub: LocalHub, tmp_path: Path, repo: str) -> None:
    token = hub.token.reveal()
    path = hf_hub_download(repo, WEIGHTS, endpoint=hub.endpoint, token=token)
    assert Path(path).read_bytes() == (TINY / WEIGHTS).read_bytes()


@pytest.mark.parametrize("shards", [1, 2])
def test_safetensors_metadata(hub: LocalHub, tmp_path: Path, shards: int) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    tensors = load_file(TINY / WEIGHTS)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
    else:
        where = {name: f"m-{i % shards}.safetensors" for i, name in enumerate(tensors)}
        for file in set(where.values()):
            save_file({name: t for name, t in tensors.items() if where[name] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    hub.add(f"org/model-{shards}", folder)
    metadata = api(hub).get_safetensors_metadata(f"org/model-{shards}")
    assert len(metadata.files_metadata) == shards
    assert sorted(metadata.weight_map) == sorted(tensors)


@pytest.mark.parametrize(
    ("ask", "who", "raised"),
    [
        (lambda api: api.model_info("org/none"), "nobody", errors.RepositoryNotFoundError),
        (lambda api: api.model_info("org/none"), "owner", errors.RepositoryNotFoundError),
        (lambda api: api.model_info("org/private"), "nobody", errors.RepositoryNotFoundError),
        (lambda api: api.model_info("org/private"), "other", errors.RepositoryNotFoundError),
        (lambda api: api.model_info("org/public", revision="v9"), "nobody", errors.RevisionNotFoundError),
        (lambda api: api.hf_hub_download("org/gated", CONFIG), "nobody", errors.GatedRepoError),
        (lambda api: api.hf_hub_download("org/gated", CONFIG), "other", errors.GatedRepoError),
        (lambda api: api.hf_hub_download("org/public", "config.json"), "owner", errors.RemoteEntryNotFoundError),
    ],
)
def test_errors(hub: LocalHub, ask: Callable[[HfApi], Any], who: str, raised: type[Exception]) -> None:
    with pytest.raises(raised) as caught:
        ask(api(hub, who))
    assert isinstance(caught.value, errors.GatedRepoError) == (raised is errors.GatedRepoError)


def test_a_token_that_is_nobodys_opens_nothing(hub: LocalHub) -> None:
    with pytest.raises(errors.HfHubHTTPError, match="Invalid credentials") as caught:
        api(hub, "invalid").model_info("org/public")
    assert not isinstance(caught.value, errors.RepositoryNotFoundError)


@pytest.mark.parametrize(
    ("asked", "status", "length", "content_range"),
    [
        ({}, 200, 1536, None),
        ({"Range": "bytes=0-7"}, 206, 8, "bytes 0-7/1536"),
        ({"Range": "bytes=1500-"}, 206, 36, "bytes 1500-1535/1536"),
        ({"Range": "bytes=1500-9999"}, 206, 36, "bytes 1500-1535/1536"),
        ({"Range": "bytes=1536-"}, 416, 0, "bytes */1536"),
    ],
)
def test_ranges(
    hub: LocalHub, tmp_path: Path, asked: dict[str, str], status: int, length: int, content_range: str | None
) -> None:
    data = bytes(range(256)) * 6
    (tmp_path / "f").write_bytes(data)
    hub.add("org/bytes", tmp_path)
    answer = httpx2.get(f"{hub.endpoint}/org/bytes/resolve/main/f", headers=asked)
    begin = 1500 if "1500" in asked.get("Range", "") else 0
    assert (answer.status_code, len(answer.content)) == (status, length)
    assert answer.headers.get("Content-Range") == content_range
    assert answer.content == data[begin : begin + length]
    assert hub.served[-1].bytes == length


def test_paths_that_are_nothing(hub: LocalHub) -> None:
    for path in ("/", "/api/models/org", "/org/public/resolve/main/../../x", "/org/public/resolve/main/%2e%2e/x"):
        assert httpx2.get(hub.endpoint + path).status_code == 404
