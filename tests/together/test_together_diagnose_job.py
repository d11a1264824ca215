"""Why a job stands still: the presigned URL is tried, the archive opened; told by `wait`, `status` and `release`."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import TINY, TINY_BASE, tiny_config, write_adapter
from packager_support import then_change
from together_support import FILES, SECRETS, assert_no_secret, presigned, serving_folder, tar_of, zip_of

from lora_packer.pipeline import from_disk
from lora_packer.redact import PresignedUrl
from lora_packer.sandbox import Sandbox
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service
from lora_packer.together import LocalFiles, uploads, why_it_stands_still

Cli = Callable[..., Any]
URL = PresignedUrl(presigned())
CONFIG = FILES["adapter_config.json"]
LARGE = bytes(range(256)) * 2000  # more than is fetched of an archive's beginning
NOISE = b"".join(bytes([(i * i * 7 + i // 3) % 251]) for i in range(400_000))


def tried(data: bytes) -> tuple[str, int]:
    """What is told of an archive behind the URL, and how many bytes of it were fetched."""
    fetched = 0

    def handler(request: httpx2.Request) -> httpx2.Response:
        nonlocal fetched
        assert "authorization" not in request.headers
        begin, _, end = request.headers["range"].removeprefix("bytes=").partition("-")
        part = data[int(begin) : int(end) + 1]
        fetched += len(part)
        return httpx2.Response(206, content=iter([part]), headers={"content-range": f"bytes {begin}-{end}/{len(data)}"})

    told = why_it_stands_still(URL, transport=httpx2.MockTransport(handler))
    assert_no_secret(told)
    return told, fetched


DOTTED = {f"./{name}": data for name, data in FILES.items()}
NESTED = {f"x/{name}": data for name, data in FILES.items()}
LATE = {"adapter_model.safetensors": NOISE, "adapter_config.json": CONFIG}
ARCHIVES = {
    "zip": (zip_of(FILES), "alive and the archive opens, so the service may be slow"),
    "dotted zip": (zip_of(DOTTED), "the archive opens"),
    "zip with more": (zip_of({**FILES, "big": LARGE}), "the archive opens"),
    "tar.gz": (tar_of(FILES), "the archive opens"),
    "dotted tar.gz": (tar_of(DOTTED), "the archive opens"),
    "tar.gz with the config last": (tar_of(LATE), "the archive opens"),
    "nested zip": (zip_of(NESTED), "has no adapter_config.json and no adapter_model"),
    "half a tar.gz": (tar_of({"adapter_config.json": CONFIG}), "has no adapter_model.safetensors at its root"),
    "cut zip": (zip_of(FILES)[:-30], "does not open: File is not a zip file"),
    "cut tar.gz": (tar_of(FILES)[:-30], "does not open"),
    "gzip of no tar": (gzip.compress(b"hello"), "does not open"),
    "HTML": (b"<html>", "does not open: it is neither a .zip nor a .tar.gz"),
    "text": (b"x" * 100_000, "neither a .zip nor a .tar.gz"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_behind_a_url_that_is_alive(kind: str) -> None:
    data, said = ARCHIVES[kind]
    told, _ = tried(data)
    assert told.startswith("The service accepts the key. The presigned URL is alive")
    assert said in told


def test_the_weights_are_not_fetched() -> None:
    large = zip_of({"adapter_config.json": CONFIG, "adapter_model.safetensors": NOISE * 5})
    told, fetched = tried(large)
    assert "the archive opens" in told
    assert fetched < 2**18 < len(large)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", "403 (AccessDenied)"),
        (403, b"", "dead: a GET of it answers HTTP 403."),
        (404, b"<Error><Code>NoSuchKey</Code></Error>", "404 (NoSuchKey)"),
        (503, b"<Code>\x1b[2J</Code>", "HTTP 503."),
        (307, b"", "HTTP 307"),
        (200, b"PK", "does not answer ranges"),
    ],
)
def test_answers_of_the_store(status: int, body: bytes, said: str) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, content=iter([body])))
    told = why_it_stands_still(URL, transport=transport)
    assert said in told
    assert ("mints a new URL" in told) == ("dead" in told)


@pytest.mark.parametrize("trouble", [httpx2.ConnectError(str(SECRETS)), httpx2.ReadTimeout(""), httpx2.ReadError("")])
def test_a_store_that_cannot_be_reached_from_here_proves_nothing(trouble: Exception) -> None:
    def handler(_: httpx2.Request) -> httpx2.Response:
        raise trouble

    told = why_it_stands_still(URL, transport=httpx2.MockTransport(handler))
    assert f"cannot be told: a GET of it ended in {type(trouble).__name__}" in told
    assert_no_secret(told)


@pytest.mark.parametrize(
    ("good_until", "said"),
    [
        ("2026-01-02T03:00:00+00:00", "expired 1 h 5 min ago"),
        ("2026-01-02T06:05:00+00:00", "good for 2 h more"),
        ("2026-01-02T06:05:00", "good for 2 h more"),  # without a zone it is UTC
        ("soon", "Most often it cannot read the source"),
        (None, "--url-file tries it"),
    ],
)
def test_what_a_receipt_tells_where_the_url_is_not_at_hand(good_until: str | None, said: str) -> None:
    told = why_it_stands_still(None, good_until, datetime(2026, 1, 2, 4, 5, tzinfo=UTC))
    assert told.startswith("The service accepts the key. ")
    assert said in told


def test_files_that_were_sent_leave_nothing_to_read() -> None:
    assert "may be slow" in why_it_stands_still(LocalFiles(()))


# --- on the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service whose jobs stand still, and a patience that ends at once."""
    monkeypatch.setattr(uploads, "STALE_AFTER", timedelta(0))
    with Service(delay=0, faults=Faults.named("stuck")) as service:
        monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
        yield service


