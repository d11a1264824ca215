"""CRC-32 of parts and of the whole object: used where the store was seen to refuse a wrong one, and said in the proof."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from publisher_support import MIB, LocalArchive, archive, connection, record, upload
from s3_support import local_s3, session_for

from lora_packer.errors import PublishError
from lora_packer.publisher import publish
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.stored import StoredObject, encode_crc32
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3"]

PART = 5 * MIB
PARTS = 3
CRC32 = "x-amz-checksum-crc32"


@pytest.fixture
def client(local_s3: LocalS3) -> Any:
    return s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)


@pytest.fixture
def place(local_s3: LocalS3, request: pytest.FixtureRequest) -> Destination:
    return Destination(local_s3.bucket, f"{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LocalArchive:
    return archive(tmp_path_factory.mktemp("checksums"), 2 * PART + 12_345, name="large.zip", seed=8)


def send(what: LocalArchive, place: Destination, client: Any) -> StoredObject:
    return upload(what, place, connection(client), part_size=PART)


def headers(client: Any) -> list[tuple[str, dict[str, str]]]:
    """The headers of each request that is made from now on, by its operation."""
    sent: list[tuple[str, dict[str, str]]] = []

    def note(model: Any, params: dict[str, Any], **_: object) -> None:
        sent.append((model.name, dict(params["headers"])))

    client.meta.events.register("before-call.s3", note)
    return sent


def change(client: Any, operation: str, into: Callable[[dict[str, str]], Any]) -> None:
    """Change an operation's headers on their way."""

    def changed(params: dict[str, Any], **_: object) -> None:
        into(params["headers"])

    client.meta.events.register(f"before-call.s3.{operation}", changed)


def refuse(client: Any, operation: str, status: int, code: str) -> None:
    """Refuse what has a header about checksums, as a store does that does not know them."""

    def raise_it(params: dict[str, Any], **_: object) -> None:
        if any(name.lower().startswith("x-amz-checksum") for name in params["headers"]):
            answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, operation)

    client.meta.events.register(f"before-call.s3.{operation}", raise_it)


def clean_and_complete(client: Any, place: Destination, what: LocalArchive) -> None:
    assert "Uploads" not in client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)
    body = client.get_object(Bucket=place.bucket, Key=what.key(place))["Body"].read()
    assert hashlib.sha256(body).hexdigest() == what.sha256


