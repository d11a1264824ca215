"""What a proof says: both ends, all of it, old age; and our own SigV4 against botocore's."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import httpx2
import pytest
from publisher_support import Clock, answered_by
from s3_support import local_s3, session_for

from lora_packer.errors import PublishError
from lora_packer.publisher import presign_object
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.credentials import Signer, freeze
from lora_packer.publisher.presign import presign
from lora_packer.publisher.proof import END, Expected, Proof
from lora_packer.publisher.proof import prove as prove_url
from lora_packer.publisher.retry import Patience
from lora_packer.publisher.sigv4 import backdated, signature
from lora_packer.redact import PresignedUrl, Secret
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3"]

KEY = "adapters/a-0123456789abcdef.zip"
DATA = b"PK\x03\x04" + bytes(range(256)) * 4
SHA256 = hashlib.sha256(DATA).hexdigest()
ENDS = (DATA[:END], DATA[-END:])
NOW = datetime.now(UTC).replace(microsecond=0)
SESSION = boto3.Session("AKIAFAKEFAKEFAKEFAKE", "a-secret-key-that-nobody-may-see")

Handler = Callable[[httpx2.Request], httpx2.Response]


def mint(session: boto3.Session = SESSION, endpoint: str | None = None, bucket: str = "bucket") -> PresignedUrl:
    by = freeze(session)
    client = s3_client(session, endpoint_url=endpoint, region="us-east-1", signer=by)
    return presign(client, by, bucket=bucket, key=KEY, expires_in=timedelta(hours=12))


def store(request: httpx2.Request) -> httpx2.Response:
    """A store that has DATA."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
    if asked is None:
        return httpx2.Response(200, content=DATA)
    first, last = int(asked[1]), min(int(asked[2]), len(DATA) - 1)
    return httpx2.Response(
        206, content=DATA[first : last + 1], headers={"Content-Range": f"bytes {first}-{last}/{len(DATA)}"}
    )


