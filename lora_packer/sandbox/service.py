"""A local Together API on a free loopback port: good enough for the vendor's own SDK and CLI."""

from __future__ import annotations

import json
import secrets
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from lora_packer.redact import Secret
from lora_packer.sandbox import v1, v2
from lora_packer.sandbox.answers import Refused, Request, not_found
from lora_packer.sandbox.direct import MAX_PART
from lora_packer.sandbox.loopback import LoopbackHandler, LoopbackServer
from lora_packer.sandbox.state import ACCOUNT, PROJECT, State

# What the vendor's command line asks before anything else: together 3.1.1, types/whoami_org_api_key.py and
# types/whoami_project_api_key.py.
_WHOAMI = {
    "type": "org_api_key",
    "api_key": {"id": "key-sandbox"},
    "organization": {"id": "org-sandbox", "name": "sandbox"},
}
_WHOAMI_OF_PROJECT = {
    **_WHOAMI,
    "type": "project_api_key",
    "project": {"id": PROJECT, "name": ACCOUNT, "slug": ACCOUNT},
}

_MAX_BODY = 2**20  # bytes


class Service(State):
    """The service, from ``with`` to its end; see ``State`` for what it is made with and what it remembers."""

    _server: _Server | None = None

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.base_url = f"{self._server.address}/v1"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()
        self.jobs.stop()
        self.imports.stop()


class _Server(LoopbackServer):
    def __init__(self, service: Service) -> None:
        self.service = service
        super().__init__(_Handler, "service")


class _Handler(LoopbackHandler, BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PATCH(self) -> None:
        self._handle("PATCH")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def do_PUT(self) -> None:
        """Take a part of a direct upload: its address is its key."""
        parts = urlsplit(self.path)
        headers, status, data = {}, 200, b""
        try:
            body = self._body(MAX_PART)
            match parts.path.split("/"):
                case ["", "direct", model_id, upload_id, number]:
                    signature = dict(parse_qsl(parts.query)).get("X-Amz-Signature", "")
                    tag = self.server.service.direct.put(model_id, upload_id, number, signature, body)
                    headers["ETag"] = f'"{tag}"'
                case _:
                    raise not_found(f"PUT {parts.path}")
        except Refused as refusal:
            status, data = refusal.status, json.dumps(refusal.body).encode()
        self._answer(status, data, **headers)

    def _handle(self, method: str) -> None:
        service = self.server.service
        try:
            body = self._body()
            self._authenticate(service.api_key)
            parts = urlsplit(self.path)
            path = tuple(unquote(part) for part in parts.path.strip("/").split("/"))
            status, answer = _route(service, Request(method, path, dict(parse_qsl(parts.query)), body))
        except Refused as refusal:
            status, answer = refusal.status, refusal.body
            if self.path.startswith("/v2/") and status != 401 and not service.faults.plain_errors:
                answer = refusal.rpc_body
        if answer is None and status != 204:
            self.close_connection = True
            return
        self._answer(status, b"" if answer is None else json.dumps(answer).encode())

    def _answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if data:
            self.send_header("Content-Type", "application/json")
        if status != 204:  # RFC 9110, section 8.6: such an answer has no length
            self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _body(self, limit: int = _MAX_BODY) -> bytes:
        """Read the whole body, so that the next request on this connection begins where it should."""
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()) or int(length) > limit or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refused(413, "the request's body is too large or of unknown length")
        return self.rfile.read(int(length))

    def _authenticate(self, key: Secret) -> None:
        given = self.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {key.reveal()}".encode()):
            raise Refused(401, "Invalid API key provided", "authentication_error")


def _route(state: State, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one, or 204. Raises Refused."""
    if request.path == ("v3", "whoami") and request.method == "GET":
        return 200, _WHOAMI if state.faults.no_project else _WHOAMI_OF_PROJECT
    if request.path[0] == "v1":
        return v1.route(state, request)
    if request.path[0] == "v2":
        return v2.route(state, request)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")
