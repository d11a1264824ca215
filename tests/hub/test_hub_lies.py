"""A Hub that lies: each lie is a sentence, soon, and costs no memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lying_server import Lies, answer, endless, lying
from together_support import FakeTime

from lora_packer import BaseModel
from lora_packer.base_model.hub_config import MAX_CONFIG_BYTES
from lora_packer.errors import InconclusiveError, InputError
from lora_packer.hub import Hub, HubRepo
from lora_packer.hub.info import read_info

COMMIT = "0123456789abcdef" * 2 + "01234567"
REPO = HubRepo("org/name")
FILE = {"rfilename": "config.json", "size": 10}


def info(**changes: Any) -> bytes:
    return json.dumps({"sha": COMMIT, "siblings": [FILE], **changes}).encode()


def test_an_answer_that_is_as_it_should_be() -> None:
    told = read_info(info(siblings=[FILE, {"rfilename": "w", "size": 5, "lfs": {"sha256": "a" * 64}}], gated="auto"))
    assert (told.commit, dict(told.sizes), dict(told.digests), told.restricted) == (
        COMMIT,
        {"config.json": 10, "w": 5},
        {"w": "a" * 64},
        "gated",
    )


@pytest.mark.parametrize(
    ("lie", "field"),
    [
        (b"", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object"),
        (info(sha=None), "sha"),
        (info(sha=COMMIT + "\n"), "sha"),
        (info(siblings=None), "siblings"),
        (info(siblings={"rfilename": 1}), "siblings"),
        (info(siblings=[FILE, 1]), "rfilename"),
        (info(siblings=[FILE, {"rfilename": 7, "size": 1}]), "rfilename"),
        (info(siblings=[FILE, {"rfilename": True, "size": 1}]), "rfilename"),
        (info(siblings=[FILE, {"rfilename": ["a"], "size": 1}]), "rfilename"),
        (info(siblings=[FILE, {"rfilename": "\ud800", "size": 1}]), "rfilename"),
        (info(siblings=[{"rfilename": "a"}]), "size"),
        (info(siblings=[{"rfilename": "a", "size": True}]), "size"),
        (info(siblings=[{"rfilename": "a", "size": -1}]), "size"),
        (info(siblings=[{"rfilename": "a", "size": 10**400}]), "size"),
        (info(siblings=[{**FILE, "lfs": "yes"}]), "lfs"),
        (info(siblings=[{**FILE, "lfs": {"sha256": 5}}]), "lfs"),
    ],
)
def test_a_field_of_another_type_is_named(lie: bytes, field: str) -> None:
    told = pytest.raises(InconclusiveError, match=f"not what it should be: .*{field}")
    with lying(lambda _: iter([answer(lie)])) as url, Hub(endpoint=url) as hub, told:
        hub.snapshot(REPO)


_CHUNKS = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
_BOMB = answer(gzip.compress(bytes(2**26)), status="404 No", headers="Content-Encoding: gzip\r\n")
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("lies", "says"),
    [
        (endless(b"HTTP/1.1 404 Not Found\r\n" + _CHUNKED, _CHUNKS), "HTTP 404"),
        (endless(b"HTTP/1.1 200 OK\r\n" + _CHUNKED, _CHUNKS), "longer than"),
        (lambda _: iter([_BOMB]), "HTTP 404"),
    ],
    ids=["endless 404", "endless 200", "packed 404"],
)
def test_bodies_are_cut(lies: Lies, says: str) -> None:
    with lying(lies) as url, Hub(endpoint=url, sleep=lambda _: None) as hub:
        tracemalloc.start()
        try:
            with pytest.raises(InconclusiveError, match=says):
                hub.snapshot(REPO)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 64 * 2**20


@pytest.mark.parametrize(
    "lies",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        endless(b"HTTP/1.1 404 No\r\nContent-Length: 9999\r\n\r\n", b" "),
        endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
    ids=["headers", "body", "error", "interim"],
)
def test_slow_answers_end_once(lies: Lies) -> None:
    asked = []

    def counted(head: bytes) -> Iterator[bytes]:
        asked.append(head)
        return lies(head)

    told = pytest.raises(InconclusiveError, match=r"not complete within 0\.2 s")
    with lying(counted, pause=0.02) as url, Hub(endpoint=url, deadline=0.2) as hub, told:
        hub.snapshot(REPO)
    assert len(asked) == 1  # another try would be as slow


def test_a_hub_that_is_silent_is_asked_again_within_the_same_deadline() -> None:
    time, silences = FakeTime(), [20.0, 9.5, 0.0]

    def silent(request: httpx2.Request) -> httpx2.Response:
        time.now += silences.pop(0)
        raise httpx2.ReadTimeout("the read operation timed out", request=request)

    told = pytest.raises(InconclusiveError, match="no answer from the Hub")
    with Hub(transport=httpx2.MockTransport(silent), sleep=time.sleep, clock=time.clock) as hub, told:
        hub.snapshot(REPO)
    assert silences == [0.0]


# ---- the config of a base model


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def serve(
    monkeypatch: pytest.MonkeyPatch, size: int, config: Callable[[bytes], Iterator[bytes]]
) -> tuple[Lies, list[bytes]]:
    asked: list[bytes] = []

    def lies(head: bytes) -> Iterator[bytes]:
        asked.append(head.split(b" ")[1])
        if b"/api/models/" in head:
            return iter([answer(info(siblings=[{"rfilename": "config.json", "size": size}]))])
        return config(head)

    return lies, asked


def test_a_config_is_fetched_once_whatever_its_etag(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.dumps({"model_type": "llama", "num_hidden_layers": 1}).encode()
    etag = 'ETag: "../../../etc/passwd"\r\nX-Linked-Etag: "../../x"\r\nX-Repo-Commit: ../..\r\n'
    lies, asked = serve(monkeypatch, len(config), lambda _: iter([answer(config, headers=etag)]))
    with lying(lies) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert BaseModel.load("org/name").model_type == "llama"
        assert BaseModel.load("org/name").source == "org/name"
    assert len(asked) == 2
    kept = [str(path.relative_to(cache)) for path in sorted(cache.rglob("*")) if path.is_file()]
    assert kept == [f"models--org--name/{name}" for name in ("refs/main", f"snapshots/{COMMIT}/config.json")]


def test_a_cache_that_cannot_be_written_to_does_not_matter(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = b'{"model_type": "llama", "num_hidden_layers": 1}'
    cache.write_text("no folder")
    lies, _ = serve(monkeypatch, len(config), lambda _: iter([answer(config)]))
    with lying(lies) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert BaseModel.load("org/name").model_type == "llama"


def test_a_config_that_is_too_large_is_not_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lies, asked = serve(monkeypatch, MAX_CONFIG_BYTES + 1, lambda _: iter([answer(b"{}")]))
    with lying(lies) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(InconclusiveError, match="has 4,000,001 bytes"):
            BaseModel.load("org/name")
    assert len(asked) == 1


def test_a_config_that_never_ends_is_read_as_far_as_its_size(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lies, _ = serve(monkeypatch, 100, endless(b"HTTP/1.1 200 OK\r\n" + _CHUNKED, _CHUNKS))
    with lying(lies) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(InputError, match="not JSON"):
            BaseModel.load("org/name")


def test_a_repository_without_a_config(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lying(lambda _: iter([answer(info(siblings=[]))])) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(InconclusiveError, match=r"lacks the file: config\.json"):
            BaseModel.load("org/name")
