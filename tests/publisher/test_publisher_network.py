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
from lora_packer.publisher import publish
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


def test_a_bundle_of_the_profile_that_cannot_be_read_is_said_before_anything_is_sent(
    adapter: LocalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(f"[default]\nca_bundle = {tmp_path / 'gone.pem'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with seaweedfs_with_tls() as store:
        options: dict[str, Any] = {"session": store.session(), "endpoint_url": store.url, "patience": patience()}
        with pytest.raises(InputError, match=r"The AWS profile's ca_bundle '.*gone\.pem' cannot be read: No such file"):
            publish(adapter.content, adapter.name, f"s3://{store.bucket}/x/", **options)
