"""``submit``, ``status`` and ``wait`` on the command line, against the sandbox's service."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from service_support import start_v1
from signed_urls import KINDS, minted
from together_support import (
    BASE_MODEL,
    FILES,
    SIGNATURE,
    assert_no_secret,
    presigned,
    recording,
    serving_folder,
    zip_of,
)

from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service

__all__ = ["start_v1"]

Cli = Callable[..., Any]
REPO = ("org/repo", "--no-check")  # a Hub repo, without asking the Hub
NAMES = ("--model-name", "my-adapter", "--base-model", BASE_MODEL)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.zip").write_bytes(zip_of(FILES))
    (folder / "nested.zip").write_bytes(zip_of({f"x/{name}": data for name, data in FILES.items()}))
    with serving_folder(folder) as url:
        yield url


def only_job(service: Service) -> str:
    (job,) = service.jobs.describe_all()
    job_id = job["job_id"]
    assert isinstance(job_id, str)
    return job_id


def check_secrets(result: Any, service: Service) -> None:
    assert_no_secret(result.text)
    assert service.api_key.reveal() not in result.text


# ---- the main way


def test_submit_then_status_then_wait(cli: Cli, start_v1: Callable[..., Service], files: str) -> None:
    service = start_v1()
    submitted = cli("submit", "-", *NAMES, input=presigned(host=files, path="/a.zip") + "\n")
    assert submitted.code == 0, submitted.text
    job_id = only_job(service)
    assert job_id in submitted.out
    assert "devuser/my-adapter" in submitted.out
    assert f"lora-packer wait {job_id}" in submitted.out
    service.jobs.join()
    looked = cli("status", job_id)
    assert looked.code == 0
    assert "Complete" in looked.out
    waited = cli("wait", job_id, "--timeout", "1m")
    assert waited.code == 0
    assert "Complete" in waited.out
    assert "Job is Complete" in waited.err
    for result in (submitted, looked, waited):
        check_secrets(result, service)


def test_the_url_comes_from_a_file(cli: Cli, start_v1: Callable[..., Service], files: str, tmp_path: Path) -> None:
    service = start_v1()
    path = tmp_path / "url"
    path.write_text(presigned(host=files, path="/a.zip") + "\n")
    result = cli("submit", "--url-file", path, *NAMES, "--description", "tuned on tickets", "--format", "json")
    assert result.code == 0, result.text
    data = json.loads(result.out)
    assert data["schema_version"] == 1
    assert data["job"]["id"] == only_job(service)
    assert data["job"]["status"] == "Submitted"
    assert data["job"]["model_name"] == "devuser/my-adapter"
    assert data["job"]["model_id"].startswith("model-")
    assert service.jobs.describe_all()[0]["args"]["description"] == "tuned on tickets"
    check_secrets(result, service)


def test_submit_and_wait(cli: Cli, start_v1: Callable[..., Service], files: str) -> None:
    service = start_v1()
    result = cli("submit", "-", *NAMES, "--wait", "--format", "json", input=presigned(host=files, path="/a.zip"))
    assert result.code == 0, result.text
    job = json.loads(result.out)["job"]
    assert (job["status"], job["raw_status"]) == ("Complete", "Complete")
    assert job["model_name"] == "devuser/my-adapter"
    assert job["model_id"].startswith("model-")
    assert job["updates"][-1]["message"] == "Job is Complete"
    assert job["id"] in result.err
    check_secrets(result, service)


def test_a_presigned_url_goes_out_without_a_hub_token(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording([(200, b'{"data": {"job_id": "job-1"}, "message": "job created"}')]) as (url, requests):
        monkeypatch.setenv("TOGETHER_API_KEY", "key")
        monkeypatch.setenv("TOGETHER_BASE_URL", url + "/v1")
        monkeypatch.setenv("HF_TOKEN", "bad token that is not looked at")
        result = cli("submit", "-", *NAMES, input=presigned())
    assert result.code == 0, result.text
    assert set(requests[-1].json) == {"model_name", "model_type", "base_model", "model_source"}


# ---- refused before anything is sent


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ((presigned(),), "", "not taken as an argument"),
        ((), "", "either SOURCE or --url-file"),
        (("-", "--url-file", "x"), presigned(), "either SOURCE or --url-file"),
        (("--url-file", "missing"), "", "No such file"),
        (("--url-file", "."), "", "cannot be read"),
        (("--url-file", "latin1"), "", "not ASCII"),
        (("-",), "", "input is empty"),
        (("-",), "two words", "not one URL"),
        (("-",), presigned(host="http://b.s3.amazonaws.com"), "not https"),
        (("-",), presigned(host="https://10.0.0.1"), "cannot reach"),
        (("folder",), "", "local path"),
        (("s3://bucket/a.zip",), "", "s3://"),
        (("nonsense",), "", "not a model repository"),
        (("hf://org/repo@v2", "--no-check"), "", "no revision"),
        (("-", "--base-config", "org/base"), presigned(), "goes with a Hub repo"),
        (("org/repo", "--model-name", "org/my-adapter"), "", "not a bare name"),
        (("org/repo", "--base-model", "a b"), "", "base model"),
        (("org/repo", "--api", "v9"), "", "is not one of 'auto', 'v1', 'v2'"),
        (("org/repo", "--timeout", "soon"), "", "not a duration"),
    ],
)
def test_input_that_is_refused(
    arguments: tuple[str, ...],
    stdin: str,
    said: str,
    cli: Cli,
    start_v1: Callable[..., Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = start_v1()
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("latin1").write_bytes(b"https://b.example/\xe9")
    result = cli("submit", *NAMES, *arguments, input=stdin)
    assert result.code == 2, result.text
    assert said in result.err
    assert result.out == ""
    assert service.jobs.describe_all() == []
    check_secrets(result, service)


def test_loopback_urls_are_for_a_local_service_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "key")
    result = cli("submit", "-", *NAMES, "--api", "v1", input=presigned(host="http://127.0.0.1:9"))
    assert result.code == 2
    assert "this machine" in result.err


@pytest.mark.parametrize(
    ("life", "said"),
    [(timedelta(minutes=99, seconds=40), "1 h 39 min left"), (timedelta(hours=-2), "expired 2 h ago")],
)
def test_a_url_that_dies_too_soon(
    life: timedelta, said: str, cli: Cli, start_v1: Callable[..., Service], files: str
) -> None:
    service = start_v1()
    result = cli("submit", "-", *NAMES, input=presigned(host=files, path="/a.zip", life=life))
    assert result.code == 4, result.text
    assert said in result.err
    assert "Nothing was submitted" in result.err
    assert service.jobs.describe_all() == []
    check_secrets(result, service)


@pytest.mark.parametrize("kind", KINDS)
def test_a_url_of_any_kind_has_to_live_long_enough(
    kind: str, cli: Cli, start_v1: Callable[..., Service], files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start_v1(faults=Faults(stuck=True))
    asked = service_requests(service, monkeypatch)
    short, long = minted(kind, timedelta(minutes=59, seconds=50)), minted(kind, timedelta(hours=13, seconds=50))
    refused = cli("submit", "-", *NAMES, input=short)
    assert refused.code == 4, refused.text
    assert "has 59 min left; the service needs at least 1 h 40 min" in refused.err
    assert "Mint a new one that lives longer" in refused.err
    assert asked == []
    accepted = cli("submit", "-", *NAMES, "--verbose", input=long)
    assert accepted.code == 0, accepted.text
    assert "the URL lives 13 h more" in accepted.err
    assert "does not say" not in accepted.err
    for url in (short, long):
        for result in (refused, accepted):
            assert not [one for one in secrets_of(url) if one in result.text]


def service_requests(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that the service is asked for, as they come."""
    from lora_packer.sandbox import service as module

    asked: list[str] = []
    route = module._route

    def noted(state: Any, request: Any) -> Any:
        asked.append("/".join(request.path))
        return route(state, request)

    monkeypatch.setattr(module, "_route", noted)
    return asked


