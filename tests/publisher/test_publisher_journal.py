"""The journal: what was begun is known after a kill; torn, lost or foreign ones do no harm; and cleaning up."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import proxy_to
from publisher_support import MIB, LocalArchive, archive, connection, record, refuse, unfinished
from publisher_support import upload as upload_in_parts
from s3_support import local_s3, session_for

from lora_packer.errors import InputError
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.stored import StoredObject
from lora_packer.publisher.unfinished import clean
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3"]

PART = 5 * MIB


@pytest.fixture
def client(local_s3: LocalS3) -> Any:
    return s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)


@pytest.fixture
def place(local_s3: LocalS3, request: pytest.FixtureRequest) -> Destination:
    return Destination(local_s3.bucket, f"{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LocalArchive:
    return archive(tmp_path_factory.mktemp("journal"), 2 * PART + 4711, name="large.zip", seed=3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.json"


def upload(what: LocalArchive, place: Destination, client: Any, path: Path) -> StoredObject:
    return upload_in_parts(what, place, connection(client), journal=Journal(path), part_size=PART)


def begin(client: Any, place: Destination, key: str, sha256: str = "") -> str:
    metadata = {"sha256": sha256}
    upload_id: str = client.create_multipart_upload(Bucket=place.bucket, Key=key, Metadata=metadata)["UploadId"]
    return upload_id


KEY = "a/x-0123456789abcdef.zip"


def test_what_was_begun_is_read_again(path: Path) -> None:
    journal = Journal(path)
    journal.begin("https://a.example", "bucket", KEY, None)
    journal.begin("https://a.example", "bucket", KEY, "one")
    journal.begin("https://b.example", "bucket", KEY, "two")
    assert [entry.upload_id for entry in Journal(path).uploads] == ["one", "two"]
    again = Journal(path)
    again.drop("https://a.example", "bucket", KEY)
    assert [entry.upload_id for entry in Journal(path).uploads] == ["two"]
    again.drop("https://b.example", "bucket", KEY)
    assert not path.exists()


def test_a_journal_torn_anywhere_is_an_empty_one(path: Path) -> None:
    Journal(path).begin("https://a.example", "bucket", KEY, "one")
    whole = path.read_bytes()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        assert Journal(path).uploads == (), length
        path.write_bytes(whole[:length] + bytes(len(whole) - length))
        assert Journal(path).uploads == (), length


@pytest.mark.parametrize("text", ["{}", "[1]", '{"r": 16}', "PK\x03\x04", "x" * 2_000_000])
def test_a_file_that_is_no_journal_is_not_overwritten(text: str, path: Path) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match="not an upload's journal"):
        Journal(path)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "entry", [{}, 1, {"key": "../../etc"}, {"key": "somebody/elses.bin"}, {"upload_id": 5}, {"more": 1}]
)
def test_entries_that_are_none_of_ours_are_ignored(entry: Any, path: Path) -> None:
    Journal(path).begin("https://a.example", "bucket", KEY, "one")
    data = json.loads(path.read_text())
    data["uploads"] = [{**data["uploads"][0], **entry} if isinstance(entry, dict) and entry else entry]
    path.write_text(json.dumps(data, indent=2))
    assert Journal(path).uploads == ()


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Journal(tmp_path)


def test_the_journal_is_written_before_the_upload_is_used(
    client: Any, place: Destination, large: LocalArchive, path: Path
) -> None:
    seen: dict[str, list[str | None]] = {}

    def look(model: Any, **_: object) -> None:
        seen.setdefault(model.name, [entry.upload_id for entry in Journal(path).uploads])

    client.meta.events.register("before-call.s3", look)
    upload(large, place, client, path)
    assert seen["CreateMultipartUpload"] == [None]
    ((upload_id,),) = [seen["UploadPart"]]
    assert upload_id
    assert seen["CompleteMultipartUpload"] == [upload_id]
    assert not path.exists()


@pytest.mark.parametrize("state", ["kept", "lost", "torn"])
def test_an_upload_goes_on_with_its_journal_or_without(
    state: str, client: Any, place: Destination, large: LocalArchive, path: Path
) -> None:
    key = large.key(place)
    upload_id = begin(client, place, key, large.sha256)
    for number in (1, 3):
        data = large.data[(number - 1) * PART : number * PART]
        client.upload_part(Bucket=place.bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data)
    if state != "lost":
        Journal(path).begin(client.meta.endpoint_url, place.bucket, key, upload_id)
    if state == "torn":
        path.write_bytes(path.read_bytes()[:40])
    sent = record(client)
    assert upload(large, place, client, path).uploaded
    assert sent.count("UploadPart") == 1
    assert "CreateMultipartUpload" not in sent
    assert (unfinished(client, place), path.exists()) == ([], False)


def test_without_permission_to_list_uploads_the_journal_alone_resumes(
    client: Any, place: Destination, large: LocalArchive, path: Path
) -> None:
    key = large.key(place)
    upload_id = begin(client, place, key, large.sha256)
    Journal(path).begin(client.meta.endpoint_url, place.bucket, key, upload_id)
    refuse(client, "ListMultipartUploads", 403, "AccessDenied")
    sent = record(client)
    assert upload(large, place, client, path).uploaded
    assert "CreateMultipartUpload" not in sent


def test_an_upload_that_is_gone_from_under_its_journal_starts_again(
    client: Any, place: Destination, large: LocalArchive, path: Path
) -> None:
    key = large.key(place)
    upload_id = begin(client, place, key)
    client.abort_multipart_upload(Bucket=place.bucket, Key=key, UploadId=upload_id)
    Journal(path).begin(client.meta.endpoint_url, place.bucket, key, upload_id)
    assert upload(large, place, client, path).uploaded
    assert not path.exists()


@pytest.mark.parametrize("size", [1000, PART + 1])
def test_a_source_that_changed_between_runs_leaves_nothing_of_the_old_one(
    size: int, client: Any, place: Destination, large: LocalArchive, path: Path, tmp_path: Path
) -> None:
    old = large.key(place)
    Journal(path).begin(client.meta.endpoint_url, place.bucket, old, begin(client, place, old))
    changed = archive(tmp_path, size, name="large.zip", seed=4)
    assert upload(changed, place, client, path).uploaded
    (found,) = client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["Contents"]
    assert found["Size"] == size
    assert (unfinished(client, place), path.exists()) == ([], False)


@pytest.mark.parametrize("other", ["other-0123456789abcdef.zip", "sub/large-0123456789abcdef.zip"])
def test_a_journal_of_two_adapters_keeps_the_upload_of_the_other(
    other: str, client: Any, place: Destination, path: Path, tmp_path: Path
) -> None:
    """Its next run goes on with it."""
    key = f"{place.prefix}{other}"
    left = begin(client, place, key)
    Journal(path).begin(client.meta.endpoint_url, place.bucket, key, left)
    ours = archive(tmp_path, 1000, name="large.zip", seed=4)
    assert upload(ours, place, client, path).uploaded
    assert unfinished(client, place) == [left]
    assert [entry.upload_id for entry in Journal(path).uploads] == [left]


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_journal_that_is_no_regular_file_is_refused_and_left_alone(kind: str, path: Path) -> None:
    """It would be waited for, or removed in the end."""
    make: dict[str, Callable[[], None]] = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/null"),
    }
    make[kind]()
    with pytest.raises(InputError, match=r"journal .* cannot be read: (It is no regular file|Is a directory)"):
        Journal(path)
    assert path.lstat()
    assert Path("/dev/null").is_char_device()


def test_a_link_to_a_journal_stays(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    journal = Journal(link)
    journal.begin("https://a.example", "bucket", KEY, "one")
    assert path.is_file()
    journal.drop("https://a.example", "bucket", KEY)
    assert (link.is_symlink(), path.exists()) == (True, False)


def test_a_journal_of_another_store_is_left_as_it_is(
    client: Any, place: Destination, large: LocalArchive, path: Path
) -> None:
    Journal(path).begin("https://other.example", place.bucket, KEY, "other")
    assert upload(large, place, client, path).uploaded
    assert [entry.upload_id for entry in Journal(path).uploads] == ["other"]


# Cleaning up ---------------------------------------------------------------------------------------------------------


def test_cleaning_removes_ours_and_only_ours(client: Any, place: Destination, path: Path) -> None:
    ours = begin(client, place, f"{place.prefix}a-0123456789abcdef.zip")
    others = {
        begin(client, place, f"{place.prefix}{name}")
        for name in ("backup.zip", "a-0123456789abcdef.bin", "a-0123456789ABCDEF.zip", "deeper/a-0123456789abcdef.zip")
    }
    journalled = f"{place.prefix}deeper/b-0123456789abcdef.tar.gz"
    begin(client, place, journalled)
    journal = Journal(path)
    journal.begin(client.meta.endpoint_url, place.bucket, journalled, None)
    journal.begin("https://other.example", place.bucket, KEY, "other")
    removed = clean(connection(client), place, journal)
    assert {upload.key for upload in removed} == {f"{place.prefix}a-0123456789abcdef.zip", journalled}
    assert ours in {upload.upload_id for upload in removed}
    assert set(unfinished(client, place)) == others
    assert [entry.upload_id for entry in Journal(path).uploads] == ["other"]
    assert clean(connection(client), place, journal) == []


@pytest.mark.parametrize("denied", [False, True])
def test_cleaning_leaves_what_the_journal_has_elsewhere(
    denied: bool, client: Any, local_s3: LocalS3, place: Destination, path: Path
) -> None:
    here, elsewhere = f"{place.prefix}x/{KEY}", f"{place.prefix}y/{KEY}"
    journal = Journal(path)
    for key in (here, elsewhere):
        journal.begin(client.meta.endpoint_url, place.bucket, key, begin(client, place, key))
    looking = s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)
    if denied:
        refuse(client, "ListMultipartUploads", 403, "AccessDenied")
    removed = clean(connection(client), Destination(place.bucket, f"{place.prefix}x/"), journal)
    assert [upload.key for upload in removed] == [here]
    assert [entry.key for entry in Journal(path).uploads] == [elsewhere]
    assert len(unfinished(looking, place)) == 1


def test_cleaning_without_permission_to_list_removes_what_the_journal_has(
    client: Any, local_s3: LocalS3, place: Destination, path: Path
) -> None:
    key = f"{place.prefix}a-0123456789abcdef.zip"
    journal = Journal(path)
    journal.begin(client.meta.endpoint_url, place.bucket, key, begin(client, place, key))
    looking = s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)
    looking = s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)
    refuse(client, "ListMultipartUploads", 403, "AccessDenied")
    assert len(clean(connection(client), place, journal)) == 1
    assert (unfinished(looking, place), path.exists()) == ([], False)


# Killed --------------------------------------------------------------------------------------------------------------

CHILD = """
import sys, boto3
from pathlib import Path
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.s3uri import Destination
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.source import Source
from lora_packer.publisher.payload import fingerprint
from lora_packer.publisher.upload import upload
url, access, secret, archive, bucket, prefix, journal, part = sys.argv[1:]
client = s3_client(boto3.Session(access, secret, region_name="us-east-1"), endpoint_url=url)
source = Source.at(Path(archive))
content = FileSlice(source, 0, source.size)
upload(content, source.name, fingerprint(content), Destination(bucket, prefix), Connection(client),
       journal=Journal(Path(journal)), part_size=int(part))
