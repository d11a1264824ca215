"""Credentials of the environment: held to a form, never shown, and never told to a proxy by way of loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE

from lora_packer.cli.ends import print_result
from lora_packer.redact import MASK, fit
from lora_packer.sandbox import Sandbox

Cli = Callable[..., Any]
CANARY = "CanaryCanaryCanaryCanary00"
FORMS = ("{}\n", "{}\r\nX-Evil: 1", " {}", "{} ", "{} {}", "'{}'", '"{}"', "{}\t", "{}é", "{}\x1b[31m", "{}‮", "`{}`")
PUBLISH = ("publish", str(TINY), "--base-config", str(TINY_BASE), "--to", "s3://bucket/p/")
ASKED = {
    "TOGETHER_API_KEY": ("status", "job-1"),
    "HF_TOKEN": ("check", "hf://org/repo"),
    "AWS_ACCESS_KEY_ID": PUBLISH,
    "AWS_SECRET_ACCESS_KEY": PUBLISH,
    "AWS_SESSION_TOKEN": PUBLISH,
}


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Good credentials, and nobody who answers."""
    for name in ("TOGETHER_BASE_URL", "HF_ENDPOINT", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("TOGETHER_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "plainplain")


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variable", ASKED)
@pytest.mark.parametrize("text", ["text", "json"])
def test_a_credential_has_a_form(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, variable: str, form: str, text: str
) -> None:
    monkeypatch.setenv(variable, form.replace("{}", CANARY))
    result = cli(*ASKED[variable], "--format", text)
    assert result.code == 2, result.text
    assert variable in result.text
    assert CANARY not in result.text


@pytest.mark.usefixtures("dead")
@pytest.mark.parametrize("value", [f"{CANARY}/x", f"{CANARY},x", f"{CANARY}=x", f"<{CANARY}>"])
def test_a_key_id_is_letters_and_digits(cli: Cli, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", value)
    result = cli(*PUBLISH)
    assert (result.code, "AWS_ACCESS_KEY_ID" in result.err, CANARY in result.text) == (2, True, False)


def test_a_key_of_a_profile_is_held_to_it_too(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(f"[odd]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {CANARY} é\n", encoding="utf-8")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "odd")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    result = cli(*PUBLISH, "--endpoint-url", "http://127.0.0.1:1")
    assert (result.code, "white space or an unprintable" in result.err, CANARY in result.text) == (4, True, False)


def test_a_value_is_masked_however_it_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", f"'{CANARY}'\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", f"session{CANARY}")
    assert fit(f"x {CANARY} y session{CANARY}") == f"x {MASK} y session{MASK}"
    print_result(json.dumps({"a": f"at {CANARY}."}))
    assert capsys.readouterr().out == f'{{"a": "at {MASK}."}}\n'


class Proxy:
    """A listener that must see nothing."""

    def __init__(self) -> None:
        self.seen = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://user:{CANARY}@127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.seen += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    found = Proxy()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, found.url)
        monkeypatch.setenv(name.lower(), found.url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield found
    found.close()


def test_loopback_is_never_reached_through_a_proxy(
    cli: Cli, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with Sandbox(delay=0.01) as sandbox:
        sandbox.hub.add("me/mine", TINY)
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        names = ("--base-config", TINY_BASE, "--model-name", "m", "--base-model", "tiny/llama")
        for command in (
            ("check", "hf://me/mine", "--base-config", TINY_BASE),
            ("publish", TINY, "--base-config", TINY_BASE, "--to", sandbox.destination, "--verify", "full"),
            ("release", TINY, *names, "--to", sandbox.destination, "--deploy", "--ask", "Well?"),
            ("models",),
        ):
            result = cli(*command, "--verbose")
            assert result.code == 0, result.text
            assert "proxy     https through http://127.0.0.1:" in result.err
            assert CANARY not in result.text
    assert proxy.seen == 0