def is_old(request: httpx2.Request) -> bool:
    dated = datetime.strptime(request.url.params["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return NOW - dated > timedelta(minutes=90)


def prove(handler: Handler, by: Signer | None = None, **options: Any) -> Proof:
    expected = options.pop("expected", Expected(KEY, len(DATA), SHA256, ENDS))
    url = mint()
    return prove_url(answered_by(handler), url, expected, by or freeze(SESSION), now=lambda: NOW, **options)


def test_what_was_proven_and_what_was_not() -> None:
    proof = prove(store)
    assert proof.size == len(DATA)
    assert any("first and last 64 bytes are the archive's" in fact for fact in proof.proven)
    assert any("still works 1 h 40 min after signing" in fact for fact in proof.proven)
    assert any("--verify full" in gap for gap in proof.not_proven)
    assert any("other networks" in gap for gap in proof.not_proven)
    assert proof.warnings == ()
    said = proof.to_dict()
    assert (said["proven"], said["not_proven"]) == (list(proof.proven), list(proof.not_proven))
    assert said["deadline"].endswith("+00:00")


def test_everything_is_downloaded_and_hashed_when_asked_for() -> None:
    asked: list[str | None] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.headers.get("Range"))
        return store(request)

    proof = prove(handler, full=True)
    whole, *ranges = sorted(asked, key=lambda of: of or "")
    assert whole is None
    assert ranges == sorted(["bytes=0-0", "bytes=0-63", f"bytes={len(DATA) - 64}-{len(DATA) - 1}"])
    assert any("have the archive's SHA-256" in fact for fact in proof.proven)
    assert not any("--verify" in gap for gap in proof.not_proven)


def test_of_an_object_of_others_its_digest_is_told() -> None:
    proof = prove(store, full=True, expected=Expected(KEY, None, None))
    assert any(f"their SHA-256 is {SHA256}" in fact for fact in proof.proven)
    assert any("begins like a .zip archive" in fact for fact in proof.proven)


def tampered(position: int) -> Handler:
    changed = DATA[:position] + bytes([DATA[position] ^ 1]) + DATA[position + 1 :]

    def handler(request: httpx2.Request) -> httpx2.Response:
        good = store(request)
        first = int(good.headers.get("Content-Range", "bytes 0-").split()[1].split("-")[0])
        return httpx2.Response(
            good.status_code, content=changed[first : first + len(good.content)], headers=dict(good.headers)
        )

    return handler


@pytest.mark.parametrize("position", [0, END - 1, len(DATA) - END, len(DATA) - 1])
def test_other_bytes_at_an_end_are_found(position: int) -> None:
    with pytest.raises(PublishError, match="other bytes"):
        prove(tampered(position))


def test_other_bytes_in_the_middle_are_found_by_reading_all() -> None:
    assert prove(tampered(500)).size == len(DATA)
    with pytest.raises(PublishError, match="other bytes"):
        prove(tampered(500), full=True)


def test_an_object_of_others_that_is_no_archive() -> None:
    with pytest.raises(PublishError, match=r"does not begin like a \.zip archive"):
        prove(tampered(0), expected=Expected(KEY, None, None))


@pytest.mark.parametrize(
    ("status", "body", "content_range"),
    [
        (206, DATA, f"bytes 0-{len(DATA) - 1}/{len(DATA)}"),
        (206, DATA[:10], f"bytes 0-63/{len(DATA)}"),
        (206, DATA[:64], f"bytes 1-64/{len(DATA)}"),
        (200, DATA[:64], ""),
    ],
)
def test_a_range_is_checked(status: int, body: bytes, content_range: str) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("Range") != "bytes=0-63":
            return store(request)
        return httpx2.Response(status, content=body, headers={"Content-Range": content_range} if content_range else {})

    with pytest.raises(PublishError, match="bytes 0 to 63"):
        prove(handler)


@pytest.mark.parametrize(
    ("asked", "content_range", "message"),
    [
        ("bytes=0-63", "bytes 0-63/999", "is 999 bytes long, not"),
        (f"bytes={len(DATA) - 64}-{len(DATA) - 1}", f"bytes {len(DATA) - 64}-{len(DATA) - 1}/9999", "did not answer"),
    ],
)
def test_an_object_of_another_length(asked: str, content_range: str, message: str) -> None:
    """Replaced before the proof, or between two of its requests."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        good = store(request)
        if request.headers.get("Range") == asked:
            good.headers["Content-Range"] = content_range
        return good

    with pytest.raises(PublishError, match=message):
        prove(handler)


@pytest.mark.parametrize("size", [1, 63, 64, 65])
def test_a_short_object(size: int) -> None:
    """Shorter than what is asked for: whether its length is known before or not."""
    data = DATA[:size]

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers["Range"])
        assert asked is not None
        first, last = int(asked[1]), min(int(asked[2]), size - 1)
        return httpx2.Response(
            206, content=data[first : last + 1], headers={"Content-Range": f"bytes {first}-{last}/{size}"}
        )

    known = Expected(KEY, size, SHA256, (data[:END], data[-END:]))
    assert prove(handler, expected=known).size == size
    if size >= 4:
        assert prove(handler, expected=Expected(KEY, None, None)).size == size


def test_a_policy_against_old_urls_is_a_warning() -> None:
    """As s3:signatureAge has it: good now, dead later."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        if is_old(request):
            body = b"<Error><Code>AccessDenied</Code><Message>explicit deny</Message></Error>"
            return httpx2.Response(403, content=body)
        return store(request)

    proof = prove(handler)
    (warning,) = proof.warnings
    assert "HTTP 403 AccessDenied (explicit deny)" in warning
    assert not any("still works" in fact for fact in proof.proven)
    assert "X-Amz-Signature" not in warning


def test_a_probe_that_gets_no_answer_is_a_warning() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if is_old(request):
            raise httpx2.ConnectError("gone", request=request)
        return store(request)

    assert "gone" in prove(handler).warnings[0]


def test_an_unknown_end_of_the_credentials_cannot_be_proven() -> None:
    by = Signer("env", Secret("ASIAFAKEFAKEFAKEFAKE"), Secret("x"), Secret("token"), None)
    assert any("the environment (AWS_ACCESS_KEY_ID) live" in gap for gap in prove(store, by).not_proven)


@pytest.mark.parametrize("known", [True, False])
def test_trouble_on_the_way_of_a_proof_is_ridden_out(known: bool) -> None:
    """One by one: no answer, and the store's trouble; whether the length is known before, or the first answer's."""
    asked: Counter[str] = Counter()

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked[which := request.headers["Range"]] += 1
        if which != "bytes=0-0" and asked[which] == 1:
            raise httpx2.ReadError("reset", request=request)
        return httpx2.Response(503) if which != "bytes=0-0" and asked[which] == 2 else store(request)

    clock = Clock()
    ends = {} if known else {"expected": Expected(KEY, None, None)}
    assert prove(handler, patience=Patience(clock=clock, sleep=clock.sleep), **ends).proven
    # What is asked for beside the first request is not waited for, but asked again.
    assert len(clock.pauses) == (3 if known else 4)
    assert max(asked.values()) == 3


# Our own signer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize("version_id", [None, "v.1_~x"])
@pytest.mark.parametrize(
    ("region", "bucket", "endpoint"),
    [
        ("us-east-1", "bucket", None),
        ("cn-north-1", "dotted.bucket", None),
        ("us-east-1", "bucket", "https://minio.example.com:9000/base"),
        ("us-east-1", "bucket", "https://minio.example.com:443"),
        ("us-east-1", "bucket", "http://[::1]:9000"),
    ],
)
@pytest.mark.parametrize("key", [KEY, "a!_.*'()-b/c.tar.gz"])
def test_our_signature_is_botocores(
    token: str | None, version_id: str | None, region: str, bucket: str, endpoint: str | None, key: str
) -> None:
    session = boto3.Session("AKIAFAKEFAKEFAKEFAKE", "another/secret+key", token)
    by = freeze(session)
    client = s3_client(session, endpoint_url=endpoint, region=region, signer=by)
    parameters = {"Bucket": bucket, "Key": key} | ({"VersionId": version_id} if version_id else {})
    url = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=7200)
    assert signature(url, by.secret_key) == parse_qs(urlsplit(url).query)["X-Amz-Signature"][0]
    assert signature(url, Secret("wrong")) not in url


