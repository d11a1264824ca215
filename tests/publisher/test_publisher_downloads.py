"""Proving requests over the store's own connections: what goes out, what comes back, and every way it does not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from lying_server import Lies, answer, endless, lying
from publisher_support import client_at

from lora_packer.exchange import ERROR_BYTES, Answer
from lora_packer.publisher.downloads import UnansweredError, downloads

SIGNATURE = "5ca1ab1e" * 8
PATH = f"/bucket/adapters/a.zip?X-Amz-Expires=43200&X-Amz-SignedHeaders=host&X-Amz-Signature={SIGNATURE}"
_OK = b"HTTP/1.1 200 OK\r\n"


def get(url: str, most: int = 100, deadline: float = 20.0, **options: Any) -> Answer:
    take = options.pop("take", None)
    return downloads(client_at(url))(
        url + PATH, headers={"Range": "bytes=0-63"}, most=most, take=take, deadline=deadline
    )


def saying(*answers: bytes) -> tuple[Lies, list[bytes]]:
    """A server that has one answer for each request, and the heads that it got."""
    left, heads = list(answers), []

    def lies(head: bytes) -> Iterator[bytes]:
        heads.append(head)
        return iter([left.pop(0)])

    return lies, heads


def test_what_is_asked_is_what_the_downloader_will_ask() -> None:
    lies, heads = saying(answer(b"PK\x03\x04", status="206 Partial Content", headers="Content-Range: bytes 0-3/9\r\n"))
    with lying(lies) as url:
        got = get(url)
    assert (got.status, got.body, got.whole) == (206, b"PK\x03\x04", True)
    assert got.headers["content-range"] == "bytes 0-3/9"
    line, *rest = heads[0].decode().split("\r\n")
    assert line == f"GET {PATH} HTTP/1.1"
    named = {header.partition(":")[0].lower() for header in rest if header}
    assert named == {"host", "range", "accept-encoding", "user-agent"}


def test_a_redirect_is_not_followed() -> None:
    lies, heads = saying(answer(b"", status="307 X", headers="Location: /elsewhere\r\n"), answer(b"found"))
    with lying(lies) as url:
        assert get(url).status == 307
    assert len(heads) == 1


def test_what_is_more_than_was_asked_for_is_not_read() -> None:
    with lying(endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 0x10000 + b"\r\n")) as url:
        got = get(url, most=65)
    assert (got.body, got.whole) == (b"x" * 65, False)


def test_of_an_error_no_more_is_read_than_one_has() -> None:
    with lying(endless(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000)) as url:
        got = get(url, most=1)
    assert (got.status, len(got.body), got.whole) == (403, ERROR_BYTES, False)


def test_a_whole_body_is_given_piece_by_piece() -> None:
    pieces: list[bytes] = []
    lies, _ = saying(answer(b"x" * 200_000))
    with lying(lies) as url:
        got = get(url, take=pieces.append)
    assert (b"".join(pieces), got.body) == (b"x" * 200_000, b"")
    assert len(pieces) > 1


def test_the_body_of_an_error_is_no_part_of_what_was_asked_for() -> None:
    pieces: list[bytes] = []
    lies, _ = saying(answer(b"<Error/>", status="403 Forbidden"))
    with lying(lies) as url:
        assert get(url, take=pieces.append).body == b"<Error/>"
    assert pieces == []


@pytest.mark.parametrize(
    ("lies", "reason"),
    [
        (endless(_OK, b"X: y\r\n"), "not complete within 0.4 s"),
        (endless(_OK + b"Content-Length: 1000000\r\n\r\n", b"x"), "not complete within 0.4 s"),
        (endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), "not complete within 0.4 s"),
        (endless(b"HTTP/1.1 500 Sorry\r\nContent-Length: 1000000\r\n\r\n", b"x"), "not complete within 0.4 s"),
        (endless(b"", b""), "not complete within 0.4 s"),
    ],
    ids=["headers", "a body", "a chunked body", "an error", "nothing"],
)
def test_a_slow_answer_ends_with_the_deadline(lies: Lies, reason: str) -> None:
    with lying(lies, pause=0.02) as url, pytest.raises(UnansweredError, match=reason) as told:
        get(url, most=10**6, deadline=0.4)
    assert not told.value.may_pass


def test_a_long_body_has_the_time_that_it_takes() -> None:
    """Longer than the deadline: the first 64 KiB give the request four seconds more."""
    pieces = [_OK + b"Content-Length: 131072\r\n\r\n" + b"x" * 65_536, b"x" * 65_536]
    with lying(lambda _head: iter(pieces), pause=1.2) as url:
        assert len(get(url, most=10**6, deadline=1.0).body) == 131_072


def dropped(first: bytes) -> Lies:
    def lies(_head: bytes) -> Iterator[bytes]:
        yield first
        raise ConnectionResetError

    return lies


@pytest.mark.parametrize("take", [None, lambda _piece: None])
def test_an_answer_that_breaks_off_is_none(take: Any) -> None:
    with (
        lying(dropped(_OK + b"Content-Length: 100\r\n\r\nabc")) as url,
        pytest.raises(UnansweredError, match="after 3 of 100 bytes") as told,
    ):
        get(url, take=take)
    assert told.value.may_pass
    assert told.value.__cause__ is None


@pytest.mark.parametrize("first", [b"", b"nonsense\r\n\r\n", _OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"])
def test_what_is_no_answer_may_be_one_in_a_while(first: bytes) -> None:
    with lying(dropped(first)) as url, pytest.raises(UnansweredError) as told:
        get(url)
    assert told.value.may_pass


def test_nobody_is_there() -> None:
    with lying(endless(b"", b"")) as url:
        pass
    with pytest.raises(UnansweredError, match="Could not connect") as told:
        get(url)
    assert told.value.may_pass


def test_a_proxy_that_is_not_there_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    ask = downloads(client_at("http://store.example.com", allow_private=True))
    with pytest.raises(UnansweredError, match="proxy") as told:
        ask(f"http://store.example.com{PATH}", headers={}, most=1, take=None, deadline=9.0)
    assert not told.value.may_pass


def test_no_log_has_the_query(caplog: pytest.LogCaptureFixture) -> None:
    lies, _ = saying(answer(b"here"))
    with caplog.at_level(logging.DEBUG), lying(lies) as url:
        get(url)
    assert "/bucket/adapters/a.zip" in caplog.text  # it does log the request
    assert SIGNATURE not in caplog.text
