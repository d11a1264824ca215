"""A network's speed on loopback: a proxy that lets through so many bytes a second, of all connections together."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_CHUNK = 1 << 18


class Bandwidth:
    """Bytes a second that several threads share."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._free = time.monotonic()
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Return when as many bytes may pass."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + count / self._rate
            wait = self._free - time.monotonic()
        time.sleep(max(0.0, wait))


@contextmanager
def slow_link(endpoint_url: str, rate: float) -> Iterator[str]:
    """Give the address under which an http server is reached at ``rate`` bytes a second, each way."""
    server = urlsplit(endpoint_url)
    up, down = Bandwidth(rate), Bandwidth(rate)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # it was closed
                return
            threading.Thread(target=relay, args=(client,), daemon=True).start()

    def relay(client: socket.socket) -> None:
        with client, socket.create_connection((server.hostname, server.port)) as upstream:
            answers = threading.Thread(target=_pump, args=(upstream, client, down), daemon=True)
            answers.start()
            _pump(client, upstream, up)
            answers.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket, bandwidth: Bandwidth) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    with suppress(OSError):  # one of them hung up
        while count := source.recv_into(buffer):
            bandwidth.take(count)
            target.sendall(buffer[:count])
        target.shutdown(socket.SHUT_WR)