def test_a_signature_that_is_not_ours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[presign.__module__], "signature", lambda *_: "0" * 64)
    with pytest.raises(PublishError, match="not the one that SigV4 gives it"):
        mint()


def test_an_older_url_on_a_real_server(local_s3: LocalS3) -> None:
    session = session_for(local_s3)
    by = freeze(session)
    client = s3_client(session, endpoint_url=local_s3.endpoint_url)
    client.put_object(Bucket=local_s3.bucket, Key=KEY, Body=DATA)
    url = mint(session, local_s3.endpoint_url, local_s3.bucket)
    old = datetime.now(UTC) - timedelta(minutes=100)
    for minutes, status in ((105, 206), (98, 403)):
        probe = backdated(url, by.secret_key, signed_at=old, lives=timedelta(minutes=minutes))
        assert httpx2.get(probe.reveal(), headers={"Range": "bytes=0-0"}).status_code == status


# An object that is there ---------------------------------------------------------------------------------------------


@pytest.fixture
def there(local_s3: LocalS3) -> Any:
    client = s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)
    client.put_object(Bucket=local_s3.bucket, Key="there/plain.zip", Body=DATA)
    client.put_object(Bucket=local_s3.bucket, Key="there/text.zip", Body=b"no archive at all")
    client.put_object(Bucket=local_s3.bucket, Key="there/liar.zip", Body=DATA, Metadata={"sha256": "0" * 64})
    return {"session": session_for(local_s3), "endpoint_url": local_s3.endpoint_url}


def test_a_url_for_an_object_that_is_there(local_s3: LocalS3, there: Any) -> None:
    done = presign_object(f"s3://{local_s3.bucket}/there/plain.zip", verify_full=True, **there)
    assert httpx2.get(done.url.reveal()).content == DATA
    assert (done.object.uploaded, done.object.size, done.object.sha256) == (False, len(DATA), None)
    assert done.proof.warnings == ()


@pytest.mark.parametrize(
    ("key", "full", "message"),
    [
        ("missing.zip", False, "There is no object"),
        ("text.zip", False, "does not begin like"),
        ("liar.zip", True, "other bytes"),
    ],
)
def test_an_object_that_is_there_and_is_not_good(
    key: str, full: bool, message: str, local_s3: LocalS3, there: Any
) -> None:
    with pytest.raises(PublishError, match=message):
        presign_object(f"s3://{local_s3.bucket}/there/{key}", verify_full=full, **there)


def test_an_object_that_may_be_read_and_not_looked_at(
    local_s3: LocalS3, there: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_packer.publisher.stored import Look

    monkeypatch.setattr("lora_packer.publisher.look", lambda *_: Look("denied"))
    assert presign_object(f"s3://{local_s3.bucket}/there/plain.zip", **there).object.size == len(DATA)
