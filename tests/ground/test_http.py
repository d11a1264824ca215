"""One way to make an HTTP client: proxies, trust, and no query in a log."""

from __future__ import annotations

import logging
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

import lora_packer
from lora_packer import http
from lora_packer.sandbox.loopback import LoopbackHandler, LoopbackServer

SIGNED = "X-Amz-Credential=AKIAEXAMPLE&X-Amz-Signature=ab12ab12"
BUNDLES = ("aws_ca_bundle", "requests_ca_bundle")
PASSWORD = "hunter2hunter2"


class Redirecting(LoopbackHandler):
    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", f"https://cdn.example.com/b?{SIGNED}")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_proxy", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir", *BUNDLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY", "http_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        f"ftp://me:{PASSWORD}@127.0.0.1:1",
        f"socks4://me:{PASSWORD}@127.0.0.1:1",
        f"http://me:{PASSWORD}@[::1",
        f"http://me:{PASSWORD}@host:port",
        f"http://me:{PASSWORD}@\x01",
        "::::",
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_sentence(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "other.example.com")
    monkeypatch.setenv(variable, value)
    with pytest.raises(lora_packer.InputError, match=f"^{variable} is not the address of a proxy") as caught:
        http.connect("https://api.example.com", timeout=1)
    assert PASSWORD not in str(caught.value)
    http.connect("http://127.0.0.1:1", timeout=1).close()


def test_a_socks_proxy_without_its_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", f"socks5://me:{PASSWORD}@127.0.0.1:1")
    with pytest.raises(lora_packer.InputError, match=r"^ALL_PROXY is a SOCKS proxy.*socksio") as caught:
        http.connect("https://api.example.com", timeout=1)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/nonexistent", "No such file or directory"), ("empty", "holds no certificate"), ("", "Is a directory")],
)
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "ca_bundle"])
def test_authorities_that_cannot_be_read_are_a_sentence(
    path: str, reason: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").touch()
    bundle = str(tmp_path / path)
    if variable != "ca_bundle":
        monkeypatch.setenv(variable, bundle)
    with pytest.raises(lora_packer.InputError, match=reason) as caught:
        http.connect("https://api.example.com", timeout=1, bundle=None if variable == "SSL_CERT_FILE" else bundle)
    name = "The AWS profile's ca_bundle" if variable == "ca_bundle" else variable
    assert caught.value.message.startswith(f"{name} '{bundle}' cannot be read: ")


@pytest.mark.parametrize(
    ("environment", "of_profile", "expected"),
    [
        ({}, None, None),
        ({"REQUESTS_CA_BUNDLE": "r"}, None, "r"),
        ({"REQUESTS_CA_BUNDLE": "r"}, "p", "p"),
        ({"REQUESTS_CA_BUNDLE": "r", "AWS_CA_BUNDLE": "a"}, "p", "a"),
        ({"AWS_CA_BUNDLE": ""}, "p", "p"),
    ],
)
def test_whom_botocore_trusts(
    environment: dict[str, str], of_profile: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert http.aws_bundle(of_profile) == expected


def test_another_setting_is_another_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = http.trust()
    assert http.trust() is usual
    certificates = usual.get_ca_certs(binary_form=True)
    if not certificates:
        pytest.skip("this machine trusts nobody")
    one = tmp_path / "one.pem"
    one.write_text(ssl.DER_cert_to_PEM_cert(certificates[0]))
    monkeypatch.setenv("SSL_CERT_FILE", str(one))
    assert http.trust().get_ca_certs(binary_form=True) == certificates[:1]
    assert http.trust(str(one)) is not usual


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://localhost:1/x", "http://[::1]:1/x"])
def test_this_machine_is_not_asked_through_a_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:1")
    with http.connect(url, timeout=1) as client, pytest.raises(httpx2.ConnectError, match=r"refused|assign"):
        client.get(url)


def test_a_query_reaches_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(request: httpx2.Request) -> httpx2.Response:
        location = f"https://cdn.example.com/b?{SIGNED}"
        return (
            httpx2.Response(302, headers={"location": location}) if request.url.path == "/a" else httpx2.Response(200)
        )

    transport = httpx2.MockTransport(answer)
    for _ in range(2):
        with http.connect("https://x.example.com", timeout=1, transport=transport, follow_redirects=True) as client:
            client.get(f"https://x.example.com/a?{SIGNED}")
    messages = [record.getMessage() for record in caplog.records if record.name == "httpx2"]
    assert messages[:2] == [
        'HTTP Request: GET https://x.example.com/a?*** "HTTP/1.1 302 Found"',
        'HTTP Request: GET https://cdn.example.com/b?*** "HTTP/1.1 200 OK"',
    ]
    assert "AKIAEXAMPLE" not in caplog.text
    assert len(logging.getLogger("httpx2").filters) == 1


def test_nor_does_a_redirect_that_was_answered(caplog: pytest.LogCaptureFixture) -> None:
    """What connections tell at DEBUG has the headers of the answer."""
    caplog.set_level(logging.DEBUG)
    server = LoopbackServer(Redirecting, "store")
    server.start()
    try:
        with http.connect(server.address, timeout=10) as client:
            assert client.get(f"{server.address}/a?{SIGNED}").headers["location"].endswith(SIGNED)
    finally:
        server.stop()
    assert "cdn.example.com" in caplog.text
    assert "AKIAEXAMPLE" not in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx2.ConnectError("[Errno 111] Connection refused"), True),
        (httpx2.ReadTimeout("timed out"), True),
        (httpx2.RemoteProtocolError("cut short"), True),
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), False),
        (httpx2.InvalidURL("bad"), False),
        (httpx2.UnsupportedProtocol("ftp"), False),
        (httpx2.ProxyError("407 Proxy Authentication Required"), False),
    ],
)
def test_what_may_pass(error: Exception, expected: bool) -> None:
    assert http.may_pass(error) is expected


def test_it_imports_nothing_heavy() -> None:
    program = (
        "import sys, lora_packer.http, lora_packer.files; print(*{'httpx2', 'filelock', 'boto3'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
