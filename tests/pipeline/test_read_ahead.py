"""The archive is read for its fingerprint while it is checked: never another one, and nobody waits for it in vain."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import TINY_BASE
from packager_support import adapter, change_in_secret
from s3_support import env, local_s3

from lora_packer.errors import CheckFailedError, PackError, PublishError
from lora_packer.packager.meter import Meter, Stopped
from lora_packer.pipeline.local import NO_FILES
from lora_packer.pipeline.pack import Packed, plan_folder
from lora_packer.pipeline.publish import publish
from lora_packer.pipeline.read_ahead import ReadAhead, read_ahead
from lora_packer.publisher.payload import fingerprint
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "local_s3"]

publish_module = importlib.import_module("lora_packer.pipeline.publish")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return adapter(tmp_path / "a")


@pytest.fixture
def fingerprints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who made a fingerprint: the reader ahead, or the publisher afterwards."""
    made: list[str] = []

    def told(who: str) -> Callable[..., Any]:
        def make(*given: Any) -> Any:
            made.append(who)
            return fingerprint(*given)

        return make

    monkeypatch.setattr("lora_packer.publisher.payload.fingerprint", told("ahead"))
    monkeypatch.setattr("lora_packer.publisher.fingerprint", told("afterwards"))
    return made


def planned(folder: Path, meter: Meter | None = None) -> Packed:
    return plan_folder(folder, NO_FILES, sha256=False, meter=meter)


def test_it_gives_the_fingerprint_of_the_archive_that_it_read(folder: Path) -> None:
    with read_ahead(lambda meter: planned(folder, meter)) as ahead:
        found = ahead.of(planned(folder))
        assert found is not None
        assert found.result() == fingerprint(planned(folder).content)


def test_it_gives_none_of_another_archive(folder: Path, tmp_path: Path) -> None:
    with read_ahead(lambda meter: planned(folder, meter)) as ahead:
        assert ahead.of(planned(adapter(tmp_path / "b", README_md="card"))) is None


def test_what_goes_wrong_meanwhile_is_nobodys_error(folder: Path, tmp_path: Path) -> None:
    with read_ahead(lambda meter: planned(tmp_path / "nowhere", meter)) as ahead:
        assert ahead.of(planned(folder)) is None


def test_the_reading_ends_with_what_it_was_for(folder: Path) -> None:
    begun, ended = threading.Event(), threading.Event()

    def for_ever(meter: Meter) -> Packed:
        begun.set()
        try:
            while True:
                meter.add(1)
        finally:
            ended.set()

    def fail() -> None:
        with read_ahead(for_ever):
            assert begun.wait(10)
            raise PackError("It failed.")

    with pytest.raises(PackError, match="It failed"):
        fail()
    assert ended.is_set()


def test_an_error_of_the_reading_comes_where_the_fingerprint_is_asked_for(folder: Path) -> None:
    class Spoiled:
        size, known_crc32 = 10, None

        def read_into(self, offset: int, buffer: memoryview) -> None:
            raise PackError("It cannot be read.")

    spoiled = replace(planned(folder), content=Spoiled())  # type: ignore[arg-type]
    with read_ahead(lambda _: spoiled) as ahead:
        found = ahead.of(spoiled)
        assert found is not None
        with pytest.raises(PackError, match="cannot be read"):
            found.result()


def test_reading_for_a_plan_can_be_stopped(folder: Path) -> None:
    meter = Meter()
    meter.stop()
    with pytest.raises(Stopped):
        planned(folder, meter)


# --- publish --------------------------------------------------------------------------------------------------------


def test_what_was_read_ahead_is_not_read_again(env: LocalS3, folder: Path, fingerprints: list[str]) -> None:
    done = publish(folder, to=f"s3://{env.bucket}/ahead/", base_config=TINY_BASE, endpoint_url=env.endpoint_url)
    assert fingerprints == ["ahead"]
    assert done.published.object.sha256 == fingerprint(planned(folder).content).sha256


def test_without_a_check_there_is_nothing_to_be_ahead_of(env: LocalS3, folder: Path, fingerprints: list[str]) -> None:
    publish(folder, to=f"s3://{env.bucket}/unchecked/", check=False, endpoint_url=env.endpoint_url)
    assert fingerprints == ["afterwards"]


def test_an_adapter_that_changes_before_its_check_is_sent_as_it_was_checked(
    env: LocalS3, folder: Path, monkeypatch: pytest.MonkeyPatch, fingerprints: list[str]
) -> None:
    before = fingerprint(planned(folder).content).sha256

    @contextmanager
    def change_when_read(plan: Callable[[Meter], Packed]) -> Iterator[ReadAhead]:
        with read_ahead(plan) as ahead:
            assert ahead.of(planned(folder)) is not None
            content = bytearray((folder / WEIGHTS).read_bytes())
            content[-1] ^= 1
            (folder / WEIGHTS).write_bytes(content)
            yield ahead

    monkeypatch.setattr(publish_module, "read_ahead", change_when_read)
    done = publish(folder, to=f"s3://{env.bucket}/changed/", base_config=TINY_BASE, endpoint_url=env.endpoint_url)
    assert fingerprints == ["ahead", "afterwards"]
    assert done.published.object.sha256 == fingerprint(planned(folder).content).sha256 != before


def test_an_adapter_that_changes_while_it_is_read_ahead_is_sent_as_it_was_checked(
    env: LocalS3, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def change_when_planned(plan: Callable[[Meter], Packed]) -> Iterator[ReadAhead]:
        def plan_and_change(meter: Meter) -> Packed:
            made = plan(meter)
            change_in_secret(folder / WEIGHTS)
            return made

        with read_ahead(plan_and_change) as ahead:
            ahead.of(planned(folder))
            yield ahead

    monkeypatch.setattr(publish_module, "read_ahead", change_when_planned)
    done = publish(folder, to=f"s3://{env.bucket}/secret/", base_config=TINY_BASE, endpoint_url=env.endpoint_url)
    assert done.published.object.sha256 == fingerprint(planned(folder).content).sha256


@pytest.mark.parametrize(
    ("missing", "to", "error"),
    [
        (WEIGHTS, "s3://{}/missing/", CheckFailedError),
        (CONFIG, "s3://{}/missing/", CheckFailedError),
        (WEIGHTS, "s3://there-is-no-such-bucket/", PublishError),
    ],
)
def test_what_is_found_first_is_told_as_without_reading_ahead(
    env: LocalS3, folder: Path, missing: str, to: str, error: type[Exception]
) -> None:
    (folder / missing).unlink()
    with pytest.raises(error):
        publish(folder, to=to.format(env.bucket), base_config=TINY_BASE, endpoint_url=env.endpoint_url)


def test_a_folder_that_cannot_be_packed_is_refused_after_its_check(env: LocalS3, folder: Path) -> None:
    (folder / "ADAPTER_CONFIG.JSON").write_text("{}")
    with pytest.raises(PackError, match="letter case"):
        publish(folder, to=f"s3://{env.bucket}/twins/", base_config=TINY_BASE, endpoint_url=env.endpoint_url)
