"""Uploads against a real S3 server: once, in parts, resumed, and never over another object."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from publisher_support import MIB, LocalArchive, archive, connection, record, start_by_hand, unfinished
from s3_support import local_s3, session_for
from upload_support import PART, client, large, place, small, upload

from lora_packer.errors import InputError, PackError, PublishError
from lora_packer.publisher import multipart, publish
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.multipart import PART_SIZE, fitting_part_size
from lora_packer.publisher.parts import Part, SentPart
from lora_packer.publisher.payload import Fingerprint, encryption_of
from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.upload import upload as upload_content
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["client", "large", "local_s3", "place", "small"]


def part(large: LocalArchive, number: int) -> bytes:
    return large.data[(number - 1) * PART : number * PART]


def test_a_small_archive_is_one_request_and_is_not_sent_again(
    client: Any, place: Destination, small: LocalArchive
) -> None:
    sent = record(client)
    seen: list[tuple[int, int]] = []
    stored = upload(small, place, client, progress=lambda *args: seen.append(args))
    assert sent == ["HeadObject", "PutObject", "HeadObject"]
    assert seen == [(0, 100_000), (100_000, 100_000)]
    assert (stored.uploaded, stored.size, stored.sha256) == (True, 100_000, small.sha256)
    assert stored.key == f"{place.prefix}my-adapter-{small.sha256[:16]}.zip"
    assert stored.etag == hashlib.md5(small.data).hexdigest()

    there = client.get_object(Bucket=stored.bucket, Key=stored.key)
    assert there["Body"].read() == small.data
    assert (there["ContentType"], there["Metadata"]) == ("application/zip", {"sha256": small.sha256})
    assert "ContentEncoding" not in there

    sent.clear()
    again = upload(small, place, client)
    assert sent == ["HeadObject"]
    assert (again.uploaded, again.key, again.etag) == (False, stored.key, stored.etag)


def test_a_large_archive_goes_in_parts_and_is_not_sent_again(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    sent = record(client)
    seen: list[tuple[int, int]] = []
    stored = upload(large, place, client, progress=lambda *args: seen.append(args))
    parts = ["UploadPart"] * (1 + 3)  # the first one is to see whether a wrong CRC-32 is refused
    assert sent == [
        *("HeadObject", "ListMultipartUploads", "CreateMultipartUpload"),
        *parts,
        *("CompleteMultipartUpload", "HeadObject"),
    ]
    size = len(large.data)
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert stored.uploaded
    assert stored.etag.endswith("-3")
    there = client.get_object(Bucket=stored.bucket, Key=stored.key)
    assert hashlib.sha256(there["Body"].read()).hexdigest() == large.sha256
    assert there["ContentType"] == "application/gzip"
    assert unfinished(client, place) == []

    sent.clear()
    assert not upload(large, place, client).uploaded
    assert sent == ["HeadObject"]


def test_a_killed_upload_is_resumed_with_the_missing_parts_only(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    # Not the first parts: several threads leave gaps.
    start_by_hand(client, place, large, {2: part(large, 2), 3: part(large, 3)})
    sent = record(client)
    stored = upload(large, place, client)
    assert sent.count("UploadPart") == 1
    assert "CreateMultipartUpload" not in sent
    assert stored.uploaded
    assert client.get_object(Bucket=stored.bucket, Key=stored.key)["Body"].read() == large.data
    assert unfinished(client, place) == []


def test_what_an_earlier_run_sent_is_told_before_anything_is_sent(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    start_by_hand(client, place, large, {2: part(large, 2), 3: b"shorter", 4: b"from another cut"})
    told: list[tuple[int, int]] = []
    upload(large, place, client, progress=lambda done, total: told.append((done, total)))
    size = len(large.data)
    assert told[0] == (len(part(large, 2)), size)
    assert told[-1] == (size, size)
    assert sorted(told) == told


def test_kept_parts_are_verified_not_trusted(client: Any, place: Destination, large: LocalArchive) -> None:
    wrong = bytes([part(large, 1)[0] ^ 1]) + part(large, 1)[1:]
    start_by_hand(client, place, large, {1: wrong, 2: part(large, 2), 3: b"shorter", 4: b"from another cut"})
    sent = record(client)
    stored = upload(large, place, client)
    assert sent.count("UploadPart") == 2
    assert client.get_object(Bucket=stored.bucket, Key=stored.key)["Body"].read() == large.data


def test_older_leftovers_of_the_key_are_aborted_and_other_uploads_are_not(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    for _ in range(2):
        start_by_hand(client, place, large, {1: part(large, 1)})
    longer = large.key(place) + ".part"  # begins like ours, but is somebody else's
    others = client.create_multipart_upload(Bucket=place.bucket, Key=longer)["UploadId"]
    assert upload(large, place, client).uploaded
    assert unfinished(client, place) == [others]


@pytest.mark.parametrize("size", ["small", "large"])
def test_another_object_under_the_key_is_never_overwritten(
    size: str, client: Any, place: Destination, request: pytest.FixtureRequest
) -> None:
    ours: LocalArchive = request.getfixturevalue(size)
    key = ours.key(place)
    client.put_object(Bucket=place.bucket, Key=key, Body=b"somebody else's")
    with pytest.raises(PublishError, match="taken by another object"):
        upload(ours, place, client)
    assert client.get_object(Bucket=place.bucket, Key=key)["Body"].read() == b"somebody else's"
    assert unfinished(client, place) == []


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("same", [True, False])
def test_somebody_was_faster(
    size: str, same: bool, client: Any, place: Destination, request: pytest.FixtureRequest
) -> None:
    """An object that appears between the look and the write: 412, and only the same bytes are fine."""
    ours: LocalArchive = request.getfixturevalue(size)
    key = ours.key(place)

    def appear(**_: object) -> None:
        body, digest = (ours.data, ours.sha256) if same else (b"other", "0" * 64)
        other.put_object(Bucket=place.bucket, Key=key, Body=body, Metadata={"sha256": digest})

    other = s3_client(session_for(running(request)), endpoint_url=client.meta.endpoint_url)
    last = "PutObject" if size == "small" else "CompleteMultipartUpload"
    client.meta.events.register(f"before-call.s3.{last}", appear)
    if same:
        assert not upload(ours, place, client).uploaded
    else:
        with pytest.raises(PublishError, match="taken by another object"):
            upload(ours, place, client)
        assert client.get_object(Bucket=place.bucket, Key=key)["Body"].read() == b"other"
    assert unfinished(client, place) == []


def running(request: pytest.FixtureRequest) -> LocalS3:
    server: LocalS3 = request.getfixturevalue("local_s3")
    return server


@pytest.mark.parametrize("size", ["small", "large"])
def test_an_archive_that_is_not_what_was_packed_is_refused(
    size: str, client: Any, place: Destination, request: pytest.FixtureRequest
) -> None:
    ours: LocalArchive = request.getfixturevalue(size)
    with pytest.raises(PublishError, match="changed meanwhile"):
        upload(replace(ours, found=Fingerprint("0" * 64, 0)), place, client)
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["KeyCount"] == 0
    assert unfinished(client, place) == []


def test_a_request_that_still_holds_its_part_is_in_nobodys_way(
    client: Any, place: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that failed does until Python looks for cycles: what is viewed cannot be cut to another length."""
    views = []
    real = multipart.send_part

    def send_and_view(sending: Any, begun: Any, part: Part) -> SentPart:
        views.append(memoryview(part.data))
        return real(sending, begun, part)

    monkeypatch.setattr(multipart, "_THREADS", 1)
    monkeypatch.setattr(multipart, "send_part", send_and_view)
    ours = archive(tmp_path, 3 * PART + 1)
    stored = upload(ours, place, client)
    assert client.get_object(Bucket=stored.bucket, Key=stored.key)["Body"].read() == ours.data
    assert len(views) == 4


