"""The store's answers through botocore, bounded in time and in bytes: botocore reads whatever comes, however long.

A socket's timeout is no bound (see ``exchange``). Here a request's connection is shut down when its own time is over,
and a body is cut where it is longer than any answer of S3's.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any

from lora_packer.exchange import DEADLINE, ERROR_BYTES, SLOWEST, Answer, read_body

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

COMPLETING = 10 * 60.0
"""Seconds that CompleteMultipartUpload may take: S3 says that it can need several minutes
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html)."""

MAX_PAGE = 8 * 2**20
"""Bytes of the longest answer that is read; a page of a list has a thousand entries at most."""

_PIECE = 2**16  # bytes
_MAX_LINES = 100  # headers of an interim answer


class StoreTooSlowError(TimeoutError):
    """The store's answer was not complete in time: another try would be as slow."""


def bound(client: S3Client, deadline: float = DEADLINE) -> None:
    """Bound every request of the client: ``deadline`` seconds, and one more for each ``SLOWEST`` bytes of its body."""
    endpoint: Any = client._endpoint  # type: ignore[attr-defined]  # there is no public way to a client's connections
    session = endpoint.http_session
    session._pool_classes_by_scheme.update(_pools())
    endpoint.http_session = BoundedSession(session, deadline)


def session_of(client: S3Client) -> BoundedSession:
    """Return what carries the requests of a client that was bound."""
    session = client._endpoint.http_session  # type: ignore[attr-defined]
    assert isinstance(session, BoundedSession)
    return session


class BoundedSession:
    """botocore's session, whose requests end in time."""

    def __init__(self, session: Any, deadline: float) -> None:
        self._session = session
        self._deadline = deadline

    def close(self) -> None:
        """Close its connections."""
        self._session.close()

    def open(self, url: str) -> None:
        """Open a connection for a request that will be made of this URL's host. Raises OSError and urllib3's errors.

        What goes through a proxy finds its own way.
        """
        session = self._session
        if session._proxy_config.proxy_url_for(url) is not None:
            return
        pool = session._manager.connection_from_url(url)
        session._setup_ssl_cert(pool, url, session._verify)
        connection = pool._new_conn()
        connection.connect()
        # The pool gives the last one first, and takes no more than it has places: the new one goes below those in use.
        used = []
        while (one := pool._get_conn()).sock is not None:
            used.append(one)
        for one in (connection, *reversed(used)):
            pool._put_conn(one)

    def send(self, request: Any) -> Any:
        """Send a request and return its answer, read. Raises what botocore's session does, and StoreTooSlowError."""
        from botocore.awsrequest import AWSResponse

        streamed, request.stream_output = request.stream_output, True  # read here, or where it is asked for
        seconds = self._deadline + _length(request) / SLOWEST
        if request.method == "POST" and "uploadId=" in request.url:
            seconds = max(seconds, COMPLETING if self._deadline >= DEADLINE else self._deadline)
        with _watched(request, seconds):
            answer = self._session.send(request)
            if streamed:
                return answer
            body = _body(answer)
        return AWSResponse(answer.url, answer.status_code, answer.headers, _Read(body))

    def get(self, request: Any, *, most: int, take: Callable[[bytes], None] | None, deadline: float) -> Answer:
        """Send a GET that nobody signs, and return its answer (``exchange`` has the meaning of the arguments).

        Raises what botocore's session does, StoreTooSlowError, and ConnectionError where the answer broke off.
        """
        request.stream_output = True
        with _watched(request, min(deadline, self._deadline)) as watch:
            answer = self._session.send(request)
            good = 200 <= answer.status_code < 300
            body, whole = read_body(_whole_pieces(answer, watch), good=good, most=most, take=take)
            if not whole:
                answer.raw.close()
        return Answer(answer.status_code, answer.headers, body, whole, request.url)