"""
KILLS = int(os.environ.get("LORA_PACKER_KILLS", "10"))


@pytest.mark.parametrize("moment", range(KILLS))
def test_killed_at_any_moment_it_ends_complete(
    moment: int, client: Any, local_s3: LocalS3, place: Destination, large: LocalArchive, path: Path
) -> None:
    """The proxy kills the uploading process when a number of bytes has come from it."""
    total = len(large.data)
    # Spread over the upload, from its first request to past its last part.
    at = random.Random(moment).randrange(total * moment // KILLS, total * (moment + 1) // KILLS + 2000)
    with proxy_to(local_s3.endpoint_url) as proxy:
        arguments = [
            *(proxy.url, local_s3.access_key, local_s3.secret_key.reveal(), large.path),
            *(place.bucket, place.prefix, path, PART),
        ]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *map(str, arguments)])
        proxy.on_bytes = lambda received: child.send_signal(signal.SIGKILL) if received >= at else None
        assert child.wait(60) in (-signal.SIGKILL, 0)
        proxy.on_bytes = lambda _: None
        half = client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix).get("Contents", [])
        assert [found["Size"] for found in half] in ([], [total])
        begun = unfinished(client, place)
        assert len(begun) <= 1
        assert not begun or len(Journal(path).uploads) == 1
        proxy.seen.clear()
        upload(large, place, s3_client(session_for(local_s3), endpoint_url=proxy.url), path)
        assert not begun or "CreateMultipartUpload" not in proxy.seen
    (found,) = client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["Contents"]
    body = client.get_object(Bucket=place.bucket, Key=found["Key"])["Body"].read()
    assert hashlib.sha256(body).hexdigest() == large.sha256
    assert (unfinished(client, place), path.exists()) == ([], False)