def test_an_archive_that_shrinks_meanwhile_is_refused(client: Any, place: Destination, tmp_path: Path) -> None:
    ours = archive(tmp_path, 2 * PART + 1)

    def shrink(**_: object) -> None:
        ours.path.write_bytes(b"not what it was")

    client.meta.events.register("before-call.s3.CreateMultipartUpload", shrink)
    with pytest.raises(PackError, match="changed while"):
        upload(ours, place, client)
    assert unfinished(client, place) == []


@pytest.mark.usefixtures("no_change_time")
def test_a_change_that_leaves_no_trace_in_the_file_system_is_found_by_its_crc32(
    client: Any, place: Destination, tmp_path: Path
) -> None:
    ours = archive(tmp_path, 3 * PART)
    before = ours.path.stat()

    def change(**_: object) -> None:
        with ours.path.open("r+b") as file:
            file.seek(PART + 7)
            file.write(b"changed")
        os.utime(ours.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    client.meta.events.register("before-call.s3.CreateMultipartUpload", change)
    with pytest.raises(PublishError, match="changed meanwhile"):
        upload(ours, place, client)
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["KeyCount"] == 0
    assert unfinished(client, place) == []


def test_wrong_bytes_on_the_way_are_refused_by_the_store(client: Any, place: Destination, small: LocalArchive) -> None:
    wrong = b64encode(hashlib.md5(b"other bytes").digest()).decode()

    def spoil(params: dict[str, Any], **_: object) -> None:
        params["headers"]["Content-MD5"] = wrong

    client.meta.events.register("before-call.s3.PutObject", spoil)
    with pytest.raises(PublishError, match="HTTP 400 BadDigest"):
        upload(small, place, client)
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["KeyCount"] == 0


def test_a_refused_part_leaves_no_unfinished_upload(client: Any, place: Destination, large: LocalArchive) -> None:
    def spoil(params: dict[str, Any], **_: object) -> None:
        if "partNumber=2" in params["url"]:
            params["headers"]["Content-MD5"] = b64encode(bytes(16)).decode()

    client.meta.events.register("before-call.s3.UploadPart", spoil)
    with pytest.raises(PublishError, match=r"UploadPart on s3://.*BadDigest"):
        upload(large, place, client)
    assert unfinished(client, place) == []


def test_a_lost_connection_keeps_what_was_sent(client: Any, place: Destination, large: LocalArchive) -> None:
    from botocore.exceptions import ConnectionClosedError

    def fail(params: dict[str, Any], **_: object) -> None:
        if "partNumber=3" in params["url"]:
            raise ConnectionClosedError(endpoint_url="http://127.0.0.1")

    client.meta.events.register("before-call.s3.UploadPart", fail, unique_id="fail")
    with pytest.raises(S3Error, match="The parts already sent are kept"):
        upload(large, place, client)
    assert len(unfinished(client, place)) == 1
    client.meta.events.unregister("before-call.s3.UploadPart", unique_id="fail")
    sent = record(client)
    assert upload(large, place, client).uploaded
    assert sent.count("UploadPart") == 1
    assert unfinished(client, place) == []


def test_a_complete_whose_answer_was_lost_is_found_to_have_worked(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    from botocore.exceptions import ClientError

    def lose(http_response: Any, **_: object) -> None:
        raise ClientError({"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}, "Complete")

    client.meta.events.register("after-call.s3.CompleteMultipartUpload", lose)
    assert upload(large, place, client).uploaded


def test_a_name_that_is_none_of_an_archive(client: Any, place: Destination, small: LocalArchive) -> None:
    with pytest.raises(InputError, match="must end in"):
        upload_content(small.content, "adapter.tgz", small.found, place, connection(client))


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (PART_SIZE + 1, PART_SIZE),
        (10_000 * PART_SIZE, PART_SIZE),
        (10_000 * PART_SIZE + 1, PART_SIZE + MIB),
        (5 << 40, 525 * MIB),
    ],
)
def test_there_are_never_more_than_ten_thousand_parts(size: int, part_size: int) -> None:
    assert fitting_part_size(size, PART_SIZE) == part_size
    assert -(-size // part_size) <= 10_000


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("told", [True, False])
def test_the_version_that_was_made_is_known_also_where_a_look_does_not_tell_it(
    size: str, told: bool, client: Any, place: Destination, request: pytest.FixtureRequest
) -> None:
    """It pins the URL to these bytes."""

    def versioned(parsed: dict[str, Any], **_: object) -> None:
        parsed["VersionId"] = "v1"

    for operation in ("PutObject", "CompleteMultipartUpload", *(["HeadObject"] if told else [])):
        client.meta.events.register(f"after-call.s3.{operation}", versioned)
    assert upload(request.getfixturevalue(size), place, client).version_id == "v1"


@pytest.mark.parametrize(
    ("sse", "key", "headers"),
    [
        (None, None, {}),
        ("AES256", None, {"x-amz-server-side-encryption": "AES256"}),
        ("aws:kms", None, {"x-amz-server-side-encryption": "aws:kms"}),
        (
            None,
            "alias/weights",
            {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "alias/weights"},
        ),
        (
            "aws:kms:dsse",
            "arn:aws:kms:eu-central-1:1:key/2",
            {
                "x-amz-server-side-encryption": "aws:kms:dsse",
                "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-central-1:1:key/2",
            },
        ),
    ],
)
@pytest.mark.parametrize("size", ["small", "large"])
def test_the_store_is_asked_to_encrypt_what_is_written(
    size: str,
    sse: str | None,
    key: str | None,
    headers: dict[str, str],
    client: Any,
    place: Destination,
    request: pytest.FixtureRequest,
) -> None:
    """With the first request of an upload, and no other: S3 refuses it of a part."""
    asked: list[tuple[str, dict[str, str]]] = []

    def watch(model: Any, params: dict[str, Any], **_: object) -> None:
        found = {name: params["headers"].pop(name) for name in list(params["headers"]) if "server-side" in name}
        if found:  # the local server has no keys: it is not asked
            asked.append((model.name, found))

    client.meta.events.register("before-call.s3", watch)
    options = {"encryption": encryption_of(sse, key)}
    assert upload(request.getfixturevalue(size), place, client, **options).uploaded
    operation = "PutObject" if size == "small" else "CreateMultipartUpload"
    assert asked == ([(operation, headers)] if headers else [])


@pytest.mark.parametrize(
    ("sse", "key"), [("AES", None), ("", None), ("AES256", "key"), ("aws:kms", ""), (None, "a\nb"), ("aws:kms", "ü")]
)
def test_what_is_no_way_to_encrypt(sse: str | None, key: str | None, small: LocalArchive) -> None:
    with pytest.raises(InputError, match=r"encrypt|does not go with"):
        publish(small.content, small.name, "s3://bucket/", sse=sse, sse_kms_key_id=key)
