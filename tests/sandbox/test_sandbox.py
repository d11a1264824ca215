"""The whole sandbox: a real S3 and the service side by side, as a context manager and as a command."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from together_support import BASE_MODEL, FILES, submission, zip_of

from lora_packer.errors import JobFailedError, SandboxError
from lora_packer.sandbox import Sandbox
from lora_packer.sandbox.s3 import LocalS3
from lora_packer.together import Client, parse_presigned, v1, wait_for_job


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as running:
        yield running


def presign(environment: dict[str, str], bucket: str, key: str, data: bytes, seconds: int = 43_200) -> str:
    """Upload an object and return a presigned URL for it, with boto3 as the environment configures it."""
    import boto3
    from botocore.config import Config

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        style: Any = {"addressing_style": "path"}
        client = boto3.session.Session().client("s3", config=Config(signature_version="s3v4", s3=style))
        client.put_object(Bucket=bucket, Key=key, Body=data)
        return client.generate_presigned_url("get_object", {"Bucket": bucket, "Key": key}, ExpiresIn=seconds)


def test_from_upload_to_complete(sandbox: Sandbox) -> None:
    environment = sandbox.environment()
    url = presign(environment, sandbox.s3.bucket, "adapters/a.zip", zip_of(FILES))
    with Client.from_environment(environment) as client:
        assert client.is_loopback
        source = parse_presigned(url, allow_loopback=True)
        job = v1.submit(client, submission(source=source))
        sandbox.service.jobs.join()
        job = wait_for_job(v1, client, job.id, timeout=timedelta(0), on_change=lambda _: None)
    assert job.model_name == "devuser/my-adapter"


def test_a_changed_signature_fails_the_job(sandbox: Sandbox) -> None:
    url = presign(sandbox.environment(), sandbox.s3.bucket, "adapters/b.zip", zip_of(FILES))
    changed = url[:-1] + ("0" if url[-1] != "0" else "1")
    with Client.from_environment(sandbox.environment()) as client:
        source = parse_presigned(changed, allow_loopback=True)
        job = v1.submit(client, submission(source=source, model_name="changed"))
        sandbox.service.jobs.join()
        with pytest.raises(JobFailedError, match="could not download model_source: HTTP 403"):
            wait_for_job(v1, client, job.id, timeout=timedelta(0), on_change=lambda _: None)


def test_the_environment_leaves_nothing_of_the_callers(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of a session in the caller's shell do not mix with the sandbox's keys."""
    from botocore.session import Session

    for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        monkeypatch.setenv(name, "stale")
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2001-01-01T00:00:00Z")
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    credentials = Session().get_credentials()
    assert credentials is not None
    assert credentials.access_key == sandbox.s3.access_key
    assert credentials.token is None


def test_destination_and_base_models(sandbox: Sandbox) -> None:
    assert sandbox.destination == f"s3://{sandbox.s3.bucket}/adapters/"
    assert BASE_MODEL in sandbox.base_models


def test_where_the_s3_does_not_start_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: LocalS3) -> LocalS3:
        raise SandboxError("no S3 here", hint="install it")

    monkeypatch.setattr(LocalS3, "__enter__", fail)
    box = Sandbox()
    with pytest.raises(SandboxError), box:
        pytest.fail("it started")
    assert box.service.base_url == ""


# ---- the command


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_packer", "sandbox", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        watchdog.cancel()


def read_until(stream: Any, found: Callable[[str], bool]) -> list[str]:
    lines = []
    for line in stream:
        lines.append(line)
        if found(line):
            return lines
    raise AssertionError(f"ended early: {lines}")


def exported(lines: list[str]) -> dict[str, str]:
    """What a shell would export."""
    environment = {}
    for line in lines:
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            environment[name] = value
    return environment


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_the_exports_and_stops_on_a_signal(number: signal.Signals) -> None:
    with running("--base-model", "org/mine", "--fail", "refuse-429") as process:
        told = read_until(process.stderr, lambda line: "Ctrl-C stops it" in line)
        assert "s3://sandbox/adapters/" in told[-1]
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert "stops" in err
        assert "Traceback" not in err
    environment = exported(out.splitlines())
    assert environment["TOGETHER_BASE_URL"].startswith("http://127.0.0.1:")
    assert environment["TOGETHER_API_KEY"]
    assert environment["AWS_ENDPOINT_URL_S3"].startswith("http://127.0.0.1:")
    assert all(line.startswith("export ") for line in out.splitlines())


def test_the_env_file_is_private_and_goes_with_the_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "sand box.env"
    path.touch(0o644)  # as mktemp leaves one; an empty file is nobody's
    with running("--env-file", path) as process:
        (line,) = read_until(process.stdout, lambda line: line.startswith(". "))
        assert shlex.split(line) == [".", str(path)]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        environment = exported(path.read_text().splitlines())
        assert os.listdir(tmp_path) == [path.name]
        shell = subprocess.run(
            ["sh", "-c", f'{line}printf %s "$TOGETHER_API_KEY"'], capture_output=True, text=True, check=True
        )
        assert shell.stdout == environment["TOGETHER_API_KEY"]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        assert process.returncode == 0
        assert environment["TOGETHER_API_KEY"] not in line + err
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fail", "nothing"), "'nothing' is not a way to fail"),
        (("--env-file", "theirs.env"), "was not written by this command"),
        (("--env-file", "."), "it is a folder"),
    ],
)
def test_options_that_are_refused_before_anything_starts(
    arguments: tuple[str, ...], said: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("theirs.env").write_text("SECRET=1\n")
    result = cli("sandbox", *arguments)
    assert result.code == 2
    assert said in result.err
    assert result.out == ""
    assert Path("theirs.env").read_text() == "SECRET=1\n"