def secrets_of(url: str) -> list[str]:
    """The values of a URL's query that are long enough to be one."""
    values = [value for _, value in parse_qsl(urlsplit(url).query)]
    return [value for value in (*values, *map(quote, values)) if len(value) > 12]


@pytest.mark.parametrize("command", [("submit", "-", *NAMES), ("status", "job-1"), ("wait", "job-1")])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.partition("&")[0], "cut off"),
        (lambda url: url.replace("&", "\\u0026"), "\\u0026 stands where & belongs"),
        (lambda url: url.replace("&", "&amp;"), "&amp; stands where & belongs"),
        (lambda url: url[:-9], "its X-Amz-Signature is not whole"),
        (lambda url: url.replace("&X-Amz-Expires=", "&X-Amz-Expires=x"), "its X-Amz-Expires is not a number"),
    ],
    ids=["cut", "JSON", "HTML", "short", "expiry"],
)
def test_a_url_that_was_damaged_on_its_way_is_refused_before_anything_is_sent(
    change: Callable[[str], str],
    said: str,
    command: tuple[str, ...],
    cli: Cli,
    start_v1: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    asked = service_requests(start_v1(), monkeypatch)
    url = change(presigned())
    (tmp_path / "url").write_text(url)
    given = command if command[0] == "submit" else (*command, "--url-file", str(tmp_path / "url"))
    result = cli(*given, input=url)
    assert result.code == 2, result.text
    assert f"The presigned URL is damaged: {said}" in result.err or said in result.err
    assert "Take the whole URL" in result.err
    assert_no_secret(result.text)
    assert asked == []


def test_a_url_that_does_not_say_when_it_dies(cli: Cli, start_v1: Callable[..., Service], files: str) -> None:
    service = start_v1()
    result = cli("submit", "-", *NAMES, input=f"{files}/a.zip")
    assert result.code == 0
    assert "warning: the URL does not say when it expires" in result.err
    only_job(service)


@pytest.mark.parametrize("command", [("submit", "org/repo", *NAMES), ("status", "job-1"), ("wait", "job-1")])
@pytest.mark.parametrize("key", [None, "", "key\n", "a key"])
def test_a_key_that_is_none(
    command: tuple[str, ...], key: str | None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    if key is not None:
        monkeypatch.setenv("TOGETHER_API_KEY", key)
    result = cli(*command)
    assert result.code == 2
    assert "TOGETHER_API_KEY" in result.err
    assert not key or key not in result.text


@pytest.mark.parametrize("command", ["status", "wait"])
@pytest.mark.parametrize("job", ["", "a b", "../x", "https://b.example/a.zip?X-Amz-Signature=" + SIGNATURE])
def test_a_job_that_is_no_id(command: str, job: str, cli: Cli, start_v1: Callable[..., Service]) -> None:
    start_v1()
    result = cli(command, job)
    assert result.code == 2
    assert "not a job id" in result.err
    assert_no_secret(result.text)


# ---- refused by the service


@pytest.mark.parametrize("output_format", ["text", "json"])
def test_a_taken_name(output_format: str, cli: Cli, start_v1: Callable[..., Service], files: str) -> None:
    service = start_v1()
    url = presigned(host=files, path="/a.zip")
    assert cli("submit", "-", *NAMES, input=url).code == 0
    result = cli("submit", "-", *NAMES, "--format", output_format, input=url)
    assert result.code == 5
    assert "'my-adapter' already exists" in result.err
    assert "new --model-name" in result.err
    only_job(service)
    if output_format == "json":
        error = json.loads(result.out)["error"]
        assert (error["type"], error["exit_code"]) == ("ServiceError", 5)
    else:
        assert result.out == ""
    check_secrets(result, service)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 409, 422, 429, 500, 503])
