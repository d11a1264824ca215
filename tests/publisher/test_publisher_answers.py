"""What a store may answer, or refuse, to an upload: each ends as a sentence, or does no harm."""

from __future__ import annotations

from typing import Any

import pytest
from publisher_support import LocalArchive, connect, patience, record, refuse, start_by_hand
from s3_support import local_s3, session_for
from upload_support import PART, client, large, place, small, upload

from lora_packer.errors import CredentialsError, PublishError
from lora_packer.publisher.s3uri import Destination
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["client", "large", "local_s3", "place", "small"]


@pytest.mark.parametrize("denied", ["ListMultipartUploads", "ListParts"])
def test_without_permission_to_list_it_starts_afresh(
    denied: str, client: Any, place: Destination, large: LocalArchive
) -> None:
    start_by_hand(client, place, large, {1: large.data[:PART]})
    refuse(client, denied, 403, "AccessDenied")
    sent = record(client)
    assert upload(large, place, client).uploaded
    assert sent.count("UploadPart") == 1 + 3


@pytest.mark.parametrize("size", ["small", "large"])
def test_without_permission_to_look_the_answers_are_trusted(
    size: str, client: Any, place: Destination, request: pytest.FixtureRequest
) -> None:
    ours: LocalArchive = request.getfixturevalue(size)
    refuse(client, "HeadObject", 403, "403")
    stored = upload(ours, place, client)
    assert (stored.uploaded, stored.size) == (True, len(ours.data))
    assert stored.etag


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_store_that_knows_no_conditional_writes(
    size: str, client: Any, place: Destination, request: pytest.FixtureRequest
) -> None:
    from botocore.exceptions import ClientError

    ours: LocalArchive = request.getfixturevalue(size)

    def refuse_condition(params: dict[str, Any], **_: object) -> None:
        if "If-None-Match" in params["headers"]:
            answer = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
            raise ClientError(answer, "Put")

    client.meta.events.register("before-call.s3", refuse_condition)
    assert upload(ours, place, client).uploaded


def test_a_wrong_object_does_not_stay(client: Any, place: Destination, small: LocalArchive) -> None:
    def corrupt(parsed: dict[str, Any], **_: object) -> None:
        parsed["ETag"] = '"' + "0" * 32 + '"'

    client.meta.events.register("after-call.s3.HeadObject", corrupt)
    with pytest.raises(PublishError, match="not those that were sent"):
        upload(small, place, client)
    assert client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["KeyCount"] == 0


def test_an_etag_that_is_no_md5_proves_nothing_and_breaks_nothing(
    client: Any, place: Destination, large: LocalArchive
) -> None:
    def encrypt(parsed: dict[str, Any], **_: object) -> None:
        parsed["ServerSideEncryption"] = "aws:kms"

    def other_form(parsed: dict[str, Any], **_: object) -> None:
        parsed["ETag"] = '"' + "0" * 32 + '"'  # of the whole file, as some stores show it

    client.meta.events.register("after-call.s3.UploadPart", encrypt)
    client.meta.events.register("after-call.s3.HeadObject", other_form)
    assert upload(large, place, client).uploaded


@pytest.mark.parametrize(
    ("code", "status", "kind", "hint"),
    [
        ("AccessDenied", 403, PublishError, "s3:PutObject"),
        ("NoSuchBucket", 404, PublishError, "the bucket must exist"),
        ("SignatureDoesNotMatch", 403, CredentialsError, "secret access key"),
        ("InvalidAccessKeyId", 403, CredentialsError, "AWS_ACCESS_KEY_ID"),
        ("ExpiredToken", 400, CredentialsError, "fresh credentials"),
        ("RequestTimeTooSkewed", 403, PublishError, "clock"),
        ("PermanentRedirect", 301, PublishError, "another region"),
        ("InternalError", 500, PublishError, "in a while"),
    ],
)
def test_refusals_are_sentences(
    code: str, status: int, kind: type[Exception], hint: str, client: Any, place: Destination, small: LocalArchive
) -> None:
    refuse(client, "PutObject", status, code)
    with pytest.raises(
        kind, match=rf"PutObject on s3://.* was refused: HTTP {status} {code} \(why, \*\*\*\)"
    ) as caught:
        upload(small, place, client)
    assert isinstance(caught.value, PublishError)
    assert caught.value.exit_code == 4
    assert hint in (caught.value.hint or "")
    assert "AKIAFAKEFAKEFAKEFAKE" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_wrong_secret_key_is_said_by_the_real_server(
    local_s3: LocalS3, place: Destination, small: LocalArchive
) -> None:
    import boto3

    session = boto3.Session(local_s3.access_key, "not-the-secret-key-of-this-server")
    client = connect(session, place.bucket, endpoint_url=local_s3.endpoint_url)
    with pytest.raises(CredentialsError, match="SignatureDoesNotMatch") as caught:
        upload(small, place, client)
    assert "not-the-secret-key" not in str(caught.value)


def test_a_server_that_is_not_there(local_s3: LocalS3) -> None:
    with pytest.raises(PublishError, match="HeadBucket on s3://bucket failed") as caught:
        connect(session_for(local_s3), "bucket", endpoint_url="http://127.0.0.1:1", patience=patience())
    assert "--endpoint-url" in (caught.value.hint or "")
