"""A TCP proxy in front of a real S3 server that does to chosen requests what networks and servers do."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Literal

_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_CHUNK = 1 << 16
_ABORTING = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: close() sends a reset

# Operation -> how its request begins.
_OPERATIONS = {
    "HeadBucket": r"HEAD /[^/?]+(\?|$)",
    "HeadObject": r"HEAD /[^/?]+/[^?]+",
    "ListMultipartUploads": r"GET /[^/?]+/?\?.*uploads",
    "CreateMultipartUpload": r"POST [^?]+\?uploads",
    "UploadPart": r"PUT [^?]+\?.*partNumber=",
    "ListParts": r"GET /[^/?]+/[^?]+\?.*uploadId=",
    "CompleteMultipartUpload": r"POST [^?]+\?uploadId=",
    "AbortMultipartUpload": r"DELETE [^?]+\?uploadId=",
    "PutObject": r"PUT [^?]+$",
    "GetObject": r"GET /[^/?]+/[^?]+(\?X-Amz-Algorithm|$)",
}


@dataclass
class Fault:
    """What happens to the next ``times`` requests of an operation.

    Attributes:
        operation: S3's name of it.
        kind: ``reset`` after ``after`` bytes of the request reached the proxy; ``lose``: the server does it, and the
            connection is reset instead of its answer; ``hang``: the server does it, and no answer ever comes;
            ``answer``: the server never hears of it, ``answer`` comes instead; ``replace``: the server does it, and
            ``answer`` comes instead of its own.
        times: how often.
        skip: how many requests of the operation pass before.
        after: bytes, for ``reset``.
        answer: a whole HTTP answer, made with ``http``.
        meanwhile: called when it strikes.
    """

    operation: str
    kind: Literal["reset", "lose", "hang", "answer", "replace"]
    times: int = 1
    after: int = 0
    answer: bytes = b""
    meanwhile: Callable[[], None] = lambda: None
    skip: int = 0


def http(status: int, code: str = "", *, body: str | None = None) -> bytes:
    """An answer with S3's error body, or with this one."""
    if body is None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said so</Message></Error>" if code else ""
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n{body}".encode()


class FaultProxy:
    """See ``proxy_to``.

    Attributes:
        url: where it listens.
        seen: the operations that came, in order.
        heads: how each of them began: its line and its headers.
        connections: the number of the connection that each of them came over.
        received: how many bytes came from clients.
        on_bytes: told that number after each piece.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = 0
        self._open: set[_Exchange] = set()
        self.seen: list[str] = []
        self.heads: list[bytes] = []
        self.connections: list[int] = []
        self._accepted = count()
        self.received = 0
        self.on_bytes: Callable[[int], None] = lambda _: None
        self.heal()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def add(self, *faults: Fault) -> None:
        self._faults += faults

    def refuse(self) -> None:
        """Refuse new connections, until ``heal``; pooled ones are the client's own business."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def heal(self) -> None:
        """Listen (again), and forget the faults that did not strike."""
        self._faults.clear()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self._port))
            self._port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            exchange = _Exchange(self, client, next(self._accepted))
            with self._lock:
                self._open.add(exchange)
            threading.Thread(target=exchange.run, daemon=True).start()

    def ended(self, exchange: _Exchange) -> None:
        with self._lock:
            self._open.discard(exchange)

    def close(self) -> None:
        """End it, with what still hangs."""
        self.refuse()
        for exchange in list(self._open):
            exchange.close()

    def strike(self, head: bytes, connection: int) -> Fault | None:
        """Take note of a request that came over a connection; return what happens to it."""
        line = head.partition(b" HTTP/1.1")[0].decode()
        name = next((name for name, form in _OPERATIONS.items() if re.match(form, line)), line)
        with self._lock:
            self.seen.append(name)
            self.heads.append(head.partition(b"\r\n\r\n")[0])
            self.connections.append(connection)
            for fault in self._faults:
                if fault.operation == name and fault.times > 0:
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    return fault
        return None

    def count(self, data: bytes) -> None:
        with self._lock:
            self.received += len(data)
        self.on_bytes(self.received)

    def server(self) -> socket.socket:
        return socket.create_connection(self._target)


class _Exchange:
    """One connection of a client, and ours to the server for it."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, number: int) -> None:
        self._proxy = proxy
        self._client = client
        self._number = number
        self._server = proxy.server()
        self._fault: Fault | None = None

    def run(self) -> None:
        threading.Thread(target=self._answers, daemon=True).start()
        of_request = 0
        with suppress(OSError):
            while data := self._client.recv(_CHUNK):
                self._proxy.count(data)
                if _REQUEST.match(data):
                    self._fault, of_request = self._proxy.strike(data, self._number), 0
                    if self._fault:
                        self._fault.meanwhile()
                of_request += len(data)
                fault = self._fault
                if fault and fault.kind == "reset" and of_request >= fault.after:
                    self._abort_on_close()
                    break
                if fault and fault.kind == "answer":
                    if _is_whole(data):
                        self._client.sendall(fault.answer)
                        break
                    continue
                self._server.sendall(data)
        self.close()

    def _answers(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(_CHUNK):
                if data.startswith(b"HTTP/1.1 100"):
                    interim, end, data = data.partition(b"\r\n\r\n")
                    self._client.sendall(interim + end)
                    if not data:
                        continue
                fault = self._fault
                if fault is None:
                    self._client.sendall(data)
                elif fault.kind == "lose":
                    self._abort_on_close()
                    break
                elif fault.kind == "replace":
                    self._client.sendall(fault.answer)
                    break
        if self._fault is None or self._fault.kind != "hang":
            self.close()

    def _abort_on_close(self) -> None:
        with suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORTING)

    def close(self) -> None:
        self._proxy.ended(self)
        # First wake the thread that reads: a socket that is being read is not closed by close(). Of a shutdown for
        # reading the client sees nothing.
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RD)
        self._client.close()
        self._server.close()


def _is_whole(head: bytes) -> bool:
    """Whether a client waits for an answer now: it sent all, or asks whether to go on (Expect: 100-continue)."""
    head, _, body = head.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    return b"100-continue" in head.lower() or len(body) >= int(length[1] if length else 0)


@contextmanager
def proxy_to(endpoint_url: str) -> Iterator[FaultProxy]:
    """A proxy to the server at ``endpoint_url`` (http)."""
    proxy = FaultProxy(int(endpoint_url.rpartition(":")[2]))
    try:
        yield proxy
    finally:
        proxy.close()
