"""A network on loopback: a proxy that lets through so many bytes a second, of all connections together, and late.

A connection is there one round trip after it was asked for, and each byte arrives half a round trip after it was sent,
behind those before it. What is not played: a connection that begins slowly, packets that are lost, and TLS.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import SimpleQueue
from urllib.parse import urlsplit

_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Link:
    """What lies between client and server.

    Attributes:
        rate: bytes a second, each way.
        delay: seconds of a round trip.
    """

    rate: float
    delay: float = 0.0

    def __str__(self) -> str:
        speed = self.rate * 8 / 1e6
        return f"{f'{speed / 1000:g} Gbit/s' if speed >= 1000 else f'{speed:g} Mbit/s'} + {self.delay * 1000:g} ms"


class Bandwidth:
    """Bytes a second that several threads share."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Return when as many bytes have passed."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + count / self._rate
            wait = self._free - time.monotonic()
        time.sleep(max(0.0, wait))


@contextmanager
def slow_link(endpoint_url: str, link: Link) -> Iterator[str]:
    """Give the address under which an http server is reached over the link."""
    server = urlsplit(endpoint_url)
    up, down = Bandwidth(link.rate), Bandwidth(link.rate)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # it was closed
                return
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    def relay(client: socket.socket) -> None:
        time.sleep(link.delay)
        with client, socket.create_connection((server.hostname, server.port)) as upstream:
            for end in (client, upstream):  # a link passes on what it gets, and does not wait for more (tcp(7))
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answers = threading.Thread(target=_pump, args=(upstream, client, down, link.delay / 2), daemon=True)
            answers.start()
            _pump(client, upstream, up, link.delay / 2)
            answers.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket, bandwidth: Bandwidth, late: float) -> None:
    """Pass on what comes until nothing does: at the link's speed, and so many seconds later."""
    way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()

    def deliver() -> None:
        with suppress(OSError):  # one of them hung up
            while (item := way.get())[1]:
                time.sleep(max(0.0, item[0] - time.monotonic()))
                target.sendall(item[1])
            target.shutdown(socket.SHUT_WR)

    delivery = threading.Thread(target=deliver, daemon=True)
    delivery.start()
    try:
        while data := source.recv(_CHUNK):
            bandwidth.take(len(data))
            way.put((time.monotonic() + late, data))
    except OSError:
        pass
    way.put((0.0, b""))
    delivery.join()
