"""A server on this machine that answers each connection with the bytes it is told to, as slowly as it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat

# Given the head of a request (its first line and headers), what is sent, piece by piece.
Lies = Callable[[bytes], Iterator[bytes]]


@contextmanager
def lying(lies: Lies, *, pause: float = 0.0) -> Iterator[str]:
    """Serve until the block ends; gives the server's address.

    ``pause`` is seconds between two pieces; the wait ends with the server, never later.
    """
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        # Reading or writing fails when the client hangs up, which is what it is to do.
        with suppress(OSError), connection:
            connection.settimeout(10)
            while not over.is_set() and (head := _head(connection)):
                for piece in lies(head):
                    connection.sendall(piece)
                    if over.wait(pause) if pause else over.is_set():
                        return

    def accept() -> None:
        with suppress(OSError):
            while True:
                connections.append(listener.accept()[0])
                thread = threading.Thread(target=serve, args=(connections[-1],), daemon=True)
                thread.start()
                threads.append(thread)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:  # a client may keep its own open
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in (accepting, *threads):
            thread.join(timeout=10)


def _head(connection: socket.socket) -> bytes:
    """Read one request, its body too; return its head, empty where the client has gone."""
    got = b""
    while b"\r\n\r\n" not in got:
        data = connection.recv(65_536)
        if not data:
            return b""
        got += data
    head, _, body = got.partition(b"\r\n\r\n")
    sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    left = int(sizes[0].partition(b":")[2]) - len(body) if sizes else 0
    if left > 0 and b"100-continue" in head.lower():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while left > 0:
        left -= len(connection.recv(min(left, 65_536)))
    return head


def endless(first: bytes, again: bytes) -> Lies:
    """Answer with something, and then with something else for ever."""
    return lambda _head: chain([first], repeat(again))


def answer(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer."""
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
