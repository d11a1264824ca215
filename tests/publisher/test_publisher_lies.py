"""A store that lies: each lie is a sentence, soon, and costs no memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from lying_server import Lies, answer, endless, lying
from publisher_support import client_at

from lora_packer.publisher.errors import S3Error, s3_call

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"


def ask(client: Any, operation: str = "list_multipart_uploads", **options: Any) -> Any:
    with s3_call(operation, "s3://bucket/"):
        return getattr(client, operation)(Bucket="bucket", **options)


SLOW: dict[str, tuple[Lies, float]] = {
    "headers": (endless(_OK, b"X: y\r\n"), 0.02),
    "a body": (endless(_OK + b"Content-Length: 1000000\r\n\r\n", b"x"), 0.02),
    "a chunked body": (endless(_OK + _CHUNKED, b"1\r\nx\r\n"), 0.02),
    "a body without a length": (endless(_OK + b"\r\n", b"x"), 0.02),
    "an error": (endless(b"HTTP/1.1 500 Sorry\r\nContent-Length: 1000000\r\n\r\n", b"x"), 0.02),
    "interim answers": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), 0.0),
    "nothing": (endless(b"", b""), 0.02),
}


@pytest.mark.parametrize("operation", ["list_multipart_uploads", "put_object", "upload_part"])
@pytest.mark.parametrize(("lies", "pause"), SLOW.values(), ids=SLOW)
def test_slow_answer_ends_with_the_deadline(lies: Lies, pause: float, operation: str) -> None:
    options = {"put_object": {"Key": "k", "Body": b"x"}, "list_multipart_uploads": {}}.get(
        operation, {"Key": "k", "Body": b"x", "UploadId": "u", "PartNumber": 1}
    )
    with lying(lies, pause=pause) as url, pytest.raises(S3Error, match="not complete within") as told:
        ask(client_at(url, 0.3), operation, **options)
    assert not told.value.transient


def test_connection_that_is_used_again_keeps_the_deadline() -> None:
    page = answer(b"<ListMultipartUploadsResult/>")
    asked = []

    def lies(head: bytes) -> Iterator[bytes]:
        asked.append(head)
        return iter([page]) if len(asked) == 1 else endless(_OK, b"X: y\r\n")(head)

    with lying(lies, pause=0.02) as url:
        client = client_at(url, 0.5)
        ask(client)
        with pytest.raises(S3Error, match="not complete within"):
            ask(client)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Sorry"])
def test_endless_body_is_cut(status: str) -> None:
    with lying(endless(f"HTTP/1.1 {status}\r\n".encode() + _CHUNKED, _CHUNKS)) as url:
        client = client_at(url)
        tracemalloc.start()
        try:
            with pytest.raises(S3Error, match="longer than" if status == "200 OK" else f"HTTP {status[:3]}"):
                ask(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 64 * 2**20