def test_a_store_that_refuses_a_wrong_one_guards_every_part_and_the_whole(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    sent = headers(client)
    assert send(large, place, client).integrity == "crc32"
    of = {name: [given for operation, given in sent if operation == name] for name, _ in sent}
    (create,), (complete,) = of["CreateMultipartUpload"], of["CompleteMultipartUpload"]
    assert (create["x-amz-checksum-algorithm"], create["x-amz-checksum-type"]) == ("CRC32", "FULL_OBJECT")
    first, *parts = of["UploadPart"]
    cut = [large.data[at : at + PART] for at in range(0, len(large.data), PART)]
    assert sorted(part[CRC32] for part in parts) == sorted(encode_crc32(zlib.crc32(data)) for data in cut)
    assert first[CRC32] != encode_crc32(zlib.crc32(b"\0"))
    assert not any("Content-MD5" in part for part in parts)
    assert complete[CRC32] == encode_crc32(zlib.crc32(large.data))
    assert complete["x-amz-mp-object-size"] == str(len(large.data))
    looked = client.head_object(Bucket=place.bucket, Key=large.key(place), ChecksumMode="ENABLED")
    assert (looked["ChecksumCRC32"], looked["ChecksumType"]) == (complete[CRC32], "FULL_OBJECT")
    clean_and_complete(client, place, large)


def test_a_part_with_a_wrong_one_is_an_error_and_leaves_nothing(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    change(client, "UploadPart", lambda given: given.update({CRC32: "AAAAAA=="}))
    with pytest.raises(PublishError, match=r"UploadPart on s3://.* HTTP 400 BadDigest") as caught:
        send(large, place, client)
    assert caught.value.exit_code == 4
    assert "Uploads" not in client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["KeyCount"] == 0


def test_a_store_that_takes_a_wrong_one_gets_md5_and_is_not_believed(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    change(client, "UploadPart", lambda given: given.pop(CRC32, None))  # as good as one that does not look
    sent = headers(client)
    assert send(large, place, client).integrity == "md5"
    names = [name for name, _ in sent]
    assert names.count("CreateMultipartUpload") == 2
    assert names.count("AbortMultipartUpload") == 1
    guards = [given for name, given in sent if name in ("UploadPart", "CompleteMultipartUpload")][1:]
    assert [CRC32 in given for given in guards] == [False] * (PARTS + 1)
    assert ["Content-MD5" in given for given in guards] == [True] * PARTS + [False]
    clean_and_complete(client, place, large)


@pytest.mark.parametrize(
    ("status", "code"), [(400, "InvalidArgument"), (400, "InvalidRequest"), (501, "NotImplemented")]
)
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_a_store_that_does_not_know_them_gets_md5(
    operation: str, status: int, code: str, client: Any, place: Destination, large: LocalArchive
) -> None:
    refuse(client, operation, status, code)
    assert send(large, place, client).integrity == "md5"
    clean_and_complete(client, place, large)


def test_the_whole_refused_means_it_is_sent_again_with_md5(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    change(
        client, "CompleteMultipartUpload", lambda given: given.update({CRC32: "AAAAAA=="}) if CRC32 in given else None
    )
    sent = record(client)
    assert send(large, place, client).integrity == "md5"
    assert sent.count("CompleteMultipartUpload") == 2
    clean_and_complete(client, place, large)


def test_a_whole_that_comes_back_as_another_does_not_stay(client: Any, place: Destination, large: LocalArchive) -> None:
    def other(parsed: dict[str, Any], **_: object) -> None:
        if "ChecksumCRC32" in parsed:
            parsed["ChecksumCRC32"] = "AAAAAA=="

    client.meta.events.register("after-call.s3.HeadObject", other)
    with pytest.raises(PublishError, match=r"their CRC-32 differs\); the object was removed"):
        send(large, place, client)
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["KeyCount"] == 0


@pytest.mark.parametrize("told", ["nothing", "composite"])
def test_a_store_that_does_not_tell_the_whole_proves_the_parts(
    told: str, client: Any, place: Destination, large: LocalArchive
) -> None:
    def hide(parsed: dict[str, Any], **_: object) -> None:
        if told == "nothing":
            parsed.pop("ChecksumCRC32", None)
        elif "ChecksumCRC32" in parsed:
            parsed |= {"ChecksumCRC32": "AAAAAA==-3", "ChecksumType": "COMPOSITE"}

    client.meta.events.register("after-call.s3.HeadObject", hide)
    assert send(large, place, client).integrity == "parts-crc32"


def listing_as_aws_does(client: Any, large: LocalArchive) -> None:
    """ListParts that tells the upload's kind and each part's CRC-32, of an encrypted bucket: ETags are no MD5s."""

    def tell(parsed: dict[str, Any], **_: object) -> None:
        parsed["ChecksumType"] = "FULL_OBJECT"
        for part in parsed.get("Parts", []):
            data = large.data[(part["PartNumber"] - 1) * PART :][:PART]
            part |= {"ChecksumCRC32": encode_crc32(zlib.crc32(data))}

    client.meta.events.register("after-call.s3.ListParts", tell)


def test_a_guarded_upload_goes_on_guarded_and_keeps_parts_by_their_crc32(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    create = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT", "Metadata": {"sha256": large.sha256}}
    key = large.key(place)
    upload_id = client.create_multipart_upload(Bucket=place.bucket, Key=key, **create)["UploadId"]
    client.upload_part(Bucket=place.bucket, Key=key, UploadId=upload_id, PartNumber=2, Body=large.data[PART:][:PART])
    listing_as_aws_does(client, large)
    sent = headers(client)
    assert send(large, place, client).integrity == "crc32"
    parts = [given for name, given in sent if name == "UploadPart"]
    assert [CRC32 in given for given in parts] == [True, True]
    clean_and_complete(client, place, large)


@pytest.mark.parametrize("left", ["no part", "the byte that was to be refused"])
def test_a_guarded_upload_that_ended_before_its_parts_is_begun_anew(
    left: str, client: Any, place: Destination, large: LocalArchive
) -> None:
    key = large.key(place)
    upload_id = client.create_multipart_upload(Bucket=place.bucket, Key=key)["UploadId"]
    if left != "no part":
        client.upload_part(Bucket=place.bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=b"\0")
    listing_as_aws_does(client, large)
    sent = record(client)
    assert send(large, place, client).integrity == "crc32"
    assert sent.count("CreateMultipartUpload") == 1
    clean_and_complete(client, place, large)


@pytest.mark.parametrize(
    ("size", "fact"),
    [(60_000, "ETag is made of the MD5"), (17 * MIB, "tells the archive's for the whole")],
)
def test_the_proof_says_what_was_proven_while_it_was_sent(
    size: int, fact: str, local_s3: LocalS3, place: Destination, tmp_path: Path
) -> None:
    ours = archive(tmp_path, size, seed=9)
    to = f"s3://{place.bucket}/{place.prefix}"
    account: Any = {"session": session_for(local_s3), "endpoint_url": local_s3.endpoint_url}
    first = publish(ours.content, ours.name, to, **account)
    assert any(fact in proven for proven in first.proof.proven)
    again = publish(ours.content, ours.name, to, **account)
    assert again.object.integrity is None
    assert not any(fact in proven for proven in again.proof.proven)


def test_a_crc32_as_s3_writes_it() -> None:
    assert encode_crc32(zlib.crc32(b"123456789")) == "y/Q5Jg=="  # 0xCBF43926, the check value of this CRC
    assert encode_crc32(0) == "AAAAAA=="
