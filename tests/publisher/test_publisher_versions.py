"""A versioned bucket, end to end: the URL names the version that was made, so that no overwrite changes its bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import httpx2
import pytest
from moto import mock_aws
from publisher_support import MIB, LocalArchive, answered_by, archive

from lora_packer.publisher import publish
from lora_packer.publisher.downloads import Get

BUCKET, PREFIX = "versioned-bucket", "adapters/"


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[boto3.Session]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        made = boto3.Session("AKIAFAKEFAKEFAKEFAKE", "a-secret-key", region_name="eu-central-1")
        client = made.client("s3")
        client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        for operation in ("PutObject", "UploadPart"):
            made.events.register(f"before-call.s3.{operation}", plain_bytes)
        yield made


def plain_bytes(params: dict[str, Any], **_: object) -> None:
    """The mocked store takes no bytearray, as a socket does."""
    params["body"] = bytes(params["body"])


def store(client: Any) -> Get:
    """What the presigned URL of the mocked store gives."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        parts = urlsplit(str(request.url))
        query = parse_qs(parts.query)
        version = {"VersionId": query["versionId"][0]} if "versionId" in query else {}
        body = client.get_object(Bucket=BUCKET, Key=unquote(parts.path).removeprefix("/"), **version)["Body"].read()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
        if asked is None:
            return httpx2.Response(200, content=body)
        first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return httpx2.Response(206, content=body[first : last + 1], headers=headers)

    return answered_by(answer)


@pytest.fixture(params=[10_000, 17 * MIB], ids=["one request", "parts"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> LocalArchive:
    return archive(tmp_path, request.param)


def test_the_url_names_its_version(session: boto3.Session, adapter: LocalArchive) -> None:
    client = session.client("s3")
    options: Any = {"session": session, "get": store(client), "verify_full": True}
    first = publish(adapter.content, adapter.name, f"s3://{BUCKET}/{PREFIX}", **options)
    assert first.object.uploaded
    assert first.object.version_id
    assert parse_qs(urlsplit(first.url.reveal()).query)["versionId"] == [first.object.version_id]
    again = publish(adapter.content, adapter.name, f"s3://{BUCKET}/{PREFIX}", **options)
    assert (again.object.uploaded, again.object.version_id) == (False, first.object.version_id)

    # Removed, its name is free: what is sent then is another version, and the first URL is of the first.
    client.delete_object(Bucket=BUCKET, Key=first.object.key)
    third = publish(adapter.content, adapter.name, f"s3://{BUCKET}/{PREFIX}", **options)
    assert third.object.uploaded
    assert third.object.version_id not in (None, first.object.version_id)
