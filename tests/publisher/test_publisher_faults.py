"""The fault matrix: whatever happens to a request, the object is there and complete, or the error says what is left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import Fault, FaultProxy, http
from publisher_support import MIB, LocalArchive, archive, patience, unfinished, upload
from s3_support import local_s3, proxy, session_for

from lora_packer.errors import CredentialsError, PublishError
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.errors import S3Error
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.stored import StoredObject
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3", "proxy"]

PART = 5 * MIB
FOR_EVER = 1_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LocalArchive:
    """Three parts."""
    return archive(tmp_path_factory.mktemp("faults"), 2 * PART + 100_001, name="large.zip", seed=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> LocalArchive:
    return archive(tmp_path_factory.mktemp("faults"), 200_000, name="small.zip", seed=2)


@pytest.fixture
def client(local_s3: LocalS3) -> Any:
    """Past the proxy, to look at what became of it."""
    return s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)


@pytest.fixture
def place(local_s3: LocalS3, request: pytest.FixtureRequest) -> Destination:
    return Destination(local_s3.bucket, f"{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/")


@pytest.fixture
def send(
    proxy: FaultProxy, local_s3: LocalS3, place: Destination, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., StoredObject]:
    """Upload through the proxy; pauses take no time."""
    monkeypatch.setattr("lora_packer.publisher.client._READ_TIMEOUT", 1)  # of a request that gets no answer

    def run(what: LocalArchive, on_sleep: Callable[[int], None] = lambda _: None, **options: Any) -> StoredObject:
        through = s3_client(session_for(local_s3), endpoint_url=proxy.url)
        waits = patience(on_sleep)
        waits.answered()  # as after the HeadBucket that comes first
        connection = Connection(through, patience=waits, **options)
        journal = Journal(tmp_path / "journal.json")
        return upload(what, place, connection, journal=journal, part_size=PART)

    return run


def intact(client: Any, place: Destination, what: LocalArchive, tmp_path: Path) -> None:
    """The object has the archive's bytes, there is no other, and nothing unfinished, there or in the journal."""
    (found,) = client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["Contents"]
    body = client.get_object(Bucket=place.bucket, Key=found["Key"])["Body"].read()
    assert hashlib.sha256(body).hexdigest() == what.sha256
    assert unfinished(client, place) == []
    assert not (tmp_path / "journal.json").exists()


