"""``submit`` of a Hub repository: checked before anything is sent, then fetched by the service, on both APIs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import ROOT, TINY, TINY_BASE, tiny_config, write_adapter
from hub_support import CONFIG, CONFIG_BYTES, HEADER_BYTES, WEIGHTS, fetched, hub_of_every_kind, point_to
from together_support import assert_no_secret, recording

from lora_packer.hub import Hub, HubRepo
from lora_packer.pipeline.by_hub import check_repo
from lora_packer.pipeline.check import CheckOptions
from lora_packer.sandbox import Faults, LocalHub, Service

Cli = Callable[..., Any]
NAMES = ("--model-name", "my-adapter", "--base-model", "tiny/llama")
FITS = ("--base-config", TINY_BASE)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    with hub_of_every_kind() as started:
        point_to(started, monkeypatch)
        yield started


@pytest.fixture
def start(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Service]]:
    """Start a service that fetches from the Hub, and that the commands talk to."""
    with ExitStack() as stack:

        def start(**options: Any) -> Service:
            service = stack.enter_context(Service(hub=hub, **{"delay": 0, **options}))
            monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
            monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
            return service

        yield start


def jobs(service: Service) -> list[Any]:
    return [*service.jobs.records(), *service.imports.records()]


# ---- the main way


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize(("repo", "who"), [("public", "nobody"), ("private", "owner"), ("gated", "owner")])
def test_submit_and_wait(
    cli: Cli,
    hub: LocalHub,
    start: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    repo: str,
    who: str,
    api: str,
) -> None:
    point_to(hub, monkeypatch, who)
    start()
    result = cli("submit", f"hf://org/{repo}", *NAMES, *FITS, "--api", api, "--wait", "--format", "json")
    assert result.code == 0, result.text
    told = json.loads(result.out)
    assert told["job"]["status"] == "Complete"
    assert len(told["commit"]) == 40
    assert told["commit"][:12] in result.err
    assert "only the header was read" in result.err
    assert ("the token of HF_TOKEN, which the service is given, may read it" in result.err) == (repo != "public")
    assert hub.token.reveal() not in result.text


@pytest.mark.parametrize(
    "source", ["org/public", "hf://org/public@main", "https://huggingface.co/org/public/tree/main"]
)
def test_what_the_service_is_sent(cli: Cli, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    point_to(hub, monkeypatch, "owner")
    with recording([(200, b'{"data": {"job_id": "job-1"}, "message": "job created"}')]) as (url, requests):
        monkeypatch.setenv("TOGETHER_API_KEY", "key")
        monkeypatch.setenv("TOGETHER_BASE_URL", url + "/v1")
        result = cli("submit", source, *NAMES, *FITS)
    assert result.code == 0, result.text
    assert requests[-1].json["model_source"] == "https://huggingface.co/org/public"
    assert requests[-1].json["hf_token"] == hub.token.reveal()
    assert hub.token.reveal() not in result.text
    assert (fetched(hub, WEIGHTS), fetched(hub, CONFIG)) == (HEADER_BYTES, CONFIG_BYTES)


# ---- stopped before anything is sent


@pytest.mark.parametrize(
    ("repo", "who", "code", "says"),
    [
        ("org/none", "nobody", 2, "does not exist, or is private and no HF_TOKEN is set"),
        ("org/private", "nobody", 2, "does not exist, or is private and no HF_TOKEN is set"),
        ("org/private", "other", 2, "does not exist, or is private and HF_TOKEN may not read it"),
        ("org/gated", "nobody", 2, "is gated, and no HF_TOKEN is set"),
        ("org/gated", "other", 2, "is gated, and the account of HF_TOKEN has no access"),
        ("org/public", "invalid", 2, "refuses the token"),
        ("org/public@v9", "nobody", 2, "no revision 'v9'"),
        ("org/broken", "nobody", 1, "failed its check with 1 error"),
        ("org/pickle", "nobody", 1, "failed its check with 1 error"),
        ("org/no-base", "nobody", 3, "could not be checked"),
    ],
)
def test_what_is_not_submitted(
    cli: Cli,
    hub: LocalHub,
    start: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    repo: str,
    who: str,
    code: int,
    says: str,
) -> None:
    service = start()
    point_to(hub, monkeypatch, who)
    hub.add("org/broken", ROOT / "fixtures" / "broken" / "missing-lora-b")
    hub.add("org/no-base", write_adapter(tmp_path / "a", None, tiny_config(base_model_name_or_path=None)))
    (write_adapter(tmp_path / "b") / WEIGHTS).rename(tmp_path / "b" / "adapter_model.bin")
    hub.add("org/pickle", tmp_path / "b")
    result = cli("submit", repo, *NAMES, *(() if repo == "org/no-base" else FITS), "--format", "json")
    assert result.code == code, result.text
    assert says in result.err
    told = json.loads(result.out)
    assert told["error"]["exit_code"] == code
    assert ("check" in told) == (code != 2)
    assert jobs(service) == []
    assert_no_secret(result.text)


def test_the_report_is_shown(cli: Cli, hub: LocalHub, start: Callable[..., Service]) -> None:
    start()
    hub.add("org/broken", ROOT / "fixtures" / "broken" / "wrong-hidden-size")
    result = cli("submit", "org/broken", *NAMES, *FITS)
    assert result.code == 1
    assert "error LP301 wrong-shape" in result.out


@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_that_cannot_be_asked(
    cli: Cli, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    service = start()
    if offline:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = cli("submit", "org/public", *NAMES, *FITS)
    assert result.code == 3
    assert "Nothing was submitted" in result.err
    assert "--no-check submits it unchecked" in result.err
    assert jobs(service) == []
    insisted = cli("submit", "org/public", *NAMES, *FITS, "--no-check")
    assert insisted.code == 0, insisted.text
    assert "skipped, as told" in insisted.err
    assert len(jobs(service)) == 1


def test_a_revision_is_taken_where_it_is_the_default_branch(
    cli: Cli, hub: LocalHub, start: Callable[..., Service]
) -> None:
    service = start()
    commit = hub.add("org/versions", TINY)
    other = hub.add("org/versions", TINY, branch="next")
    refused = cli("submit", "org/versions@next", *NAMES, *FITS)
    assert refused.code == 2
    assert f"it would fetch commit {commit[:12]}" in refused.err
    assert f"'next' is commit {other[:12]}" in refused.err
    assert jobs(service) == []
    taken = cli("submit", f"org/versions@{commit}", *NAMES, *FITS, "--wait")
    assert taken.code == 0, taken.text
    assert f"commit  {commit}" in taken.out


def test_the_key_and_the_name_are_asked_for_before(
    cli: Cli, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start(base_models=["org/base"])
    assert cli("submit", "org/public", *NAMES, *FITS).code == 0
    taken = cli("submit", "org/public", *NAMES, *FITS)
    assert taken.code == 5
    assert "'my-adapter' already exists: job" in taken.err
    assert "submitting" not in taken.err
    monkeypatch.setenv("TOGETHER_API_KEY", "another")
    refused = cli("submit", "org/public", "--model-name", "x", "--base-model", "tiny/llama", *FITS)
    assert refused.code == 5
    assert "TOGETHER_API_KEY" in refused.err
    assert "submitting" not in refused.err
    assert len(jobs(service)) == 1


# ---- what only the service sees


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize(
    ("repo", "who", "says"),
    [
        ("org/gated", "nobody", "HTTP 401 (GatedRepo)"),
        ("org/gated", "other", "HTTP 403 (GatedRepo)"),
        ("org/private", "nobody", "HTTP 401 (RepoNotFound)"),
        ("org/none", "owner", "HTTP 404 (RepoNotFound)"),
        ("org/empty", "nobody", "Missing required files: adapter_config.json, adapter_model.safetensors"),
    ],
)
def test_unchecked_the_job_fails_with_the_services_words(
    cli: Cli,
    hub: LocalHub,
    start: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    repo: str,
    who: str,
    says: str,
    api: str,
) -> None:
    start()
    point_to(hub, monkeypatch, who)
    hub.add("org/empty", tmp_path)
    result = cli("submit", repo, *NAMES, "--no-check", "--api", api, "--wait")
    assert result.code == 5
    assert says in result.err
    assert ("HF_TOKEN" in result.err) == (repo != "org/empty")  # what to look at next
    assert_no_secret(result.text)


def test_a_source_that_cannot_be_reached_may_stand_still(cli: Cli, start: Callable[..., Service]) -> None:
    start(faults=Faults(stuck_unreachable=True))
    result = cli("submit", "org/gated", *NAMES, "--no-check", "--wait", "--timeout", "1s", "--api", "v1")
    assert result.code == 6
    assert "Processing" in result.err


def test_a_mirror_is_told() -> None:
    """What is read from a mirror of the Hub need not be what the service fetches."""
    files = {CONFIG: (TINY / CONFIG).read_bytes(), WEIGHTS: (TINY / WEIGHTS).read_bytes()}
    siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith("/api/"):
            return httpx2.Response(200, json={"sha": "c" * 40, "siblings": siblings})
        begin, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        data = files[request.url.path.rpartition("/")[2]][int(begin) : int(last) + 1]
        return httpx2.Response(206, content=data, headers={"Content-Range": f"bytes {begin}-{last}/*"})

    notes: list[tuple[str, str]] = []
    mirror = Hub(None, "https://mirror.example", transport=httpx2.MockTransport(handle))
    options = CheckOptions(base_config=TINY_BASE)
    checked = check_repo(HubRepo("org/repo"), options, lambda *note: notes.append(note), hub=mirror)
    assert checked is not None
    assert checked.commit == "c" * 40
    assert (
        "warning",
        "HF_ENDPOINT is https://mirror.example; the service fetches from https://huggingface.co",
    ) in notes
