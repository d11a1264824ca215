"""What a publication costs: each request and each connection, as the server's side of the wire sees them."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from builders import TINY, TINY_BASE
from fault_proxy import Fault, FaultProxy, http
from moto import mock_aws
from publisher_support import MIB, archive, connection, expiry, patience, record, upload
from s3_support import env, local_s3, proxy, session_for

from lora_packer.errors import CheckFailedError, PublishError
from lora_packer.exchange import Answer
from lora_packer.pipeline.place import Elsewhere, Here
from lora_packer.pipeline.publish import answering
from lora_packer.pipeline.publish import publish as publish_adapter
from lora_packer.publisher import Opened, client, publish
from lora_packer.publisher.downloads import downloads
from lora_packer.publisher.s3uri import Destination, key_beginning, object_key
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "local_s3", "proxy"]

# At once: the look at what was sent, and the proof of its URL.
LAST = sorted(["HeadObject", *["GetObject"] * 3])
HERE = Here(TINY)


@pytest.fixture
def to(local_s3: LocalS3, request: pytest.FixtureRequest) -> str:
    """A destination that no other test uses."""
    return f"s3://{local_s3.bucket}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The clients that are made."""
    made: list[object] = []
    build = client._build

    def counted(*args: Any) -> Any:
        made.append(args)
        return build(*args)

    monkeypatch.setattr(client, "_build", counted)
    return made


def requests(proxy: FaultProxy) -> list[str]:
    """The requests in order; the looks before an upload go out at once, as do the last four, and come in any."""
    looks = next(at for at, name in enumerate(proxy.seen) if name in ("PutObject", "CreateMultipartUpload"))
    return [*sorted(proxy.seen[:looks]), *proxy.seen[looks:-4], *sorted(proxy.seen[-4:])]


@pytest.mark.parametrize("size", [50_000, 16 * MIB])
def test_an_archive_in_one_request(
    size: int, local_s3: LocalS3, proxy: FaultProxy, tmp_path: Path, to: str, built: list[object]
) -> None:
    ours = archive(tmp_path, size)
    publish(ours.content, ours.name, to, session=session_for(local_s3), endpoint_url=proxy.url)
    assert requests(proxy) == ["HeadBucket", "HeadObject", "PutObject", *LAST]
    # Two looks at once have two, and the last four two more; while much is sent, three are opened for those.
    assert len(set(proxy.connections)) <= (4 if size < MIB else 7)
    assert not any(b"100-continue" in head for head in proxy.heads)
    assert len(built) == 1


def test_an_archive_in_parts(
    local_s3: LocalS3, proxy: FaultProxy, tmp_path: Path, to: str, built: list[object]
) -> None:
    ours = archive(tmp_path, 17 * MIB)
    publish(ours.content, ours.name, to, session=session_for(local_s3), endpoint_url=proxy.url)
    parts = ["UploadPart"] * (1 + 3)  # the first one shows whether the store refuses a wrong checksum
    expected = ["HeadBucket", "HeadObject", "ListMultipartUploads", "CreateMultipartUpload", *parts]
    assert requests(proxy) == [*expected, "CompleteMultipartUpload", *LAST]
    # Three parts at a time had three connections, over which the last go: one of the four may need another.
    assert len(set(proxy.connections)) <= 4
    assert not any(b"100-continue" in head for head in proxy.heads)
    assert len(built) == 1


def test_what_is_judged_is_not_asked_again(env: LocalS3, proxy: FaultProxy, to: str, built: list[object]) -> None:
    publish_adapter(TINY, to=to, base_config=TINY_BASE, endpoint_url=proxy.url, session=session_for(env))
    assert requests(proxy) == ["HeadBucket", "HeadObject", "PutObject", *LAST]
    assert len(built) == 1


def test_the_proof_begins_before_what_was_sent_is_looked_at(local_s3: LocalS3, tmp_path: Path, to: str) -> None:
    ours, session, asked, looks = archive(tmp_path, 50_000), fresh_session(local_s3), threading.Event(), count()
    gets = downloads(client.s3_client(session, endpoint_url=local_s3.endpoint_url))

    def get(*given: Any, **options: Any) -> Answer:
        asked.set()
        return gets(*given, **options)

    def look(**_: object) -> None:
        assert next(looks) == 0 or asked.wait(20)

    session.events.register("before-call.s3.HeadObject", look)
    done = publish(ours.content, ours.name, to, session=session, endpoint_url=local_s3.endpoint_url, get=get)
    assert (done.object.uploaded, next(looks)) == (True, 2)


def fresh_session(server: LocalS3) -> boto3.Session:
    return boto3.Session(server.access_key, server.secret_key.reveal(), region_name=server.region)


