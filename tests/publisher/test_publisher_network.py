"""Proxies of the environment, and whom to trust: the store and the proof of its URL agree about both."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import boto3
import pytest
from publisher_support import LocalArchive, archive, patience, prove
from s3_support import certificate, local_s3, seaweedfs_with_tls, session_for

from lora_packer.errors import InputError, PublishError
from lora_packer.publisher import presign_object, publish
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.retry import Patience
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3"]

NOBODY = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def adapter(tmp_path: Path) -> LocalArchive:
    return archive(tmp_path, 20_000)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "NO_PROXY", "SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("proxy", [NOBODY, "socks5://127.0.0.1:9", "nonsense://x"])
def test_this_machine_s_store_is_not_asked_through_a_proxy(
    proxy: str, configured: bool, local_s3: LocalS3, adapter: LocalArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, proxy)
    options: dict[str, Any] = {"session": session_for(local_s3), "endpoint_url": local_s3.endpoint_url}
    if configured:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", options.pop("endpoint_url"))
        options["session"] = boto3.Session(local_s3.access_key, local_s3.secret_key.reveal(), region_name="us-east-1")
    name = hashlib.sha256(f"{proxy}{configured}".encode()).hexdigest()[:12]
    done = publish(adapter.content, adapter.name, f"s3://{local_s3.bucket}/{name}/", patience=patience(), **options)
    assert done.object.uploaded
    assert done.proof.warnings == ()


@pytest.mark.parametrize("proxy", ["socks5://me:hunter2hunter2@127.0.0.1:9", "ftp://me:hunter2hunter2@127.0.0.1:9"])
def test_a_proxy_that_the_proof_cannot_use_is_said_before_anything_is_sent(
    proxy: str, adapter: LocalArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore does not read ALL_PROXY: it would upload, and then nobody could prove the URL."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    sent = answered(monkeypatch)
    session = boto3.Session("AKIAFAKEFAKEFAKEFAKE", "a-secret-key", region_name="us-east-1")
    with pytest.raises(InputError, match="ALL_PROXY") as caught:
        publish(adapter.content, adapter.name, "s3://bucket/x/", session=session)
    assert sent == ["HEAD"]
    assert "hunter2" not in str(caught.value)


def answered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer every request of botocore's with 200, without a network; return their methods as they come."""
    from botocore.awsrequest import AWSResponse

    sent: list[str] = []

    class Nothing:
        def stream(self, *_: object, **__: object) -> list[bytes]:
            return []

    def send(self: object, request: Any) -> AWSResponse:
        sent.append(request.method)
        return AWSResponse(request.url, 200, {}, Nothing())

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    return sent


def never(_seconds: float) -> None:
    raise AssertionError("it does not pass")


def test_whom_a_profile_trusts_the_proof_trusts_too(
    adapter: LocalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``ca_bundle`` in the AWS config file, as where TLS is inspected; and who is not trusted is not waited for."""
    config = tmp_path / "config"
    config.write_text(f"[default]\nca_bundle = {certificate()[0]}\n")
    with seaweedfs_with_tls() as store:
        with monkeypatch.context() as trusting:
            trusting.setenv("AWS_CONFIG_FILE", str(config))
            done = publish(
                adapter.content,
                adapter.name,
                f"s3://{store.bucket}/trusted/",
                session=store.session(),
                endpoint_url=store.url,
                patience=patience(),
            )
        assert done.object.uploaded
        assert done.proof.warnings == ()
        strict = Patience(sleep=never)
        strict.answered()
        with pytest.raises(PublishError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            prove(done.url, 20_000, patience=strict)
        assert "AWS_CA_BUNDLE" in (caught.value.hint or "")


def test_a_bundle_of_the_profile_that_cannot_be_read_is_named(
    local_s3: LocalS3, adapter: LocalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is asked by http, so that nothing but the proof needs it."""
    config = tmp_path / "config"
    config.write_text(f"[default]\nca_bundle = {tmp_path / 'gone.pem'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    session = boto3.Session(local_s3.access_key, local_s3.secret_key.reveal(), region_name="us-east-1")
    client = s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)
    client.put_object(Bucket=local_s3.bucket, Key="bundle/a.zip", Body=b"PK\x03\x04")
    with pytest.raises(InputError, match=r"The AWS profile's ca_bundle '.*gone\.pem' cannot be read: No such file"):
        presign_object(f"s3://{local_s3.bucket}/bundle/a.zip", session=session, endpoint_url=local_s3.endpoint_url)
