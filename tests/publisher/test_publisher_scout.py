"""What a store is asked ahead: right or not answered it changes no result, and nothing is sent by it."""

from __future__ import annotations

import hashlib
import importlib
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE
from fault_proxy import Fault, FaultProxy, http
from publisher_support import MIB, LocalArchive, archive
from s3_support import env, local_s3, proxy, session_for

from lora_packer.errors import CheckFailedError, PublishError
from lora_packer.pipeline.publish import publish as publish_adapter
from lora_packer.publisher import Fingerprint, Opened, open_destination, publish, scout
from lora_packer.publisher.bounds import session_of
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.connection import Connection
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "local_s3", "proxy"]

LOOKS = {"HeadBucket", "HeadObject", "ListMultipartUploads"}


@pytest.fixture
def opened(local_s3: LocalS3, proxy: FaultProxy, request: pytest.FixtureRequest) -> Opened:
    prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    to = f"s3://{local_s3.bucket}/{prefix}/"
    return open_destination(to, session=session_for(local_s3), endpoint_url=proxy.url)


def known(ours: LocalArchive) -> Future[Fingerprint]:
    found: Future[Fingerprint] = Future()
    found.set_result(ours.found)
    return found


def sent(ours: LocalArchive, opened: Opened, **options: Any) -> Any:
    scouted = scout(opened, ours.name, ours.content, known(ours))
    return publish(ours.content, ours.name, "s3://ignored/", opened=opened, scouted=scouted, **options).object


@pytest.mark.parametrize("size", [50_000, 17 * MIB])
def test_it_only_looks(size: int, proxy: FaultProxy, opened: Opened, tmp_path: Path) -> None:
    ours = archive(tmp_path, size)
    scouted = scout(opened, ours.name, ours.content, known(ours))
    there = scouted.look(opened.connection(), ours.key(opened.destination))
    assert there is not None
    assert there.state == "absent"
    if scouted.listed is not None:
        assert scouted.listed.result() == []
    assert set(proxy.seen) <= LOOKS
    assert proxy.seen.count("HeadObject") == 1


def test_an_archive_in_one_request_is_read_meanwhile(opened: Opened, tmp_path: Path) -> None:
    ours = archive(tmp_path, 50_000)
    scouted = scout(opened, ours.name, ours.content, known(ours))
    assert scouted.listed is None
    assert scouted.body is not None
    assert scouted.body.result() == (ours.data, hashlib.md5(ours.data).digest())


def test_an_archive_that_is_another_by_then_is_not_sent(proxy: FaultProxy, opened: Opened, tmp_path: Path) -> None:
    ours = archive(tmp_path, 50_000)
    other: Future[Fingerprint] = Future()
    other.set_result(Fingerprint(ours.sha256, ours.found.crc32 ^ 1))
    scouted = scout(opened, ours.name, ours.content, other)
    with pytest.raises(PublishError, match="not those that were checked"):
        publish(ours.content, ours.name, "s3://ignored/", opened=opened, scouted=scouted)
    assert "PutObject" not in proxy.seen


@pytest.mark.parametrize("answer", [http(503, "SlowDown"), http(400, "ExpiredToken"), http(301, "PermanentRedirect")])
def test_what_was_not_answered_is_asked_again(answer: bytes, proxy: FaultProxy, opened: Opened, tmp_path: Path) -> None:
    proxy.add(Fault("HeadObject", "answer", answer=answer))
    ours = archive(tmp_path, 50_000)
    assert sent(ours, opened).uploaded
    assert proxy.seen[: proxy.seen.index("PutObject")].count("HeadObject") == 2


@pytest.mark.parametrize("size", [50_000, 17 * MIB])
def test_what_is_there_already_is_not_sent(size: int, proxy: FaultProxy, opened: Opened, tmp_path: Path) -> None:
    ours = archive(tmp_path, size)
    assert [sent(ours, opened).uploaded, sent(ours, opened).uploaded] == [True, False]
    assert len({"PutObject", "CreateMultipartUpload"} & set(proxy.seen)) == 1