def test_credentials_that_end_sign_a_url_by_a_client_of_their_own(
    env: LocalS3, tmp_path: Path, to: str, built: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of a session are replaced behind its back; the URL is signed by the ones whose end was looked at.
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", expiry(24 * 60))
    ours = archive(tmp_path, 50_000)
    publish(ours.content, ours.name, to, endpoint_url=env.endpoint_url)
    assert len(built) == 2


def test_aws_is_not_asked_what_its_documentation_says(tmp_path: Path) -> None:
    with mock_aws():
        session = boto3.Session("AKIAFAKEFAKEFAKEFAKE", "a-secret-key", region_name="us-east-1")
        session.client("s3").create_bucket(Bucket="a-bucket")
        aws = client.s3_client(session)
        aws.meta.events.register("before-call.s3.UploadPart", plain_bytes)
        sent = record(aws)
        stored = upload(archive(tmp_path, 17 * MIB), Destination("a-bucket", "a/"), connection(aws))
    assert sent.count("UploadPart") == 3
    assert stored.integrity in ("crc32", "parts-crc32")


def plain_bytes(params: dict[str, Any], **_: object) -> None:
    """The mocked store takes no bytearray, as a socket does."""
    params["body"] = bytes(params["body"])


def test_a_part_that_failed_is_sent_once_it_is_wanted(
    local_s3: LocalS3, proxy: FaultProxy, tmp_path: Path, to: str
) -> None:
    # A refusal that comes while the body is on its way is lost with the connection.
    full = http(403, "QuotaExceeded")
    proxy.add(
        Fault("UploadPart", "reset", times=3, skip=1, after=1 * MIB),
        Fault("UploadPart", "answer", times=9, skip=1, answer=full),
    )
    ours = archive(tmp_path, 17 * MIB)
    with pytest.raises(PublishError, match="403 QuotaExceeded"):
        publish(
            ours.content,
            ours.name,
            to,
            session=session_for(local_s3),
            endpoint_url=proxy.url,
            patience=patience(),
        )
    _, *of_parts = [head for name, head in zip(proxy.seen, proxy.heads, strict=True) if name == "UploadPart"]
    asked: dict[str, list[bool]] = {}  # without the first, which shows what the store does with a wrong checksum
    for head in of_parts:
        number = parse_qs(head.split()[1].partition(b"?")[2].decode())["partNumber"][0]
        asked.setdefault(number, []).append(b"100-continue" in head)
    # Whichever part comes first: once as it is, and then only if it is wanted.
    assert sorted(asked) == ["1", "2", "3"]
    assert all(tries == [False, *[True] * (len(tries) - 1)] for tries in asked.values())
    assert any(len(tries) > 1 for tries in asked.values())


@pytest.mark.parametrize("stem", ["plain", "with space", "of-0123456789abcdef", "-0123456789abcdef", "...", "x" * 300])
@pytest.mark.parametrize("digest", ["0123456789abcdef" + "0" * 48, "f" * 64])
def test_a_key_begins_as_was_said_before_its_digest_was_known(stem: str, digest: str) -> None:
    assert object_key("a/", stem, digest, ".zip").startswith(key_beginning("a/", stem))


def refused() -> Opened:
    answer: Future[Any] = Future()
    answer.set_exception(PublishError("There is no such bucket."))
    return Opened(Destination("bucket", ""), None, answer)  # type: ignore[arg-type]


def test_who_reads_while_the_bucket_answers_is_stopped_by_its_refusal() -> None:
    with pytest.raises(PublishError, match="no such bucket"), answering(refused(), HERE) as look:
        look(0, 100)


def test_an_adapter_that_is_elsewhere_is_not_fetched_for_a_bucket_that_refuses() -> None:
    elsewhere = Elsewhere("hf://org/repo", "repo", lambda: pytest.fail("it was fetched"))
    with pytest.raises(PublishError, match="no such bucket"), answering(refused(), elsewhere):
        elsewhere.source  # noqa: B018 - it is fetched when it is asked for


def test_the_buckets_refusal_comes_before_what_was_found_meanwhile() -> None:
    with pytest.raises(PublishError, match="no such bucket"), answering(refused(), HERE):
        raise CheckFailedError("It failed.", report=None)  # type: ignore[arg-type]


def test_an_answer_that_is_still_to_come_stops_nobody() -> None:
    opened = Opened(Destination("bucket", ""), None, answer := Future())  # type: ignore[arg-type]
    with answering(opened, HERE) as look:
        look(0, 100)
        answer.set_result(None)  # type: ignore[arg-type]
