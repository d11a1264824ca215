"""Publishing as a whole, against a real S3 server: refused early, uploaded once, and a URL that is proven."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from fault_proxy import Fault, http, proxy_to
from publisher_support import LocalArchive, archive, expiry, prove
from s3_support import local_s3, session_for

from lora_packer.errors import CredentialsError, InputError, PublishError
from lora_packer.exchange import Answer
from lora_packer.publisher import Published, presign_object, publish
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.credentials import freeze
from lora_packer.publisher.downloads import downloads
from lora_packer.publisher.presign import presign
from lora_packer.publisher.upload import upload
from lora_packer.redact import PresignedUrl
from lora_packer.sandbox.s3 import LocalS3

__all__ = ["local_s3"]


@pytest.fixture
def to(local_s3: LocalS3, request: pytest.FixtureRequest) -> str:
    """A destination that no other test uses."""
    return f"s3://{local_s3.bucket}/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/"


@pytest.fixture
def adapter(tmp_path: Path) -> LocalArchive:
    return archive(tmp_path, 50_000)


@pytest.fixture
def environment(local_s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's keys and address, where boto3 looks for them."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", local_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", local_s3.secret_key.reveal())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", local_s3.endpoint_url)


def objects(server: LocalS3, to: str) -> list[str]:
    client = s3_client(session_for(server), endpoint_url=server.endpoint_url)
    bucket, _, prefix = to.removeprefix("s3://").partition("/")
    return [found["Key"] for found in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def get(url: str, byte_range: str | None = "bytes=0-0") -> httpx2.Response:
    return httpx2.get(url, headers={"Range": byte_range} if byte_range else {}, follow_redirects=False)


def test_an_archive_is_published_once(environment: None, local_s3: LocalS3, adapter: LocalArchive, to: str) -> None:
    before = datetime.now(UTC)
    first = publish(adapter.content, adapter.name, to)
    second = publish(adapter.content, adapter.name, to)
    assert (first.object.uploaded, second.object.uploaded) == (True, False)
    assert objects(local_s3, to) == [first.object.key]
    for published in (first, second):
        assert published.signer_lifetime_known
        assert published.deadline == published.url.deadline
        assert timedelta(hours=11, minutes=59) < published.deadline - before < timedelta(hours=12, minutes=5)
        assert (published.proof.status, published.proof.size) == (206, 50_000)

    one_byte = get(first.url.reveal())
    assert (one_byte.status_code, one_byte.headers["Content-Range"]) == (206, "bytes 0-0/50000")
    assert get(first.url.reveal(), None).content == adapter.data


@pytest.mark.parametrize("part", ["signature", "key", "expiry"])
def test_a_url_with_one_character_changed_is_refused(
    part: str, environment: None, adapter: LocalArchive, to: str
) -> None:
    url = publish(adapter.content, adapter.name, to).url.reveal()
    last = url[-1]
    changed = {
        "signature": url[:-1] + ("0" if last != "0" else "1"),
        "key": url.replace("my-adapter", "my-adapteR"),
        "expiry": url.replace("X-Amz-Expires=43200", "X-Amz-Expires=43201"),
    }[part]
    assert changed != url
    assert get(changed).status_code == 403
    with pytest.raises(PublishError, match="HTTP 403 SignatureDoesNotMatch"):
        prove(PresignedUrl(changed), 50_000)


def test_an_expired_url_is_refused(
    environment: None, local_s3: LocalS3, adapter: LocalArchive, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = publish(adapter.content, adapter.name, to).object
    session = session_for(local_s3)
    by = freeze(session)
    client = s3_client(session, endpoint_url=local_s3.endpoint_url, signer=by)

    def minted(age: timedelta) -> PresignedUrl:
        # botocore dates a URL with this function; the past needs no waiting.
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.now(UTC) - age)
        return presign(client, by, bucket=stored.bucket, key=stored.key, expires_in=timedelta(minutes=100))

    assert get(minted(timedelta(minutes=99)).reveal()).status_code == 206
    expired = minted(timedelta(minutes=101))
    assert get(expired.reveal()).status_code == 403
    with pytest.raises(PublishError, match=r"HTTP 403 AccessDenied.*expired") as caught:
        prove(expired, stored.size)
    assert "Mint a new one" in (caught.value.hint or "")


def test_a_url_that_who_fetches_it_could_not_is_refused_before_anything_is_sent(
    environment: None, local_s3: LocalS3, adapter: LocalArchive, to: str
) -> None:
    told: list[PresignedUrl] = []

    def accept(url: PresignedUrl) -> None:
        told.append(url)
        raise InputError("The service could not fetch from there.")

    with pytest.raises(InputError, match="could not fetch"):
        publish(adapter.content, adapter.name, to, accept=accept)
    (url,) = told
    assert str(url) == f"{local_s3.endpoint_url}/{to.removeprefix('s3://')}my-adapter-{adapter.sha256[:16]}.zip?***"
    assert objects(local_s3, to) == []


@pytest.mark.parametrize("minutes", [30, 59, -10])
def test_credentials_that_end_too_early_stop_it_before_anything_is_sent(
    minutes: int,
    environment: None,
    local_s3: LocalS3,
    adapter: LocalArchive,
    to: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", expiry(minutes))
    with pytest.raises(CredentialsError, match="live for" if minutes > 0 else "ended at") as caught:
        publish(adapter.content, adapter.name, to)
    assert caught.value.hint
    assert objects(local_s3, to) == []


def test_a_url_ends_with_its_credentials_and_that_is_said(
    environment: None, adapter: LocalArchive, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = expiry(180)
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", ends)
    notes: list[str] = []
    published = publish(adapter.content, adapter.name, to, note=notes.append)
    credentials_end = datetime.fromisoformat(ends)
    assert credentials_end - timedelta(seconds=30) < published.deadline <= credentials_end
    assert published.signer_lifetime_known
    (note,) = notes
    assert "not 12 h" in note
    assert "credentials" in note


def test_an_unknown_end_is_accepted_and_marked(
    environment: None, adapter: LocalArchive, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A token that the server does not check, without an expiry.
    first = publish(adapter.content, adapter.name, to)
    monkeypatch.setattr(
        "lora_packer.publisher.connection.signer",
        lambda session, *_, **__: replace_expiry(freeze(session), known=False),
    )
    assert first.signer_lifetime_known
    assert not publish(adapter.content, adapter.name, to).signer_lifetime_known


def replace_expiry(found: Any, *, known: bool) -> Any:
    class Unknown:
        provider, description = found.provider, found.description
        access_key, secret_key, token = found.access_key, found.secret_key, None
        expires_at, lifetime_known = None, known

    return Unknown()


def test_without_the_archive_a_new_url_is_minted_and_nothing_sent(
    environment: None, local_s3: LocalS3, adapter: LocalArchive, to: str
) -> None:
    stored = publish(adapter.content, adapter.name, to).object
    adapter.path.unlink()
    again = presign_object(stored.uri, expires_in=timedelta(hours=2), verify_full=True)
    assert again.object == replace(stored, uploaded=False, integrity=None)
    assert "all its 50,000 bytes were downloaded, and have the archive's SHA-256" in again.proof.proven
    assert again.deadline - datetime.now(UTC) <= timedelta(hours=2)


def test_an_object_that_was_replaced_meanwhile_gets_no_url(
    environment: None, local_s3: LocalS3, adapter: LocalArchive, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = s3_client(session_for(local_s3), endpoint_url=local_s3.endpoint_url)
    gets, over = downloads(client), threading.Event()

    def get(*given: Any, **options: Any) -> Answer:
        assert over.wait(20)
        return gets(*given, **options)

    def replaced(*args: Any, **options: Any) -> Any:
        stored = upload(*args, **options)
        client.put_object(Bucket=stored.bucket, Key=stored.key, Body=b"other")
        over.set()
        return stored

    monkeypatch.setattr("lora_packer.publisher.upload", replaced)
    with pytest.raises(PublishError, match="5 bytes long, not 50000"):
        publish(adapter.content, adapter.name, to, get=get)


@pytest.mark.parametrize("operation", ["HeadObject", "PutObject"])
def test_credentials_that_expire_on_the_way_are_read_anew(
    operation: str,
    environment: None,
    local_s3: LocalS3,
    adapter: LocalArchive,
    to: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A program that hands out others from its second call on; the first ones expire during the upload."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    keys = {"Version": 1, "AccessKeyId": local_s3.access_key, "SecretAccessKey": local_s3.secret_key.reveal()}
    program, calls = tmp_path / "credentials.py", tmp_path / "calls"
    program.write_text(f"open({str(calls)!r}, 'a').write('.')\nprint({json.dumps(json.dumps(keys))})\n")
    config = tmp_path / "config"
    config.write_text(f"[default]\ncredential_process = {sys.executable} -I -S {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with proxy_to(local_s3.endpoint_url) as proxy:
        # What is asked ahead is asked again where it was not answered.
        times = 2 if operation == "HeadObject" else 1
        proxy.add(Fault(operation, "answer", times=times, answer=http(400, "ExpiredToken")))
        published = publish(adapter.content, adapter.name, to, endpoint_url=proxy.url)
    assert (published.object.uploaded, calls.read_text()) == (True, "..")
    assert proxy.seen.count("PutObject") == (2 if operation == "PutObject" else 1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"expires_in": timedelta(minutes=99)}, InputError),
        ({"expires_in": timedelta(days=8)}, InputError),
        ({"to": "https://example.com/"}, InputError),
        ({"to": "s3://express--use1-az4--x-s3/"}, InputError),
        ({"endpoint_url": "http://example.com"}, InputError),
        ({"to": "s3://no-such-bucket/"}, PublishError),
        ({"name": "adapter.tgz"}, InputError),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    options: dict[str, Any],
    error: type[Exception],
    environment: None,
    local_s3: LocalS3,
    adapter: LocalArchive,
    to: str,
) -> None:
    with pytest.raises(error):
        publish(adapter.content, **{"name": adapter.name, "to": to, **options})
    assert objects(local_s3, to) == []


def test_a_session_and_an_endpoint_can_be_given(local_s3: LocalS3, adapter: LocalArchive, to: str) -> None:
    published = publish(
        adapter.content, adapter.name, to, session=session_for(local_s3), endpoint_url=local_s3.endpoint_url
    )
    assert published.url.reveal().startswith(local_s3.endpoint_url)


def test_without_credentials_it_says_what_to_set(adapter: LocalArchive) -> None:
    with pytest.raises(CredentialsError, match="No AWS credentials were found"):
        publish(adapter.content, adapter.name, "s3://bucket/")


def test_a_profile_that_does_not_exist(adapter: LocalArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(CredentialsError, match="no-such-profile"):
        publish(adapter.content, adapter.name, "s3://bucket/")


def test_what_is_published_does_not_show_its_url(
    environment: None, local_s3: LocalS3, adapter: LocalArchive, to: str
) -> None:
    published = publish(adapter.content, adapter.name, to)
    data = json.dumps(published.to_dict())
    base = published.url.reveal().partition("?")[0]
    assert published.to_dict()["url"] == base
    for text in (data, repr(published), str(published)):
        assert base in text
        assert "X-Amz" not in text
        assert local_s3.secret_key.reveal() not in text
    assert published.object == type(published.object)(**published.to_dict()["object"])
    assert isinstance(published, Published)


def test_what_the_server_refuses_does_not_show_a_secret(
    local_s3: LocalS3, adapter: LocalArchive, to: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "wrong-secret-key-that-nobody-may-see"
    session = boto3.Session(local_s3.access_key, secret, "a-token-that-nobody-may-see")
    with pytest.raises(PublishError) as caught:
        publish(adapter.content, adapter.name, to, session=session, endpoint_url=local_s3.endpoint_url)
    out, err = capfd.readouterr()
    for text in (str(caught.value), repr(caught.value), out, err):
        assert not any(hidden in text for hidden in (secret, "a-token-that", "Signature="))


def test_the_room_imports_nothing_heavy() -> None:
    program = "import sys, lora_packer.publisher; print(*{'boto3', 'botocore', 'httpx2', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