MULTIPART = ["HeadObject", "ListMultipartUploads", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
FIRST = 1  # the first UploadPart is to see whether a wrong CRC-32 is refused


def faults(operation: str, skip: int = 0) -> list[Fault]:
    at = 3 * MIB if skip else 0
    return [
        Fault(operation, "reset", after=at, skip=skip),
        Fault(operation, "reset", times=5, after=at, skip=skip),
        Fault(operation, "lose", skip=skip),
        Fault(operation, "hang", skip=skip),
        Fault(operation, "answer", answer=http(500, "InternalError"), skip=skip),
        Fault(operation, "answer", times=7, answer=http(503, "SlowDown"), skip=skip),
        Fault(operation, "answer", answer=http(503), skip=skip),
        Fault(operation, "replace", answer=http(500, "InternalError"), skip=skip),
    ]


MATRIX = [fault for name in MULTIPART for fault in faults(name)] + faults("UploadPart", FIRST)


def named(fault: Fault) -> str:
    status = fault.answer[9:12].decode()
    return f"{fault.operation}-{fault.kind}{status}x{fault.times}{'-later' if fault.skip else ''}"


@pytest.mark.parametrize("fault", MATRIX, ids=named)
def test_a_fault_that_passes_leaves_the_object_intact(
    fault: Fault, send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    proxy.add(fault)
    assert send(large).uploaded
    assert fault.times == 0
    intact(client, place, large, tmp_path)


@pytest.mark.parametrize("fault", faults("PutObject") + faults("HeadObject"), ids=named)
def test_a_fault_that_passes_does_not_harm_a_small_archive(
    fault: Fault, send: Any, proxy: FaultProxy, client: Any, place: Destination, small: LocalArchive, tmp_path: Path
) -> None:
    proxy.add(fault)
    assert send(small).uploaded
    assert fault.times == 0
    intact(client, place, small, tmp_path)


NOTHING_LISTED = http(200, body="<ListMultipartUploadsResult></ListMultipartUploadsResult>")
ERROR_IN_200 = http(200, "InternalError")
EMPTY_200 = http(200, body="")


@pytest.mark.parametrize("kind", ["answer", "replace"])
@pytest.mark.parametrize("given", [ERROR_IN_200, EMPTY_200, http(200, body="  \n"), http(404, "NoSuchUpload")])
def test_an_answer_to_complete_that_is_none_is_decided_by_the_object(
    kind: Any, given: bytes, send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive,
    tmp_path: Path,
) -> None:  # fmt: skip
    proxy.add(Fault("CompleteMultipartUpload", kind, answer=given))
    assert send(large).uploaded
    intact(client, place, large, tmp_path)


def test_a_lost_answer_to_create_does_not_make_a_second_upload(
    send: Any, proxy: FaultProxy, large: LocalArchive
) -> None:
    proxy.add(Fault("CreateMultipartUpload", "lose"))
    send(large)
    assert proxy.seen.count("CreateMultipartUpload") == 1


def test_an_outage_of_minutes_is_ridden_out(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    proxy.add(Fault("UploadPart", "reset", after=MIB, meanwhile=proxy.refuse, skip=FIRST))
    pauses = []

    def heal_later(pause: int) -> None:
        pauses.append(pause)
        if len(pauses) == 40:
            proxy.heal()

    assert send(large, heal_later).uploaded
    intact(client, place, large, tmp_path)


@pytest.mark.parametrize(
    ("operation", "skip", "left"),
    [("CreateMultipartUpload", 0, 0), ("UploadPart", 0, 1), ("UploadPart", 2, 1), ("CompleteMultipartUpload", 0, 1)],
)
def test_a_fault_that_lasts_is_an_error_and_the_journal_knows_what_is_left(
    operation: str, skip: int, left: int, send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive,
    tmp_path: Path,
) -> None:  # fmt: skip
    proxy.add(Fault(operation, "reset", times=FOR_EVER, after=1, skip=skip))
    with pytest.raises(S3Error, match=f"{operation} on s3://") as caught:
        send(large)
    assert caught.value.exit_code == 4
    assert "It was tried for" in (caught.value.hint or "")
    assert len(unfinished(client, place)) == left
    resumed_from_the_journal(send, proxy, client, place, large, tmp_path)
    if left:
        assert "CreateMultipartUpload" not in proxy.seen


def test_a_second_upload_that_a_lost_answer_left_is_aborted_in_the_end(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    """The first one appears in the store's list only after it was looked for; it would cost money for ever."""

    def pause(_: int) -> None:
        # Not there yet when it is looked for: the store lists it later.
        proxy.add(Fault("ListMultipartUploads", "answer", answer=NOTHING_LISTED))

    proxy.add(Fault("CreateMultipartUpload", "lose"))
    assert send(large, pause).uploaded
    assert proxy.seen.count("CreateMultipartUpload") == 2
    intact(client, place, large, tmp_path)


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart"])
def test_a_store_that_is_gone_after_it_did_what_was_asked(
    operation: str, send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    """Nobody tells what became of the request; the next run finds out."""
    proxy.add(Fault(operation, "lose", times=FOR_EVER, meanwhile=proxy.refuse))
    with pytest.raises(S3Error, match="It was tried for"):
        send(large)
    assert len(unfinished(client, place)) == 1
    resumed_from_the_journal(send, proxy, client, place, large, tmp_path)
    assert "CreateMultipartUpload" not in proxy.seen


def resumed_from_the_journal(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    (entry,) = Journal(tmp_path / "journal.json").uploads
    assert entry.key == large.key(place)
    assert entry.upload_id in {*unfinished(client, place), None}
    assert "Contents" not in client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)
    proxy.heal()
    proxy.seen.clear()
    assert send(large).uploaded
    intact(client, place, large, tmp_path)


def test_a_store_that_is_gone_after_it_completed_the_object(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    proxy.add(Fault("CompleteMultipartUpload", "lose", meanwhile=proxy.refuse))
    with pytest.raises(S3Error, match="It was tried for"):
        send(large)
    assert len(Journal(tmp_path / "journal.json").uploads) == 1
    proxy.heal()
    assert not send(large).uploaded
    intact(client, place, large, tmp_path)


@pytest.mark.parametrize(
    "code", ["AccessDenied", "BadDigest", "InvalidRequest", "KMS.DisabledException", "EntityTooLarge"]
)
@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_a_refusal_is_not_repeated_and_leaves_nothing(
    operation: str, code: str, send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive,
    tmp_path: Path,
) -> None:  # fmt: skip
    status = 403 if code == "AccessDenied" else 400
    proxy.add(Fault(operation, "answer", times=FOR_EVER, answer=http(status, code)))
    with pytest.raises(S3Error, match=f"HTTP {status} {code}"):
        send(large)
    assert proxy.seen.count(operation) <= 4  # the threads that were already on their way
    assert unfinished(client, place) == []
    assert not (tmp_path / "journal.json").exists()


@pytest.mark.parametrize(("operation", "skip"), [("UploadPart", 0), ("UploadPart", 2), ("CompleteMultipartUpload", 0)])
def test_expired_credentials_are_renewed_on_the_way(
    operation: str, skip: int, send: Any, proxy: FaultProxy, client: Any, local_s3: LocalS3, place: Destination,
    large: LocalArchive, tmp_path: Path,
) -> None:  # fmt: skip
    made = []

    def renew() -> Any:
        made.append(1)
        proxy.heal()
        return s3_client(session_for(local_s3), endpoint_url=proxy.url)

    proxy.add(Fault(operation, "answer", times=FOR_EVER, answer=http(400, "ExpiredToken"), skip=skip))
    assert send(large, renew=renew).uploaded
    assert len(made) == 1
    intact(client, place, large, tmp_path)


def test_expired_credentials_of_the_caller_keep_what_was_sent(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    proxy.add(Fault("CompleteMultipartUpload", "answer", times=FOR_EVER, answer=http(400, "ExpiredToken")))
    with pytest.raises(CredentialsError, match="ExpiredToken") as caught:
        send(large)
    assert "parts already sent are kept" in (caught.value.hint or "")
    assert len(unfinished(client, place)) == 1
    proxy.heal()
    proxy.seen.clear()
    assert send(large).uploaded
    assert "UploadPart" not in proxy.seen
    intact(client, place, large, tmp_path)


@pytest.mark.parametrize(("operation", "skip"), [("UploadPart", 0), ("UploadPart", 2), ("CompleteMultipartUpload", 0)])
def test_an_upload_aborted_underneath_starts_again(
    operation: str,
    skip: int,
    send: Any,
    proxy: FaultProxy,
    client: Any,
    place: Destination,
    large: LocalArchive,
    tmp_path: Path,
) -> None:
    key = large.key(place)

    def abort() -> None:
        for upload_id in unfinished(client, place):
            client.abort_multipart_upload(Bucket=place.bucket, Key=key, UploadId=upload_id)

    proxy.add(Fault(operation, "answer", answer=http(503, "SlowDown"), meanwhile=abort, skip=skip))
    assert send(large).uploaded
    intact(client, place, large, tmp_path)


def test_an_upload_that_is_always_aborted_is_given_up(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive
) -> None:
    proxy.add(Fault("CompleteMultipartUpload", "answer", times=FOR_EVER, answer=http(404, "NoSuchUpload")))
    with pytest.raises(PublishError, match="NoSuchUpload"):
        send(large)
    assert proxy.seen.count("CreateMultipartUpload") == 4
    assert unfinished(client, place) == []


def test_a_conflict_with_another_upload_starts_again(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    conflict = http(409, "ConditionalRequestConflict")
    proxy.add(Fault("CompleteMultipartUpload", "answer", answer=conflict))
    assert send(large).uploaded
    assert proxy.seen.count("CreateMultipartUpload") == 2
    intact(client, place, large, tmp_path)


def test_two_runs_at_once_end_with_one_object(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path
) -> None:
    other: list[StoredObject] = []
    proxy.add(Fault("CompleteMultipartUpload", "answer", answer=http(500), meanwhile=lambda: other.append(send(large))))
    send(large)
    assert len(other) == 1
    intact(client, place, large, tmp_path)


def test_a_disk_that_is_full_stops_it_before_anything_is_sent(
    send: Any, proxy: FaultProxy, client: Any, place: Destination, large: LocalArchive, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lora_packer.publisher.journal.write_whole", full)
    with pytest.raises(PublishError, match=r"journal .* cannot be written: No space left on device") as caught:
        send(large)
    assert caught.value.exit_code == 4
    assert "CreateMultipartUpload" not in proxy.seen
    assert unfinished(client, place) == []
    monkeypatch.undo()
    assert send(large).uploaded


def test_a_disk_that_fills_up_between_leaves_nothing(
    send: Any, client: Any, place: Destination, large: LocalArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_packer.files import write_whole

    calls = []

    def filling(*args: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        write_whole(*args)

    monkeypatch.setattr("lora_packer.publisher.journal.write_whole", filling)
    with pytest.raises(PublishError, match="No space left on device"):
        send(large)
    assert unfinished(client, place) == []
