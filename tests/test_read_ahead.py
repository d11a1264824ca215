"""What will be sent is read for its digests while it is checked, and never taken for what it is not."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from builders import TINY_BASE
from packager_support import adapter

from lora_packer import pipeline
from lora_packer.errors import CheckFailedError, PackError
from lora_packer.packager import PlannedArchive, pack, plan_archive
from lora_packer.packager.meter import Meter, Stopped
from lora_packer.pipeline import CheckOptions, finished_archive, plan_folder, read_ahead, run_check, silent
from lora_packer.publisher import Fingerprint, content

WEIGHTS = "adapter_model.safetensors"
OPTIONS = CheckOptions(base_config=TINY_BASE, target="peft")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return adapter(tmp_path / "mine", README_md="card")


class Passes:
    """The threads in which an archive was read for its digests, one for each time; ``done`` after the first."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.done = threading.Event()

    def fingerprint(self, *arguments: Any) -> Fingerprint:
        self.threads.append(threading.current_thread())
        found = content.fingerprint(*arguments)
        self.done.set()
        return found


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    made = Passes()
    monkeypatch.setattr("lora_packer.publisher.fingerprint", made.fingerprint)
    return made


def digests(archive: Path) -> str:
    return hashlib.sha256(archive.read_bytes()).hexdigest()


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_a_folder_is_read_once_beside_its_check(
    folder: Path, tmp_path: Path, passes: Passes, extras: bool, skip: bool
) -> None:
    expected = digests(pack(folder, tmp_path / "a.zip", include_extras=extras).path)
    with read_ahead(folder, None, include_extras=extras) as read:
        report = None if skip else run_check(folder, OPTIONS, silent)
        packed = plan_folder(folder, "mine", report, include_extras=extras)
        assert read(packed.content, Meter()).sha256 == expected
    [thread] = passes.threads
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_a_finished_archive_is_read_once_too(folder: Path, tmp_path: Path, passes: Passes) -> None:
    finished = finished_archive(pack(folder, tmp_path / "a.tar.gz").path)
    with read_ahead(tmp_path / "a.tar.gz", finished, include_extras=False) as read:
        assert read(finished.content, Meter()).sha256 == digests(tmp_path / "a.tar.gz")
    assert len(passes.threads) == 1


def in_secret(path: Path) -> None:
    """Other bytes of the same length at the same time: only their checksums differ."""
    kept = path.stat()
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.write(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def openly(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


@pytest.mark.parametrize("change", [in_secret, openly])
def test_what_was_read_before_a_change_is_not_taken(
    folder: Path, tmp_path: Path, passes: Passes, change: Callable[[Path], None]
) -> None:
    with read_ahead(folder, None, include_extras=True) as read:
        assert passes.done.wait(60)
        change(folder / "README.md")
        packed = plan_folder(folder, "mine", run_check(folder, OPTIONS, silent), include_extras=True)
        expected = digests(pack(folder, tmp_path / "a.zip", include_extras=True).path)
        assert read(packed.content, Meter()).sha256 == expected
    assert passes.threads[1:] == [threading.current_thread()]


def instead_of_planning(monkeypatch: pytest.MonkeyPatch, ahead: Callable[..., None]) -> None:
    """Run something else where the archive is planned to be read ahead; that it is planned to be sent stays as it is."""

    def plan(*arguments: Any, **options: Any) -> PlannedArchive | None:
        here = threading.current_thread() is threading.main_thread()
        return plan_archive(*arguments, **options) if here else ahead(*arguments, **options)

    monkeypatch.setattr(pipeline, "plan_archive", plan)


def test_what_could_not_be_read_ahead_is_read_when_it_is_needed(
    folder: Path, tmp_path: Path, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise PackError("It was gone for a moment.")

    instead_of_planning(monkeypatch, fails)
    with read_ahead(folder, None, include_extras=False) as read:
        packed = plan_folder(folder, "mine", run_check(folder, OPTIONS, silent))
        assert read(packed.content, Meter()).sha256 == digests(pack(folder, tmp_path / "a.zip").path)
    assert passes.threads == [threading.current_thread()]


class Endless:
    """A planning that goes on until it is stopped; it looks for that once ``may_stop`` is set."""

    def __init__(self) -> None:
        self.may_stop = threading.Event()
        self.has_stopped = False

    def __call__(self, _folder: Path, *, meter: Meter, **_options: object) -> None:
        self.may_stop.wait(60)
        try:
            while True:
                meter.add(1)
        finally:
            self.has_stopped = True


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Endless:
    made = Endless()
    instead_of_planning(monkeypatch, made)
    return made


def test_whoever_waits_for_it_can_stop(folder: Path, endless: Endless) -> None:
    def publish() -> None:
        with read_ahead(folder, None, include_extras=False) as read, ExitStack() as stack:
            stack.callback(endless.may_stop.set)
            own = Meter()
            own.stop()
            read(plan_folder(folder, "mine", None).content, own)

    with pytest.raises(Stopped):
        publish()
    assert endless.has_stopped


def test_a_failed_check_ends_the_reading(folder: Path, endless: Endless) -> None:
    os.truncate(folder / WEIGHTS, 1000)

    def note(_stage: str, _text: str) -> None:
        raise AssertionError("it did not fail")

    def check() -> None:
        with read_ahead(folder, None, include_extras=False), ExitStack() as stack:
            stack.callback(endless.may_stop.set)
            run_check(folder, OPTIONS, note)

    with pytest.raises(CheckFailedError):
        check()
    assert endless.has_stopped
