"""What the publisher's tests share: archives, a record of requests, and a fake of what hands out AWS credentials."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx2

from lora_packer.exchange import Answer, exchange
from lora_packer.http import connect as http_client
from lora_packer.http import may_pass
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.source import Source
from lora_packer.publisher.client import s3_client
from lora_packer.publisher.connection import Connection, Store
from lora_packer.publisher.downloads import Get, UnansweredError, downloads
from lora_packer.publisher.payload import Fingerprint
from lora_packer.publisher.proof import Proof, look_at
from lora_packer.publisher.retry import Patience
from lora_packer.publisher.s3uri import Destination, key_for
from lora_packer.publisher.stored import StoredObject
from lora_packer.publisher.upload import upload as upload_content
from lora_packer.redact import PresignedUrl

MIB = 1 << 20

SECRETS = (
    "ASIAFAKEFAKEFAKEFAKE",
    "fake-secret-key-that-nobody-may-see",
    "fake-session-token-that-nobody-may-see",
)
ACCESS_KEY, SECRET_KEY, TOKEN = SECRETS


@dataclass(frozen=True)
class LocalArchive:
    """A file that is as good as an archive for the store, and what it is."""

    path: Path
    content: FileSlice
    found: Fingerprint

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def sha256(self) -> str:
        return self.found.sha256

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    def key(self, place: Destination) -> str:
        return key_for(self.name, self.sha256, place)


def archive(folder: Path, size: int, *, name: str = "my-adapter.zip", seed: int = 0) -> LocalArchive:
    magic = b"PK\x03\x04" if name.endswith(".zip") else b"\x1f\x8b"
    data = (magic + random.Random(seed).randbytes(size))[:size]
    path = folder / name
    path.write_bytes(data)
    found = Fingerprint(hashlib.sha256(data).hexdigest(), zlib.crc32(data))
    return LocalArchive(path, FileSlice(Source.at(path), 0, size), found)


def upload(what: LocalArchive, place: Destination, over: Connection, **options: Any) -> StoredObject:
    return upload_content(what.content, what.name, what.found, place, over, **options)


class Clock:
    """A clock that only its own ``sleep`` moves; ``on_sleep`` is told the number of each pause."""

    def __init__(self, on_sleep: Callable[[int], None] = lambda _: None) -> None:
        self.seconds = 0.0
        self.pauses: list[float] = []
        self._on_sleep = on_sleep

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.pauses.append(seconds)
        self._on_sleep(len(self.pauses))


def patience(on_sleep: Callable[[int], None] = lambda _: None, **options: Any) -> Patience:
    """The real budgets, without the waiting."""
    clock = Clock(on_sleep)
    return Patience(clock=clock, sleep=clock.sleep, **options)


def connection(client: Any, **options: Any) -> Connection:
    return Connection(client, patience=patience(), **options)


def connect(session: Any, bucket: str, *, endpoint_url: str | None = None, **options: Any) -> Any:
    """A client for the bucket's own region."""
    return Store(session, endpoint_url, **options).connect(bucket).client


def answered_by(handler: Callable[[httpx2.Request], httpx2.Response]) -> Get:
    """Proving requests that a function answers, without a network."""
    http = http_client("https://example.com", timeout=1, transport=httpx2.MockTransport(handler))

    def get(url: str, **options: Any) -> Answer:
        try:
            return exchange(http, "GET", url, **options)
        except httpx2.HTTPError as error:
            raise UnansweredError(str(error), may_pass=may_pass(error)) from None

    return get


def prove(url: PresignedUrl, size: int | None, get: Get | None = None, **options: Any) -> Proof:
    """What the first request to a URL shows, over the network where nobody else makes it."""
    parts = urlsplit(url.reveal())
    get = get or downloads(client_at(f"{parts.scheme}://{parts.netloc}"))
    return look_at(get, url, size=size, **options)[0]


def record(client: Any) -> list[str]:
    """The names of the operations that the client sends from now on."""
    sent: list[str] = []
    client.meta.events.register("before-call.s3", lambda model, **_: sent.append(model.name))
    return sent


def unfinished(client: Any, place: Destination) -> list[str]:
    answer = client.list_multipart_uploads(Bucket=place.bucket, Prefix=place.prefix)
    return [found["UploadId"] for found in answer.get("Uploads", [])]


def start_by_hand(client: Any, place: Destination, large: LocalArchive, parts: dict[int, bytes]) -> str:
    """Leave an unfinished upload behind, as a killed run would."""
    key = large.key(place)
    upload_id: str = client.create_multipart_upload(
        Bucket=place.bucket, Key=key, ContentType="application/gzip", Metadata={"sha256": large.sha256}
    )["UploadId"]
    for number, data in parts.items():
        client.upload_part(Bucket=place.bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=data)
    return upload_id


def refuse(client: Any, operation: str, status: int, code: str) -> None:
    """Let the operation be refused."""
    from botocore.exceptions import ClientError

    def raise_it(**_: object) -> None:
        answer: Any = {
            "Error": {"Code": code, "Message": "why, AKIAFAKEFAKEFAKEFAKE"},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        raise ClientError(answer, operation)

    client.meta.events.register(f"before-call.s3.{operation}", raise_it)


def expiry(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def credential_server(*minutes: float) -> Iterator[str]:
    """An instance's metadata service, a container's, STS and SSO in one, on loopback.

    Credentials live for ``minutes``: the first value for the first answer, the last one for all that follow.
    """
    lifetimes = list(minutes)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_PUT(self) -> None:
            self._answer("token")

        def do_GET(self) -> None:
            if self.path.endswith("/security-credentials/"):
                return self._answer("a-role")
            lifetime = lifetimes.pop(0) if len(lifetimes) > 1 else lifetimes[0]
            if self.path.startswith("/federation/credentials"):
                ends = int((datetime.now(UTC) + timedelta(minutes=lifetime)).timestamp() * 1000)
                keys = {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY, "sessionToken": TOKEN}
                return self._answer(json.dumps({"roleCredentials": {**keys, "expiration": ends}}))
            keys = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": TOKEN}
            return self._answer(json.dumps({**keys, "Expiration": expiry(lifetime)}))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            action = "AssumeRoleWithWebIdentity" if "WebIdentity" in body else "AssumeRole"
            lifetime = lifetimes.pop(0) if len(lifetimes) > 1 else lifetimes[0]
            self._answer(
                f"<{action}Response xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><{action}Result><Credentials>"
                f"<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>"
                f"<SessionToken>{TOKEN}</SessionToken><Expiration>{expiry(lifetime)}</Expiration>"
                f"</Credentials></{action}Result></{action}Response>",
                "text/xml",
            )

        def _answer(self, text: str, kind: str = "application/json") -> None:
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_at(url: str, deadline: float = 20.0, **options: Any) -> Any:
    """A client of whatever answers there, whose requests take that many seconds at most."""
    session = boto3.Session("AKIAIOSFODNN7EXAMPLE", "not-a-secret", region_name="us-east-1")
    client = s3_client(session, endpoint_url=url, **options)
    client._endpoint.http_session._deadline = deadline  # type: ignore[attr-defined]
    return client
