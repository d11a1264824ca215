"""``release`` of a Hub repository: from the check to an answer, resumed, and with the commit that was checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE, write_adapter
from hub_support import HEADER_BYTES, WEIGHTS, fetched, hub_of_every_kind, point_to

import lora_packer
from lora_packer.hub import HubRepo
from lora_packer.sandbox import LocalHub, Service
from lora_packer.sandbox.faults import Faults
from lora_packer.together import why_it_stands_still

Cli = Callable[..., Any]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    monkeypatch.chdir(tmp_path)
    with hub_of_every_kind() as started:
        point_to(started, monkeypatch)
        yield started


@pytest.fixture
def service(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with Service(hub=hub, delay=0, faults=Faults(v1_endpoints_closed=False)) as started:
        monkeypatch.setenv("TOGETHER_API_KEY", started.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", started.base_url)
        yield started


def arguments(repo: str = "org/public", name: str = "mine") -> list[str]:
    return [
        "release", f"hf://{repo}", "--base-config", str(TINY_BASE), "--model-name", name, "--base-model", "tiny/llama",
        "--receipt", "r.json",
    ]  # fmt: skip


def receipt() -> Any:
    return json.loads(Path("r.json").read_text())


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize(("repo", "who"), [("org/public", "nobody"), ("org/private", "owner")])
def test_release_comes_to_an_answer_and_a_second_run_does_nothing(
    cli: Cli, hub: LocalHub, service: Service, monkeypatch: pytest.MonkeyPatch, repo: str, who: str, api: str
) -> None:
    point_to(hub, monkeypatch, who)
    command = [*arguments(repo), "--api", api, "--deploy", "--ask", "Well?"]
    first = cli(*command)
    assert first.code == 0, first.text
    assert "status   Complete" in first.out
    assert "answer   The sandbox answers for" in first.out
    assert "what was checked is what was fetched" in first.err
    written = receipt()
    commit = written["adapter"]["commit"]
    assert written["adapter"] == {
        "source": f"hf://{repo}", "commit": commit, "commit_after": commit, "pinned": False,
        "sha256": {WEIGHTS: written["adapter"]["sha256"][WEIGHTS]},
    }  # fmt: skip
    assert f"source   hf://{repo}, checked at commit {commit[:12]}" in first.out
    assert (written["check"]["status"], written["archive"], written["object"], written["url"]) == (
        "ok",
        None,
        None,
        None,
    )
    assert hub.token.reveal() not in first.text + json.dumps(written)
    hub.served.clear()
    second = cli(*command)
    assert (second.code, second.out) == (0, first.out)
    assert hub.served == []
    assert receipt()["submission"] == written["submission"]


def test_the_python_api_releases_a_repository(hub: LocalHub, service: Service) -> None:
    done = lora_packer.release(
        "hf://org/public", model_name="mine", base_model="tiny/llama", base_config=TINY_BASE, wait=False
    )
    assert done.job_id is not None
    assert done.path == Path("public.mine.receipt.json")
    assert fetched(hub, WEIGHTS) >= HEADER_BYTES


def test_a_branch_that_moves_is_told(hub: LocalHub, service: Service) -> None:
    notes: list[str] = []

    def note(stage: str, text: str) -> None:
        notes.append(f"{stage}: {text}")
        if stage == "submit":
            hub.add("org/public", TINY)

    done = lora_packer.release(
        "hf://org/public", model_name="mine", base_model="tiny/llama", base_config=TINY_BASE, note=note
    )
    assert done.adapter["commit"] != done.adapter["commit_after"]
    assert any(text.startswith("warning: the default branch moved from") for text in notes)


def test_a_hub_that_is_gone_when_the_job_has_ended(
    hub: LocalHub, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []

    def note(stage: str, text: str) -> None:
        notes.append(f"{stage}: {text}")
        if stage == "wait" and text.startswith("Complete"):
            monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")

    done = lora_packer.release(
        "hf://org/public", model_name="mine", base_model="tiny/llama", base_config=TINY_BASE, note=note
    )
    assert done.is_complete
    assert "commit_after" not in done.adapter
    assert any(text.startswith("warning: whether the service fetched commit") for text in notes)


def test_a_lost_answer_is_found_again(cli: Cli, hub: LocalHub, service: Service) -> None:
    """Cut off between the request and its answer: the job may be of what was checked then, and of nothing newer."""
    assert cli(*arguments()).code == 0
    written = receipt()
    job_id, commit = written["submission"]["job_id"], written["adapter"]["commit"]
    written.update(submission={"state": "sending", "at": written["submission"]["at"]}, job=None)
    del written["adapter"]["commit_after"]
    Path("r.json").write_text(json.dumps(written))
    moved = hub.add("org/public", TINY)
    again = cli(*arguments())
    assert again.code == 0, again.text
    assert f"the earlier run's request arrived: job {job_id}" in again.err
    assert f"the default branch moved from {commit[:12]} to {moved[:12]}" in again.err
    assert (receipt()["adapter"]["commit"], receipt()["adapter"]["commit_after"]) == (commit, moved)
    assert len(service.imports.records()) == 1


def test_a_failed_job_is_submitted_again_once_the_cause_is_gone(
    cli: Cli, hub: LocalHub, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = cli(*arguments("org/gated"), "--no-check")
    assert failed.code == 5
    assert "HTTP 401 (GatedRepo)" in failed.err
    assert "commit" not in receipt()["adapter"]
    point_to(hub, monkeypatch, "owner")
    again = cli(*arguments("org/gated"))
    assert again.code == 0, again.text
    assert [job.status for job in service.imports.records()] == ["Failed", "Complete"]


@pytest.mark.parametrize(
    ("repo", "code", "says"),
    [("org/broken", 1, "failed its check"), ("org/gated", 2, "is gated"), ("org/public@v9", 2, "no revision")],
)
def test_a_repository_that_is_not_fit_stops_at_the_check(
    cli: Cli, hub: LocalHub, service: Service, tmp_path: Path, repo: str, code: int, says: str
) -> None:
    hub.add("org/broken", TINY.parent.parent / "broken" / "missing-lora-b")
    result = cli(*arguments(repo))
    assert result.code == code
    assert says in result.err
    assert service.imports.records() == []
    assert not (tmp_path / "r.json").exists()


def test_a_receipt_of_another_source_is_not_taken(cli: Cli, hub: LocalHub, service: Service, tmp_path: Path) -> None:
    assert cli(*arguments()).code == 0
    other = cli(*arguments("org/private"))
    assert other.code == 2
    assert "source differ" in other.err
    folder = write_adapter(tmp_path / "a")
    local = cli(*(str(folder) if item.startswith("hf://") else item for item in arguments()), "--to", "s3://b/")
    assert local.code == 2
    assert "is of another release" in local.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--to", "s3://bucket/prefix/"), "--to does not go with hf://org/public"),
        (("--sandbox",), "--sandbox has a Hub of its own, without hf://org/public"),
    ],
)
def test_options_that_do_not_go_with_a_repository(cli: Cli, service: Service, more: tuple[str, ...], says: str) -> None:
    result = cli(*arguments(), *more)
    assert result.code == 2
    assert says in result.err
    assert service.imports.records() == []


@pytest.mark.parametrize(
    ("repo", "says"),
    [
        ("org/public", "hf://org/public can be read from here, so the service may be slow"),
        ("org/gated", "The service accepts the key. hf://org/gated is gated"),
        ("org/none", "does not exist, or is private"),
    ],
)
def test_why_a_job_stands_still(hub: LocalHub, repo: str, says: str) -> None:
    assert says in why_it_stands_still(HubRepo(repo))
