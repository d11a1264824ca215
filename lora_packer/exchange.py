"""One HTTP request and its answer, bounded in time and in bytes whatever the server does.

A socket's timeout is no bound: a server that sends a byte now and then, or interim answers without end, renews it
forever. Here each read and write of a connection gets what is left of the request's own time, and a body is cut where
it is longer than it may be, before it is unpacked and while it comes.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from lora_packer.frozen import frozen

if TYPE_CHECKING:
    import httpx2

DEADLINE = 30.0
"""Seconds that a request may take from its first byte to its answer's last, whoever is asked."""

WORK_DEADLINE = 60.0
"""The same for a request that has the service do something before it answers, such as to make a job."""

SILENCE = 20.0
"""Seconds without a byte after which a connection counts as dead: another try may do better."""

SLOWEST = 16 * 2**10
"""Bytes a second of a body: each that many that are on their way give the request another second."""

ERROR_BYTES = 256 * 2**10
"""Bytes of an error's body that are looked at; what comes after them is not fetched."""

HEAD_BYTES = 256 * 2**10
"""Bytes of an answer's headers, with those of the interim answers before it; httpcore2 reads interim ones for ever."""

_MAX_REDIRECTS = 5
_PIECE = 2**16  # bytes
_TO_SEND = 2**14  # bytes of one write: so little that a slow reader cannot hold it up for long
_FRESH = (".connect_tcp.complete", ".start_tls.complete")


@frozen
class Answer:
    """What a request was answered.

    Attributes:
        status: the HTTP status.
        headers: those of the answer; upper or lower case is the same.
        body: its first bytes, unpacked; empty where they were given to ``take``.
        whole: whether that is all of it.
        url: the address that answered, after redirects. It may be a secret.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    url: str

    @property
    def is_success(self) -> bool:
        """Whether the status says so."""
        return 200 <= self.status < 300


def exchange(
    client: httpx2.Client,
    method: str,
    url: str,
    *,
    most: int,
    headers: Mapping[str, str] | None = None,
    content: bytes | Iterable[bytes] | None = None,
    deadline: float = DEADLINE,
    take: Callable[[bytes], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Answer:
    """Send a request and return its answer.

    Args:
        client: a client of ``http.connect``.
        method: the HTTP method.
        url: the address.
        most: bytes of a success's body to read; what comes after them is not fetched. Of an error's: ``ERROR_BYTES``.
        headers: sent besides the client's own.
        content: the body to send.
        deadline: seconds that all of it may take, and one more for each ``SLOWEST`` bytes of a body.
        take: is given all of a success's body, piece by piece, instead of its first bytes being kept.
        clock: the time in seconds, for the deadline.

    Raises:
        httpx2.HTTPError: there was no answer, or it broke; ``is_final`` says where another try cannot do better.
        httpx2.InvalidURL: the address is none.
    """
    import httpx2

    left = _Left(deadline, clock)
    request = client.build_request(method, url, headers=headers, content=content, extensions={"trace": _bound})
    try:
        with _within(left), closing(_answered(client, request, left)) as response:
            body, whole = read_body(_pieces(response, left), good=response.is_success, most=most, take=take)
            return Answer(response.status_code, response.headers, body, whole, str(response.url))
    except httpx2.TimeoutException:
        if left.seconds <= 0:
            raise slow_error(deadline) from None
        raise


def _answered(client: httpx2.Client, request: httpx2.Request, left: _Left) -> httpx2.Response:
    """Send the request, and follow redirects where the client does: httpx2 reads their bodies, however long they are.

    The body of what is returned is yet to come. Raises httpx2.HTTPError.
    """
    import httpx2

    for _ in range(_MAX_REDIRECTS + 1):
        left.head = HEAD_BYTES
        response = client.send(request, stream=True, follow_redirects=False)
        left.head = None
        if not client.follow_redirects or response.next_request is None:
            return response
        request = response.next_request  # without the credentials, where it is for somebody else
        with closing(response):
            _first(_pieces(response, left), ERROR_BYTES)  # read to its end, the connection can be used again
    raise httpx2.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects", request=request)


def is_final(error: Exception) -> bool:
    """Whether the same request would end in the same way: the answer is too slow, too long or in no form to be read."""
    import httpx2

    return isinstance(error, _slow_type() | httpx2.DecodingError | httpx2.TooManyRedirects)


def slow_error(deadline: float) -> httpx2.ReadTimeout:
    """Return the error for an answer that was not complete within so many seconds."""
    return _slow_type()(f"the answer was not complete within {deadline:g} s")


@cache
def _slow_type() -> type[httpx2.ReadTimeout]:
    import httpx2

    class SlowAnswerError(httpx2.ReadTimeout):
        """A request's own time is over."""

    return SlowAnswerError