def test_what_another_client_or_another_key_was_asked_does_not_count(
    local_s3: LocalS3, proxy: FaultProxy, opened: Opened, tmp_path: Path
) -> None:
    ours = archive(tmp_path, 50_000)
    scouted, key = scout(opened, ours.name, ours.content, known(ours)), ours.key(opened.destination)
    other = Connection(s3_client(session_for(local_s3), endpoint_url=proxy.url, region="eu-west-1"))
    assert scouted.look(other, key) is None
    assert scouted.look(opened.connection(), f"{key}2") is None
    assert scouted.look(opened.connection(), key) is not None


def test_an_adapter_that_fails_its_check_is_looked_for_at_most(env: LocalS3, proxy: FaultProxy, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in TINY.iterdir():
        (bad / file.name).write_bytes(file.read_bytes())
    config = (bad / "adapter_config.json").read_text()
    (bad / "adapter_config.json").write_text(config.replace('"r": 4', '"r": 8'))
    with pytest.raises(CheckFailedError):
        publish_adapter(bad, to=f"s3://{env.bucket}/bad/", base_config=TINY_BASE, endpoint_url=proxy.url)
    assert set(proxy.seen) <= LOOKS


# --- connections ----------------------------------------------------------------------------------------------------


def open_connections(session: Any, url: str) -> int:
    pool = session._session._manager.connection_from_url(url)
    return sum(one is not None and one.sock is not None for one in list(pool.pool.queue))


def test_connections_are_opened_beside_those_that_are_open(
    local_s3: LocalS3, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    client = s3_client(session_for(local_s3), endpoint_url=proxy.url)
    client.head_bucket(Bucket=local_s3.bucket)
    session = session_of(client)
    for wanted in (2, 3, 4):
        session.open(proxy.url)
        assert open_connections(session, proxy.url) == wanted
    client.head_bucket(Bucket=local_s3.bucket)
    assert open_connections(session, proxy.url) == 4
    assert len(proxy.seen) == 2
    assert not caplog.records


def test_nothing_is_opened_past_a_proxy(local_s3: LocalS3, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    client = s3_client(session_for(local_s3), endpoint_url="http://store.example.com", allow_private=True)
    session_of(client).open("http://store.example.com/key")  # its name is not even looked up


def test_only_a_long_archive_in_one_request_opens_them(
    opened: Opened, proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("lora_packer.publisher.bounds.BoundedSession.open", lambda _self, url: asked.append(url))
    for size, wanted in ((50_000, 0), (17 * MIB, 0), (2 * MIB, 3)):
        asked.clear()
        ours = archive(tmp_path, size)
        sent(ours, opened)
        assert len(asked) == wanted
        assert all(url.startswith(proxy.url) for url in asked)


def test_trouble_ahead_takes_nothing_of_the_uploads_patience(opened: Opened, proxy: FaultProxy, tmp_path: Path) -> None:
    proxy.add(Fault("ListMultipartUploads", "answer", answer=http(503, "SlowDown")))
    ours = archive(tmp_path, 17 * MIB)
    scouted = scout(opened, ours.name, ours.content, known(ours))
    assert scouted.listed is not None
    assert scouted.listed.exception() is not None
    assert opened.connection().patience._trouble_since is None
    done = publish(ours.content, ours.name, "s3://ignored/", scouted=scouted).object
    assert done.uploaded
    assert proxy.seen.count("ListMultipartUploads") == 2


def test_an_error_of_a_look_ahead_is_told_by_whoever_looks_again(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the credentials are gone")

    ours = archive(tmp_path, 50_000)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module("lora_packer.publisher.scout"), "look", broken)
        scouted = scout(opened, ours.name, ours.content, known(ours))
        assert scouted.look(opened.connection(), ours.key(opened.destination)) is None
    assert publish(ours.content, ours.name, "s3://ignored/", scouted=scouted).object.uploaded