class _Read:
    """A body that was read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def _length(request: Any) -> int:
    length = request.headers.get("Content-Length", "0")
    text = length.decode() if isinstance(length, bytes) else str(length)
    return int(text) if text.isdigit() else 0


def _body(answer: Any) -> bytes:
    """Read an answer: a success whole, else ValueError; of an error what is longer than one is is left out."""
    good = 200 <= answer.status_code < 300
    most = MAX_PAGE if good else ERROR_BYTES
    body = bytearray()
    for piece in answer.raw.stream(_PIECE):
        body += piece
        if len(body) > most:
            answer.raw.close()
            if good:
                raise ValueError(f"the answer is longer than {most} bytes")
            return b""  # botocore goes by the status then
    return bytes(body)


def _whole_pieces(answer: Any, watch: _Watch) -> Iterator[bytes]:
    """A body as it comes; botocore has urllib3 not look whether all of it did. Raises ConnectionError where not."""
    told, received = answer.headers.get("Content-Length", ""), 0
    for piece in answer.raw.stream(_PIECE):
        received += len(piece)
        watch.moved(len(piece))
        yield piece
    if told.isdigit() and received < int(told):
        raise ConnectionError(f"the answer ended after {received} of {told} bytes")


@contextmanager
def _watched(request: Any, seconds: float) -> Iterator[_Watch]:
    """End a request when its time is over. Raises what botocore's session does, and StoreTooSlowError."""
    from botocore.exceptions import ConnectionClosedError
    from urllib3.exceptions import HTTPError

    watch = _Watch(seconds)
    try:
        with watch:
            yield watch
    except HTTPError as error:
        watch.raise_if_over()
        raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from None
    except Exception:
        watch.raise_if_over()
        raise
    watch.raise_if_over()  # cut short, an answer may look whole


class _Watch:
    """Shuts a request's connection down when its time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._connections: list[Any] = []
        self._sockets: list[Any] = []
        self._is_over = False
        self._is_done = False
        self._timer = self._timer_of(seconds)

    def __enter__(self) -> None:
        _request.watch = self
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_done = True
            self._timer.cancel()
            self._connections.clear()
            self._sockets.clear()
        _request.watch = None

    def _timer_of(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        return timer

    def moved(self, size: int) -> None:
        """Give the time that so many bytes of an answer may take."""
        self._ends += size / SLOWEST

    def add(self, connection: Any) -> None:
        """Take note of a connection that the request uses."""
        with self._lock:
            self._connections.append(connection)
            # Kept by itself, too: it is taken from the connection where the answer is to end with it.
            self._sockets.append(connection.sock)

    def raise_if_over(self) -> None:
        """Raise StoreTooSlowError where the time was over before the answer was complete."""
        if self._is_over:
            raise StoreTooSlowError(f"the answer was not complete within {self._seconds:g} s") from None

    def _end(self) -> None:
        with self._lock:
            if self._is_done:
                return
            left = self._ends - time.monotonic()
            if left > 0:
                self._timer = self._timer_of(left)
                self._timer.start()
                return
            self._is_over = bool(self._connections)
            for sock in {*self._sockets, *(connection.sock for connection in self._connections)} - {None}:
                # TLS within TLS has its socket inside. Not the method of an SSLSocket, which would take the session
                # from under who reads.
                with suppress(OSError, TypeError):
                    socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


_request = threading.local()  # .watch: over the request that this thread is making


@cache
def _pools() -> dict[str, Any]:
    """botocore's kinds of connections, by scheme, made so that each request's is known to its watch."""
    from botocore import awsrequest

    def watched(base: Any) -> Any:
        class Watched(base):  # type: ignore[misc]
            def connect(self) -> Any:
                _note(self)
                super().connect()
                _note(self)

            def request(self, *args: Any, **options: Any) -> Any:
                _note(self)
                return super().request(*args, **options)

            def _consume_headers(self, fp: Any) -> None:
                # botocore's own waits for an empty line for ever, even where the connection is gone.
                for _ in range(_MAX_LINES):
                    if fp.readline(_PIECE) in (b"\r\n", b"\n", b""):
                        return
                raise ValueError("an interim answer has headers without end")

        return Watched

    def pool(base: Any, connection: Any) -> Any:
        return type(base.__name__, (base,), {"ConnectionCls": watched(connection)})

    return {
        "http": pool(awsrequest.AWSHTTPConnectionPool, awsrequest.AWSHTTPConnection),
        "https": pool(awsrequest.AWSHTTPSConnectionPool, awsrequest.AWSHTTPSConnection),
    }


def _note(connection: Any) -> None:
    watch = getattr(_request, "watch", None)
    if watch is not None:
        watch.add(connection)