class _Left:
    """What is left of a request's time; ``head``: of the bytes that its answer's headers may have, None in a body."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends = clock() + seconds
        self.head: int | None = None

    @property
    def seconds(self) -> float:
        return self._ends - self._clock()

    def moved(self, size: int) -> None:
        """Give the time that so many bytes of a body may take."""
        self._ends += size / SLOWEST


_request = threading.local()  # .left: of the request that this thread is making; a connection is used by one at a time


@contextmanager
def _within(left: _Left) -> Iterator[None]:
    before = getattr(_request, "left", None)
    _request.left = left
    try:
        yield
    finally:
        _request.left = before


def _bound(event: str, info: Mapping[str, Any]) -> None:
    """Bound the reads and writes of each new connection: httpcore2 calls this at each step (its "trace" extension)."""
    stream = info.get("return_value")
    if not event.endswith(_FRESH) or stream is None:
        return
    for name, bounded in (("read", _reading(stream.read)), ("write", _writing(stream.write))):
        setattr(stream, name, bounded)


def _reading(read: Callable[..., bytes]) -> Callable[..., bytes]:
    def bounded(max_bytes: int, timeout: float | None = None) -> bytes:
        data = read(max_bytes, timeout=_shorter(timeout))
        left = getattr(_request, "left", None)
        if left is not None and left.head is not None:
            left.head -= len(data)
            if left.head < 0:
                import httpcore2

                raise httpcore2.RemoteProtocolError(f"the answer has more than {HEAD_BYTES} bytes of headers")
        return data

    return bounded


def _writing(write: Callable[..., None]) -> Callable[..., None]:
    def bounded(buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        while view:
            piece, view = view[:_TO_SEND], view[_TO_SEND:]
            write(piece, timeout=_shorter(timeout))
            if left := getattr(_request, "left", None):
                left.moved(len(piece))

    return bounded


def _shorter(timeout: float | None) -> float | None:
    """The socket's timeout, or what is left of the request's time where that is less."""
    import httpcore2

    left = getattr(_request, "left", None)
    if left is None:
        return timeout
    seconds: float = left.seconds
    if seconds <= 0:
        raise httpcore2.ReadTimeout("the request's time is over")
    return seconds if timeout is None else min(timeout, seconds)


def _pieces(response: httpx2.Response, left: _Left) -> Iterator[bytes]:
    """The body, unpacked, in pieces. Raises httpx2.HTTPError."""
    import httpx2

    def came() -> Iterator[bytes]:
        for raw in response.iter_raw():
            if left.seconds <= 0:
                raise httpx2.ReadTimeout("the request's time is over")
            left.moved(len(raw))
            yield raw

    coding = response.headers.get("Content-Encoding", "").strip().lower()
    if response.is_stream_consumed:  # an answer that was never on a network
        yield from response.iter_bytes()
    elif coding in ("", "identity"):
        yield from came()
    elif coding in ("gzip", "x-gzip", "deflate"):
        yield from _unpacked(came())
    else:
        raise httpx2.DecodingError("the answer is packed in a way that was not asked for")


def _unpacked(packed: Iterable[bytes]) -> Iterator[bytes]:
    """Unpack gzip or zlib, never more than a piece at a time: a kilobyte may hold a megabyte."""
    import httpx2

    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    for data in packed:
        while data and not inflate.eof:
            try:
                piece = inflate.decompress(data, _PIECE)
            except zlib.error as error:
                raise httpx2.DecodingError(f"the answer cannot be unpacked: {error}") from None
            data = inflate.unconsumed_tail
            yield piece


def read_body(
    pieces: Iterable[bytes], *, good: bool, most: int, take: Callable[[bytes], None] | None
) -> tuple[bytes, bool]:
    """Return what is kept of an answer's body, and whether it was read to its end; see ``exchange``.

    ``good`` says whether it is a success's.
    """
    if not good or take is None:
        return _first(pieces, most if good else ERROR_BYTES)
    for piece in pieces:
        take(piece)
    return b"", True


def _first(pieces: Iterable[bytes], most: int) -> tuple[bytes, bool]:
    """The first bytes, and whether they are all."""
    body = bytearray()
    for piece in pieces:
        body += piece[: most + 1 - len(body)]
        if len(body) > most:
            return bytes(body[:most]), False
    return bytes(body), True
