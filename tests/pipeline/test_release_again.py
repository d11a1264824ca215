"""``release`` run again: while another run is at it, after a job that failed, and after a request whose answer was lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter

from lora_packer.locks import locked
from lora_packer.sandbox import Faults, Sandbox
from lora_packer.together.submission import Sent

Cli = Callable[..., Any]
WAYS = ("v1", "v2", "direct")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.fixture
def env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point_to(sandbox, monkeypatch)
    monkeypatch.chdir(tmp_path)


def point_to(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)


def release(name: str, way: str, adapter: Path = TINY) -> list[str]:
    place = ["--direct"] if way == "direct" else ["--to", f"s3://sandbox/{name}/"]
    return [
        "release", str(adapter), "--base-config", str(TINY_BASE), "--model-name", name, "--base-model", "tiny/llama",
        *place, "--receipt", f"{name}.json", "--api", "v1" if way == "v1" else "v2",
    ]  # fmt: skip


def receipt(name: str) -> Any:
    return json.loads(Path(f"{name}.json").read_text())


def cut_off(name: str, at: datetime) -> None:
    """Make the receipt one of a run that was cut off between its request and the answer."""
    written = receipt(name)
    written.update(submission={"state": "sending", "at": at.isoformat(timespec="seconds")}, job=None)
    Path(f"{name}.json").write_text(json.dumps(written))


def test_two_runs_with_one_receipt_are_one_too_many(cli: Cli, env: None, sandbox: Sandbox) -> None:
    before = len(sandbox.service.jobs.records())
    with locked(Path("crowd.json")):
        refused = cli(*release("crowd", "v1"))
    assert (refused.code, refused.err.count("\n")) == (2, 2), refused.text
    assert "Another run is using 'crowd.json'" in refused.err
    assert len(sandbox.service.jobs.records()) == before
    assert cli(*release("crowd", "v1")).code == 0


@pytest.mark.parametrize("way", WAYS)
def test_after_a_failed_job_a_mended_adapter_is_taken(
    way: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    adapter = write_adapter(tmp_path / "adapter", None, tiny_config(lora_alpha=4))
    with Sandbox(delay=0, faults=Faults(fail_job="the alpha is odd")) as failing:
        point_to(failing, monkeypatch)
        failed = cli(*release("mended", "v1" if way == "direct" else way, adapter))
        assert failed.code == 5, failed.text
    assert receipt("mended")["submission"]["state"] == "failed"
    write_adapter(adapter, None, tiny_config(lora_alpha=8))
    with Sandbox(delay=0) as mending:
        point_to(mending, monkeypatch)
        again = cli(*release("mended", way, adapter))
    assert again.code == 0, again.text
    assert receipt("mended")["job"]["status"] == "Complete"


@pytest.mark.parametrize("way", WAYS)
def test_somebody_elses_job_is_not_taken_for_the_lost_one(
    way: str, cli: Cli, env: None, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The name was taken by another archive, or long before: whatever of the two the service tells."""
    name = f"theirs-{way}"
    assert cli(*release(name, way)).code == 0
    theirs = receipt(name)
    if way == "direct":
        cut_off(name, datetime.now(UTC) + timedelta(hours=1))
    else:
        cut_off(name, datetime.now(UTC))
        written = receipt(name)
        written["url"]["url"] = written["url"]["url"].replace(f"{name}/", f"{name}/other-")
        Path(f"{name}.json").write_text(json.dumps(written))
    refused = cli(*release(name, way))
    assert refused.code == 5, refused.text
    assert "the earlier run's request never arrived" in refused.err
    assert f"already exists: job {theirs['submission']['job_id']}" in refused.err
    assert receipt(name)["submission"] is None


@pytest.mark.parametrize("way", WAYS)
def test_the_lost_job_is_found_again(way: str, cli: Cli, env: None, sandbox: Sandbox) -> None:
    name = f"ours-{way}"
    assert cli(*release(name, way)).code == 0
    ours = receipt(name)["submission"]["job_id"]
    cut_off(name, datetime.now(UTC))
    again = cli(*release(name, way))
    assert again.code == 0, again.text
    assert f"the earlier run's request arrived: job {ours}" in again.err
    assert receipt(name)["submission"]["job_id"] == ours


URL, AT = "https://s3.example/bucket/p/mine-0123.zip", "2026-11-28T12:00:00+00:00"


@pytest.mark.parametrize(
    ("address", "at", "source", "created_at", "expected"),
    [
        (URL, AT, URL, "2020-01-01T00:00:00Z", True),
        (URL, AT, f"{URL}?X-Amz-Signature=***", None, True),
        (URL, AT, "https://s3.example/bucket/p/theirs-0123.zip", AT, False),
        (URL, AT, "https://huggingface.co/org/repo", AT, False),
        ("https://huggingface.co/org/repo", AT, "org/repo", AT, True),
        ("https://huggingface.co/org/repo", AT, "org/other", AT, False),
        (URL, AT, "remote_archive", "2026-11-28T12:00:01Z", True),
        (URL, AT, "remote_archive", "2026-11-28T11:50:00Z", True),  # clocks differ
        (URL, AT, "remote_archive", "2026-11-28T11:40:00Z", False),
        (None, AT, URL, "2026-11-28T11:40:00", False),
        (URL, AT, None, None, True),
        (URL, "", 3, "2020-01-01T00:00:00Z", True),
        (URL, None, None, "yesterday", True),
    ],
)
def test_what_may_be_the_lost_job(address: Any, at: Any, source: Any, created_at: Any, expected: bool) -> None:
    assert Sent(address, at).may_be(source, created_at) is expected
