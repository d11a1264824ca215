"""The whole publisher over TLS, against a strict server and an odd one: upload, resume, presign, expired, tampered."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from publisher_support import MIB, LocalArchive, archive, connect, patience, prove, record, upload
from s3_support import Store, certificate, rclone_with_tls, seaweedfs_with_tls

from lora_packer.errors import InputError, PublishError
from lora_packer.publisher import publish
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.credentials import freeze
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.presign import presign
from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.sigv4 import backdated
from lora_packer.redact import PresignedUrl

PART = 5 * MIB


@pytest.fixture(scope="module", params=["seaweedfs", "rclone"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    with seaweedfs_with_tls() if request.param == "seaweedfs" else rclone_with_tls(folder) as running:
        yield running


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate()[0]))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LocalArchive:
    return archive(tmp_path_factory.mktemp("large"), 2 * PART + 99_999, name="large.tar.gz", seed=6)


def get(url: str) -> httpx2.Response:
    trust = ssl.create_default_context(cafile=str(certificate()[0]))
    return httpx2.get(url, headers={"Range": "bytes=0-0"}, verify=trust)


@pytest.mark.parametrize("size", [70_000, 17 * MIB])
def test_published_and_proven(size: int, store: Store, tmp_path: Path) -> None:
    ours = archive(tmp_path, size, name=f"of-{size}.zip")
    to = f"s3://{store.bucket}/published/"
    options: Any = {"session": store.session(), "endpoint_url": store.url, "journal": tmp_path / "journal"}
    done = publish(ours.content, ours.name, to, verify_full=True, **options)
    assert (done.object.uploaded, done.object.size) == (True, size)
    assert done.url.reveal().startswith("https://127.0.0.1:")
    assert any("have the archive's SHA-256" in fact for fact in done.proof.proven)
    assert done.proof.warnings == ()
    in_parts = "crc32" if store.name == "seaweedfs" else "md5"  # rclone takes a wrong one
    assert done.object.integrity == ("md5" if size < 16 * MIB else in_parts)
    assert not publish(ours.content, ours.name, to, **options).object.uploaded


def test_resumed(store: Store, large: LocalArchive, tmp_path: Path) -> None:
    client: Any = connect(store.session(), store.bucket, endpoint_url=store.url)
    place = Destination(store.bucket, "resumed/")
    key = large.key(place)
    upload_id = client.create_multipart_upload(Bucket=store.bucket, Key=key, Metadata={"sha256": large.sha256})[
        "UploadId"
    ]
    for number in (1, 3):
        data = large.data[(number - 1) * PART : number * PART]
        client.upload_part(Bucket=store.bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data)
    sent = record(client)
    connection = Connection(client, patience=patience())
    stored = upload(large, place, connection, journal=Journal(tmp_path / "journal"), part_size=PART)
    assert stored.uploaded
    assert sent.count("UploadPart") == 1
    assert "CreateMultipartUpload" not in sent
    assert client.get_object(Bucket=store.bucket, Key=key)["Body"].read() == large.data


def test_a_part_that_was_changed_on_the_way_is_refused(store: Store, large: LocalArchive) -> None:
    client: Any = connect(store.session(), store.bucket, endpoint_url=store.url)

    def spoil(params: dict[str, Any], **_: object) -> None:
        for header, wrong in (("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="), ("x-amz-checksum-crc32", "AAAAAA==")):
            if header in params["headers"]:
                params["headers"][header] = wrong

    client.meta.events.register("before-call.s3.UploadPart", spoil)
    place = Destination(store.bucket, "changed/")
    with pytest.raises(PublishError, match="BadDigest"):
        upload(large, place, Connection(client, patience=patience()), part_size=PART)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=store.bucket, Prefix=place.prefix)


def minted(store: Store, key: str) -> tuple[PresignedUrl, Any]:
    session = store.session()
    by = freeze(session)
    client = s3_client(session, endpoint_url=store.url, signer=by)
    client.put_object(Bucket=store.bucket, Key=key, Body=b"PK\x03\x04" + bytes(100))
    return presign(client, by, bucket=store.bucket, key=key, expires_in=timedelta(minutes=100)), by


def test_an_expired_url_is_refused(store: Store) -> None:
    url, by = minted(store, "expired/a.zip")
    assert get(url.reveal()).status_code == (200 if store.name == "rclone" else 206)  # rclone's way with ranges
    dead = backdated(
        url, by.secret_key, signed_at=datetime.now(UTC) - timedelta(minutes=101), lives=timedelta(minutes=100)
    )
    with pytest.raises(PublishError, match="expired" if store.name == "seaweedfs" else "HTTP 400 AccessDenied"):
        prove(dead, 104)


@pytest.mark.parametrize("part", ["signature", "key", "expiry", "more"])
def test_a_tampered_url_is_refused(part: str, store: Store) -> None:
    url = minted(store, "tampered/a.zip")[0].reveal()
    changed = {
        "signature": url[:-1] + ("0" if url[-1] != "0" else "1"),
        "key": url.replace("/a.zip", "/b.zip"),
        "expiry": url.replace("X-Amz-Expires=6000", "X-Amz-Expires=6001"),
        "more": f"{url}&more=1",
    }[part]
    assert changed != url
    with pytest.raises(PublishError, match="HTTP 403 SignatureDoesNotMatch"):
        prove(PresignedUrl(changed), 104)


def test_a_certificate_that_nobody_trusts_is_said_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with pytest.raises(PublishError, match="SSL validation failed") as caught:
        connect(store.session(), store.bucket, endpoint_url=store.url)
    assert "AWS_CA_BUNDLE" in (caught.value.hint or "")


def test_a_bundle_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(InputError, match=r"AWS_CA_BUNDLE .* cannot be read"):
        connect(store.session(), store.bucket, endpoint_url=store.url)
