"""The digests of what will be sent: read in one pass, and never those of what was not checked."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import adapter, change_in_secret

from lora_packer.errors import PackError, PublishError
from lora_packer.packager import digest, pack, plan_archive
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.meter import Meter, Stopped
from lora_packer.packager.source import Source
from lora_packer.publisher import payload
from lora_packer.publisher.payload import Fingerprint, fingerprint

WEIGHTS = "adapter_model.safetensors"


def whole(path: Path) -> FileSlice:
    source = Source.at(path)
    return FileSlice(source, 0, source.size)


@settings(deadline=None)
@given(data=st.binary(max_size=100), chunk=st.integers(1, 40), buffers=st.integers(1, 4))
def test_they_are_those_of_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int, buffers: int
) -> None:
    path = tmp_path_factory.mktemp("content") / "a.zip"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "_CHUNK", chunk)
        patch.setattr(payload, "_BUFFERS", buffers)
        found = fingerprint(whole(path))
    assert found == Fingerprint(hashlib.sha256(data).hexdigest(), zlib.crc32(data))


class Late:
    """A pool that does its work when somebody waits for it, and not before."""

    def __init__(self, _threads: int) -> None:
        self.work: Callable[[], None] = lambda: None

    def __enter__(self) -> Late:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, task: Callable[[bytes], None], data: bytes) -> Late:
        future = Late(1)
        future.work = partial(task, data)
        return future

    def result(self) -> None:
        self.work()


@pytest.mark.parametrize("buffers", [1, 2, 4])
def test_memory_is_used_again_only_when_it_was_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffers: int
) -> None:
    monkeypatch.setattr(digest, "ThreadPoolExecutor", Late)
    monkeypatch.setattr(payload, "_CHUNK", 10)
    monkeypatch.setattr(payload, "_BUFFERS", buffers)
    (tmp_path / "a.zip").write_bytes(bytes(range(105)))
    assert fingerprint(whole(tmp_path / "a.zip")).sha256 == hashlib.sha256(bytes(range(105))).hexdigest()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_planned_archive_has_those_of_the_packed_one(tmp_path: Path, kind: str) -> None:
    folder = adapter(tmp_path / "a")
    packed = pack(folder, tmp_path / f"a.{kind}")
    assert fingerprint(plan_archive(folder, kind)) == fingerprint(whole(packed.path))


def test_what_is_not_wanted_any_more_ends(tmp_path: Path) -> None:
    before, stopped = set(threading.enumerate()), Meter()
    (tmp_path / "a.zip").write_bytes(bytes(1000))
    stopped.stop()
    with pytest.raises(Stopped):
        fingerprint(whole(tmp_path / "a.zip"), stopped)
    assert set(threading.enumerate()) <= before


def test_a_change_is_noticed(tmp_path: Path) -> None:
    planned = plan_archive(adapter(tmp_path / "a"))
    with (tmp_path / "a" / WEIGHTS).open("ab") as file:
        file.write(b"more")
    with pytest.raises(PackError, match="changed while it was being packed"):
        fingerprint(planned)


@pytest.mark.usefixtures("no_change_time")
def test_a_change_that_no_time_or_length_shows_is_noticed(tmp_path: Path) -> None:
    planned = plan_archive(adapter(tmp_path / "a"))
    change_in_secret(tmp_path / "a" / WEIGHTS)
    with pytest.raises(PublishError, match="not those that were checked"):
        fingerprint(planned)
