"""The sandbox with its Hub: the environment that it hands out, and nothing of the caller's in its place."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from builders import TINY, TINY_BASE

from lora_packer.hub import Hub, HubRepo
from lora_packer.sandbox import Sandbox

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(delay=0) as started:
        yield started


@pytest.fixture(params=["missing", "there"])
def profile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The caller has a profile in use: one that is nowhere, or one that leads elsewhere."""
    config = tmp_path / "config"
    if request.param == "there":
        config.write_text(
            "[profile work]\nregion = eu-west-1\nendpoint_url = https://s3.example\naws_access_key_id = theirs\n"
            "aws_secret_access_key = theirs\n"
        )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "work")


def test_the_environment_takes_the_place_of_the_callers_profile(
    sandbox: Sandbox, profile: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.Session().client("s3")
    assert client.meta.endpoint_url == sandbox.environment()["AWS_ENDPOINT_URL_S3"]
    assert [item["Name"] for item in client.list_buckets()["Buckets"]] == [sandbox.s3.bucket]


def test_its_session_does_too(sandbox: Sandbox, profile: None) -> None:
    client = sandbox.session().client("s3", endpoint_url=sandbox.environment()["AWS_ENDPOINT_URL_S3"])
    assert [item["Name"] for item in client.list_buckets()["Buckets"]] == [sandbox.s3.bucket]


def test_release_sandbox_with_a_profile_in_use(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "work")
    names = ("--base-config", TINY_BASE, "--model-name", "x", "--base-model", "tiny/llama")
    result = cli("release", TINY, *names, "--sandbox")
    assert result.code == 0, result.text


def test_the_environment_leads_to_its_hub(sandbox: Sandbox) -> None:
    commit = sandbox.hub.add("me/mine", TINY, access="private")
    with Hub.from_environment(sandbox.environment()) as hub:
        assert hub.endpoint == sandbox.hub.endpoint
        assert hub.snapshot(HubRepo("me/mine")).commit == commit


def test_the_command_serves_folders(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_packer", "sandbox", "--hub", f"me/mine={TINY}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "Its Hub has hf://me/mine." in process.stderr.readline()
        exports = {}
        while not {"HF_ENDPOINT", "HF_TOKEN", "AWS_CREDENTIAL_EXPIRATION"} <= exports.keys():
            name, _, value = process.stdout.readline().removeprefix("export ").strip().partition("=")
            exports[name] = value
        monkeypatch.setenv("HF_ENDPOINT", exports["HF_ENDPOINT"])
        assert cli("check", "hf://me/mine", "--base-config", TINY_BASE).code == 0
    finally:
        process.terminate()
        process.communicate()
        watchdog.cancel()


@pytest.mark.parametrize("text", ["me/mine", "me/mine=nowhere", "mine=.", "=."])
def test_a_folder_to_serve_that_is_none(cli: Cli, text: str) -> None:
    result = cli("sandbox", "--hub", text)
    assert result.code == 2
    assert "Traceback" not in result.err
