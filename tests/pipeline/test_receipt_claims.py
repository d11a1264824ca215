"""What a receipt claims is asked again: a hand-written one skips no check, and reports nothing that is not so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE

from lora_packer.sandbox import Sandbox

BROKEN = TINY.parent.parent / "broken" / "missing-lora-b"
Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0.05) as started:
        yield started


@pytest.fixture
def release(cli: Cli, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)

    def run(adapter: Path, name: str, *more: str) -> Any:
        names = ("--model-name", name, "--base-model", "tiny/llama", "--to", f"{sandbox.destination}{name}/")
        return cli("release", adapter, *names, "--base-config", TINY_BASE, "--receipt", "r.json", *more)

    return run


def written(name: str = "r.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(name).read_text())
    return found


def claim(**sections: Any) -> None:
    Path("r.json").write_text(json.dumps({**written(), **sections}))


def digests(adapter: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in adapter.iterdir() if path.is_file()}


@pytest.mark.parametrize("submitted", [False, True])
def test_a_check_that_was_never_made(release: Callable[..., Any], sandbox: Sandbox, submitted: bool) -> None:
    assert release(TINY, f"claims-{submitted}").code == 0
    claim(adapter={"source": str(BROKEN), "sha256": digests(BROKEN)})
    if not submitted:
        claim(submission=None, job=None)
    before = len(sandbox.service.jobs.describe_all())
    result = release(BROKEN, f"claims-{submitted}")
    assert result.code == (1 if submitted else 5), result.text  # the name is taken by now
    claim(
        release={
            **written()["release"],
            "model_name": f"free-{submitted}",
            "to": f"{sandbox.destination}free-{submitted}/",
        }
    )
    result = release(BROKEN, f"free-{submitted}")
    assert result.code == 1, result.text
    assert len(sandbox.service.jobs.describe_all()) == before


@pytest.mark.parametrize("more", [(), ("--no-wait",)])
def test_a_job_of_another_model(release: Callable[..., Any], more: tuple[str, ...]) -> None:
    name = f"one{len(more)}"
    assert release(TINY, name).code == 0
    one = written()
    Path("r.json").unlink()
    assert release(TINY, f"other{name}", "--description", "x").code == 0
    claim(submission={**written()["submission"], "job_id": one["submission"]["job_id"]})
    result = release(TINY, f"other{name}", "--description", "x", *more)
    assert result.code == 5
    assert f"is of the model '{name}', and not of 'other{name}'" in result.err


@pytest.mark.parametrize("job_id", ["job-none", "job_00000000-0000-0000-0000-000000000000"])
def test_a_job_that_does_not_exist_is_not_complete(release: Callable[..., Any], job_id: str) -> None:
    name = f"gone-{len(job_id)}"
    assert release(TINY, name).code == 0
    claim(
        submission={**written()["submission"], "job_id": job_id},
        job={"id": job_id, "status": "Complete", "at": "2026-01-01T00:00:00+00:00"},
    )
    result = release(TINY, name)
    assert result.code == 5, result.text
    assert "Complete" not in result.out


@pytest.mark.parametrize(
    ("section", "told", "field"),
    [
        ("endpoint", {}, "endpoint.id"),
        ("endpoint", {"id": "ep_1"}, "endpoint.name"),
        ("endpoint", {"id": "ep_1", "name": ["a"]}, "endpoint.name"),
        ("submission", {"state": "submitted", "job_id": {"a": 1}}, "submission.job_id"),
        ("submission", {"state": 5}, "submission.state"),
        ("job", {"id": 5}, "job.id"),
        ("url", {"deadline": 5}, "url.deadline"),
        ("object", {"bucket": [], "key": "a"}, "object.bucket"),
        ("adapter", {"commit": 7}, "adapter.commit"),
        ("smoke", {"verdict": True}, "smoke.verdict"),
    ],
)
def test_a_field_that_a_later_run_could_not_go_by_is_named(
    section: str, told: Any, field: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOGETHER_API_KEY", "a-key-of-nobody")
    monkeypatch.setenv("TOGETHER_BASE_URL", "http://127.0.0.1:9/v1")
    Path("r.json").write_text(json.dumps({"schema_version": 1, "release": {}, "adapter": {}, section: told}))
    names = ("--model-name", "m", "--base-model", "tiny/llama", "--direct", "--base-config", TINY_BASE)
    result = cli("release", TINY, *names, "--receipt", "r.json")
    assert result.code == 2, result.text
    assert f"its {field} is missing or no text" in result.text