@pytest.mark.parametrize(
    ("path", "said"), [("/expired.zip", "dead: a GET of it answers HTTP 403"), ("/a.zip", "alive")]
)
@pytest.mark.parametrize("api", ["v1", "v2"])
def test_the_commands_try_the_url(api: str, path: str, said: str, cli: Cli, stuck: Service, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    with serving_folder(tmp_path) as address:
        url = presigned(host=address, path=path)
        names = ["--model-name", "my-adapter", "--base-model", "tiny/llama", "--api", api]
        waited = cli("submit", "-", *names, "--wait", "--timeout", "0s", input=url)
        assert waited.code == 6, waited.text
        assert said in waited.err
        (job,) = (stuck.jobs if api == "v1" else stuck.imports).records()
        (tmp_path / "url").write_text(url)
        for command, code in (("status", 0), ("wait", 6)):
            more = ["--timeout", "0s"] if command == "wait" else []
            looked = cli(command, job.id, "--api", api, "--url-file", tmp_path / "url", *more)
            assert looked.code == code, looked.text
            assert said in looked.err
        without = cli("wait", job.id, "--api", api, "--timeout", "0s")
        assert "--url-file tries it" in without.err


def test_a_release_tries_the_url_that_it_minted(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uploads, "STALE_AFTER", timedelta(0))
    monkeypatch.chdir(tmp_path)
    with Sandbox(delay=0, faults=Faults.named("stuck")) as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        arguments = [
            "release", TINY, "--base-config", TINY_BASE, "--model-name", "still", "--base-model", "tiny/llama",
            "--to", sandbox.destination, "--timeout", "0s",
        ]  # fmt: skip
        result = cli(*arguments)
        assert result.code == 6, result.text
        assert "The presigned URL is alive and the archive opens" in result.err
        again = cli(*arguments)
        assert "The presigned URL is good for 11 h" in again.err or "good for 12 h" in again.err


# --- sent directly ---------------------------------------------------------------------------------------------------


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Service]:
    monkeypatch.chdir(tmp_path)
    with Service(delay=0) as service:
        monkeypatch.setenv("TOGETHER_API_KEY", service.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", service.base_url)
        yield service


DIRECT = ["--base-config", TINY_BASE, "--model-name", "mine", "--base-model", "tiny/llama", "--api", "v2", "--direct"]


def test_a_folder_is_released_without_a_bucket(cli: Cli, service: Service) -> None:
    first = cli("release", TINY, *DIRECT, "--deploy", "--ask", "Is it you?")
    assert first.code == 0, first.text
    assert "status   Complete" in first.out
    assert "answer   The sandbox answers for devuser/mine" in first.out
    assert "presign" not in first.err
    (model,) = service.models
    again = cli("release", TINY, *DIRECT, "--deploy", "--ask", "Is it you?")
    assert again.out == first.out
    assert len(service.direct.revisions(model)) == 1
    assert "Complete" in cli("status", model, "--api", "v2").out
    assert cli("wait", model, "--api", "v2").code == 0


def test_a_folder_is_sent_directly_to_a_sandbox_of_its_own(cli: Cli) -> None:
    result = cli("release", TINY, *DIRECT, "--sandbox")
    assert result.code == 0, result.text
    assert "status   Complete" in result.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--to", "s3://bucket/x/"], "neither --to nor a Hub repo"),
        (["--api", "v1"], "only through version 2"),
    ],
)
def test_what_cannot_be_sent_directly(change: list[str], said: str, cli: Cli, service: Service) -> None:
    result = cli("release", TINY, *DIRECT, *change)
    assert result.code == 2
    assert said in result.err
    assert service.models == {}


@pytest.mark.parametrize("adapter", ["hf://org/repo", "a.zip"])
def test_only_a_folder_can_be_sent_directly(adapter: str, cli: Cli, service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    result = cli("release", adapter, *DIRECT)
    assert result.code == 2
    assert "--direct" in result.err or "Only a folder" in result.err
    assert service.models == {}


def test_what_fails_its_check_is_not_sent(cli: Cli, service: Service) -> None:
    broken = TINY.parent.parent / "broken" / "nan"
    assert cli("release", broken, *DIRECT).code == 1
    assert service.models == {}


@pytest.mark.parametrize("in_secret", [False, True])
@pytest.mark.parametrize("more", [(), ("--no-check",)])
def test_a_folder_that_changes_after_its_check_is_not_sent(
    cli: Cli, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], in_secret: bool
) -> None:
    weights = write_adapter(tmp_path / "mine", None, tiny_config()) / "adapter_model.safetensors"
    monkeypatch.setattr(from_disk, "run_check", then_change(from_disk.run_check, weights, in_secret=in_secret))
    arguments = ["release", weights.parent, *DIRECT, "--receipt", "mine.json", *more]
    refused = cli(*arguments)
    assert refused.code == 4, refused.text
    assert "not the file that was checked" in refused.err or "changed while it was being packed" in refused.err
    assert [service.direct.revisions(model) for model in service.models] == [[]]


def test_what_changed_on_the_way_is_sent_by_the_next_run(
    cli: Cli, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = write_adapter(tmp_path / "mine", None, tiny_config()) / "adapter_model.safetensors"
    arguments = ["release", weights.parent, *DIRECT, "--receipt", "mine.json"]
    with monkeypatch.context() as patch:
        patch.setattr(from_disk, "run_check", then_change(from_disk.run_check, weights))
        assert cli(*arguments).code == 4
    again = cli(*arguments)
    assert again.code == 0, again.text
    receipt = json.loads(Path("mine.json").read_text())
    assert receipt["adapter"]["sha256"][weights.name] == hashlib.sha256(weights.read_bytes()).hexdigest()
