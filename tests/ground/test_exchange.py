"""A request lasts no longer than its deadline and takes no more than it may, whatever the server sends."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator

import httpx2
import pytest
from lying_server import Lies, answer, endless, lying

from lora_packer.exchange import ERROR_BYTES, Answer, exchange, is_final
from lora_packer.http import connect

_SHORT = 0.2  # seconds of a deadline; the servers would go on for ever
_OPEN = b"HTTP/1.1 200 OK\r\n"


def ask(url: str, *, most: int = 1000, deadline: float = 20.0, content: bytes | None = None) -> Answer:
    with connect(url, timeout=10.0) as client:
        method = "GET" if content is None else "PUT"
        return exchange(client, method, url, most=most, deadline=deadline, content=content)


SLOW: dict[str, tuple[Lies, float]] = {
    "headers": (endless(_OPEN, b"X: y\r\n"), 0.02),
    "one header": (endless(_OPEN + b"X: ", b"y"), 0.02),
    "a body": (endless(_OPEN + b"Content-Length: 1000000\r\n\r\n", b"x"), 0.02),
    "an error's body": (endless(b"HTTP/1.1 500 Sorry\r\nContent-Length: 1000000\r\n\r\n", b"x"), 0.02),
    "a chunked body": (endless(_OPEN + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), 0.02),
    "interim answers": (endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), 0.02),
    "nothing": (endless(b"", b""), 0.02),
}


@pytest.mark.parametrize(("lies", "pause"), SLOW.values(), ids=SLOW)
def test_slow_answer_ends_with_the_deadline(lies: Lies, pause: float) -> None:
    with (
        lying(lies, pause=pause) as url,
        pytest.raises(httpx2.ReadTimeout, match=r"not complete within 0\.2 s") as told,
    ):
        ask(url, deadline=_SHORT)
    assert is_final(told.value)


def test_connection_that_is_used_again_keeps_the_deadline() -> None:
    def lies(head: bytes) -> Iterator[bytes]:
        return iter([answer(b"good")]) if b"/first" in head else endless(_OPEN, b"X: y\r\n")(head)

    with lying(lies, pause=0.02) as url, connect(url, timeout=10.0) as client:
        assert exchange(client, "GET", f"{url}/first", most=10).body == b"good"
        with pytest.raises(httpx2.ReadTimeout):
            exchange(client, "GET", f"{url}/second", most=10, deadline=_SHORT)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Sorry"])
def test_endless_body_is_cut(status: str) -> None:
    head = f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with lying(endless(head, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")) as url:
        got = ask(url, most=ERROR_BYTES)
    assert (len(got.body), got.whole) == (ERROR_BYTES, False)


def test_error_is_cut_earlier_than_an_answer() -> None:
    body = b"x" * (ERROR_BYTES + 1)
    with lying(lambda _: iter([answer(body, status="500 Sorry")])) as url:
        assert len(ask(url, most=10**9).body) == ERROR_BYTES
    with lying(lambda _: iter([answer(body)])) as url:
        assert ask(url, most=10**9).body == body


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_packed_body_is_never_unpacked_whole(status: str) -> None:
    bomb = gzip.compress(bytes(64 * 2**20))
    with lying(lambda _: iter([answer(bomb, status=status, headers="Content-Encoding: gzip\r\n")])) as url:
        tracemalloc.start()
        try:
            got = ask(url, most=ERROR_BYTES)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (len(got.body), got.whole) == (ERROR_BYTES, False)
    assert peak < 8 * 2**20


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
def test_packed_body_is_read(coding: str) -> None:
    packed = answer(gzip.compress(b"hello" * 1000), headers=f"Content-Encoding: {coding}\r\n")
    with lying(lambda _: iter([packed])) as url:
        assert ask(url, most=10_000).body == b"hello" * 1000


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "gzip"])
def test_other_packing_is_refused(coding: str) -> None:
    with (
        lying(lambda _: iter([answer(b"no gzip", headers=f"Content-Encoding: {coding}\r\n")])) as url,
        pytest.raises(httpx2.DecodingError) as told,
    ):
        ask(url)
    assert is_final(told.value)


@pytest.mark.parametrize(
    "lies",
    [endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 100), endless(b"", b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n" * 100)],
)
def test_interim_answers_are_bounded(lies: Lies) -> None:
    with lying(lies) as url, pytest.raises(httpx2.RemoteProtocolError, match="more than 262144 bytes of headers"):
        ask(url)


def test_interim_answers_before_a_body_that_is_longer_than_headers_may_be() -> None:
    given = b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + answer(bytes(2**19))
    with lying(lambda _: iter([given])) as url:
        assert len(ask(url, most=2**20).body) == 2**19


def test_large_bodies_have_the_time_they_need() -> None:
    """Each 16 KiB give a second more: half a megabyte each way outlives a deadline that is over at once."""
    ticks = iter(range(10**6))
    body = bytes(2**19)
    with lying(lambda _: iter([answer(body)])) as url, connect(url, timeout=10.0) as client:
        got = exchange(client, "PUT", url, most=2**20, content=body, deadline=12.0, clock=lambda: next(ticks) / 10)
    assert got.body == body


def test_body_is_taken_in_pieces() -> None:
    pieces: list[bytes] = []
    body = bytes(2**20)
    with lying(lambda _: iter([answer(body)])) as url, connect(url, timeout=10.0) as client:
        got = exchange(client, "GET", url, most=0, take=pieces.append)
    assert (b"".join(pieces), got.body, got.whole) == (body, b"", True)


def test_error_is_not_given_to_take() -> None:
    pieces: list[bytes] = []
    with (
        lying(lambda _: iter([answer(b"no", status="404 Not Found")])) as url,
        connect(url, timeout=10.0) as client,
    ):
        got = exchange(client, "GET", url, most=0, take=pieces.append)
    assert (pieces, got.status, got.body) == ([], 404, b"no")


def test_redirects_are_followed_where_the_client_does_and_their_bodies_are_cut() -> None:
    def lies(head: bytes) -> Iterator[bytes]:
        if b"GET /end" in head:
            return iter([answer(b"here")])
        there = b"/end" if b"GET /start" in head else b"/again"
        first = b"HTTP/1.1 302 Found\r\nLocation: " + there + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        return endless(first, b"10000\r\n" + b"x" * 0x10000 + b"\r\n")(head)

    with lying(lies) as url:
        with connect(url, timeout=10.0, follow_redirects=True) as client:
            got = exchange(client, "GET", f"{url}/start", most=10)
            assert (got.body, got.url) == (b"here", f"{url}/end")
            with pytest.raises(httpx2.TooManyRedirects) as told:
                exchange(client, "GET", f"{url}/loop", most=10)
            assert is_final(told.value)
        with connect(url, timeout=10.0) as client:
            assert exchange(client, "GET", f"{url}/start", most=10).status == 302
