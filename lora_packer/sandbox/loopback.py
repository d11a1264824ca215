"""An HTTP server on a free port of 127.0.0.1, from its start to its end."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import urlsplit

from lora_packer.address import is_loopback
from lora_packer.errors import SandboxError


class LoopbackServer(ThreadingHTTPServer):
    """A server that runs in threads of its own until ``stop``. Raises SandboxError where it cannot be started."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], name: str) -> None:
        try:
            super().__init__(("127.0.0.1", 0), handler)
        except OSError as error:
            raise SandboxError(
                f"The local {name} could not be started: {error.strerror or error}.",
                hint="Check that this machine allows listening on 127.0.0.1.",
            ) from error
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, name=f"sandbox-{name}", daemon=True
        )

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.server_port}"

    def server_bind(self) -> None:
        """Bind without asking DNS for this machine's name, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class LoopbackHandler(BaseHTTPRequestHandler):
    """What the local servers answer with: connections stay open for a while, and nothing is logged."""

    protocol_version = "HTTP/1.1"
    server_version = "lora-packer-sandbox"
    sys_version = ""
    timeout = 60  # seconds until an idle connection is closed
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        """Answer this machine's own names alone: a web page whose name was pointed here has another one."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host") or []
        if len(hosts) == 1 and _is_own(hosts[0]):
            return True
        self.close_connection = True
        self.send_error(421)
        return False

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """The commands' output belongs to the commands."""


def _is_own(host: str) -> bool:
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False