def test_refusals(status: int, cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1(faults=Faults(refuse_submit=status))
    result = cli("submit", "-", *NAMES, input=presigned())
    assert result.code == 5
    assert f"HTTP {status}" in result.err
    assert result.err.count("\n") == 4  # by which API, what is submitted, what is wrong, what next
    assert service.jobs.describe_all() == []
    check_secrets(result, service)


def test_an_unknown_base_model(cli: Cli, start_v1: Callable[..., Service]) -> None:
    start_v1()
    result = cli("submit", "org/repo", "--no-check", "--model-name", "a", "--base-model", "org/unknown")
    assert result.code == 5
    assert "warning: the service does not list org/unknown" in result.err
    assert "org/unknown is not supported" in result.err


def test_an_answer_that_is_lost(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1(faults=Faults(lose_answer=True))
    result = cli("submit", *REPO, *NAMES)
    assert result.code == 5
    assert "The job may exist: the request was not repeated" in result.err
    only_job(service)


# ---- jobs that do not end well


@pytest.mark.parametrize(
    ("path", "said", "hint"),
    [
        ("/nested.zip", "nested in the top-level directory 'x'", "lora-packer pack"),
        ("/expired.zip", "HTTP 403", "lora-packer publish"),
    ],
)
def test_a_job_that_fails(
    path: str, said: str, hint: str, cli: Cli, start_v1: Callable[..., Service], files: str
) -> None:
    service = start_v1()
    assert cli("submit", "-", *NAMES, input=presigned(host=files, path=path)).code == 0
    service.jobs.join()
    job_id = only_job(service)
    waited = cli("wait", job_id)
    assert waited.code == 5
    assert f"Job {job_id} ended as Failed" in waited.err
    assert said in waited.err
    assert hint in waited.err
    looked = cli("status", job_id)
    assert looked.code == 5
    assert said in looked.out
    as_json = cli("status", job_id, "--format", "json")
    assert as_json.code == 5
    assert json.loads(as_json.out)["job"]["status"] == "Failed"
    for result in (waited, looked, as_json):
        check_secrets(result, service)


def test_a_job_that_is_still_running_when_the_time_is_up(cli: Cli, start_v1: Callable[..., Service]) -> None:
    service = start_v1(delay=3600)
    result = cli("submit", *REPO, *NAMES, "--wait", "--timeout", "0s")
    job_id = only_job(service)
    assert result.code == 6
    assert f"Job {job_id} was still Queued" in result.err
    assert f"lora-packer wait {job_id}" in result.err
    looked = cli("status", job_id)
    assert looked.code == 0
    assert "Queued" in looked.out
    waited = cli("wait", job_id, "--timeout", "0s", "--format", "json")
    assert waited.code == 6
    assert json.loads(waited.out)["error"]["exit_code"] == 6


def test_a_job_nobody_knows(cli: Cli, start_v1: Callable[..., Service]) -> None:
    start_v1()
    for command in ("status", "wait"):
        result = cli(command, "job-none")
        assert result.code == 5
        assert "job-none" in result.err


def test_quiet_prints_results_and_errors_only(cli: Cli, start_v1: Callable[..., Service], files: str) -> None:
    service = start_v1()
    result = cli("submit", "-", *NAMES, "--quiet", input=presigned(host=files, path="/a.zip"))
    assert result.code == 0
    assert result.err == ""
    service.jobs.join()
    verbose = cli("status", only_job(service), "--verbose")
    assert "Running: downloading model_source" in verbose.out


def test_the_commands_import_nothing_heavy_before_they_run() -> None:
    code = "import sys, lora_packer.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"httpx2", "boto3", "botocore", "huggingface_hub", "numpy", "torch"} & set(done.stdout.split())
