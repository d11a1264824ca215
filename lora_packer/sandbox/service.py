"""A local Together API on a free loopback port: good enough for the vendor's own SDK and CLI."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from lora_packer.redact import Secret
from lora_packer.sandbox import v1, v2
from lora_packer.sandbox.answers import Refused, Request, not_found
from lora_packer.sandbox.deployments import Deployments
from lora_packer.sandbox.direct import MAX_PART, DirectUploads
from lora_packer.sandbox.endpoints import Endpoints
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.hub import LocalHub
from lora_packer.sandbox.jobs import Jobs
from lora_packer.sandbox.loopback import LoopbackHandler, LoopbackServer

ACCOUNT = "devuser"
"""The account whose name goes before each model's; the one of the service's page."""

DEFAULT_BASE_MODELS = (
    # Named as base of an adapter, or as a model, in the service's openapi.yaml.
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen3.5-9B",
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    # Bases of adapters in docs.together.ai/docs/dedicated-endpoints/lora-adapter.
    "google/gemma-3-27b-it-lora",
    "meta-llama/Llama-3.3-70B-Instruct-FP8-Lora",
    "mistralai/Mixtral-8x7B-Instruct-v0.1-FP8-Lora",
    # The one of this project's examples, and the sandbox's own.
    "meta-llama/Llama-3.3-70B-Instruct",
    "tiny/llama",
)

# What the vendor's command line asks before anything else: together 2.42.0, lib/cli/utils/_whoami.py.
_WHOAMI = {
    "type": "project_api_key",
    "api_key": {"id": "key-sandbox"},
    "organization": {"id": "org-sandbox", "name": "sandbox"},
    "project": {"id": v2.PROJECT, "name": ACCOUNT, "slug": ACCOUNT},
}

_MAX_BODY = 2**20  # bytes


class Service:
    """The service, from ``with`` to its end.

    Args:
        base_models: hosted besides ``DEFAULT_BASE_MODELS``.
        faults: what goes wrong.
        delay: seconds that each state of a job lasts at least.
        hub: where it fetches Hub repositories from; None is nowhere.

    Attributes:
        base_models: the ids of every base model it hosts.
        api_key: the key it was started with; a new one each time.
        base_url: its address, with ``/v1``; known once it runs.
        jobs: its upload jobs, version 1.
        endpoints: its endpoints, version 1.
        models, imports, direct, deployments: the same of version 2.
    """

    def __init__(
        self,
        *,
        base_models: Sequence[str] = (),
        faults: Faults | None = None,
        delay: float = 0.3,
        hub: LocalHub | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.base_models = tuple(dict.fromkeys((*DEFAULT_BASE_MODELS, *base_models)))
        self.api_key = Secret(f"sandbox-{secrets.token_hex(16)}")
        self.base_url = ""
        self.started = int(time.time())
        self.jobs = Jobs(account=ACCOUNT, delay=delay, faults=self.faults, hub=hub)
        self.endpoints = Endpoints(account=ACCOUNT, delay=delay, fails=self.faults.endpoint_fails)
        self.account = ACCOUNT
        self.models: dict[str, dict[str, Any]] = {}
        self.imports = Jobs(account=ACCOUNT, delay=delay, faults=self.faults, hub=hub)
        self.direct = DirectUploads()
        self.deployments = Deployments(project=v2.PROJECT, slug=ACCOUNT, delay=delay, fails=self.faults.endpoint_fails)
        self._server: _Server | None = None

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

    def serving(self) -> set[str]:
        """Return the names by which a model can be asked."""
        return self.endpoints.serving() | self.deployments.names(routed=True)


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
        if not length.isdigit() or int(length) > limit or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refused(413, "the request's body is too large or of unknown length")
        return self.rfile.read(int(length))

    def _authenticate(self, key: Secret) -> None:
        given = self.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {key.reveal()}".encode()):
            raise Refused(401, "Invalid API key provided", "authentication_error")


def _route(service: Service, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one, or 204. Raises Refused."""
    if request.path == ("v3", "whoami") and request.method == "GET":
        return 200, _WHOAMI
    if request.path[0] == "v1":
        return v1.route(service, request)
    if request.path[0] == "v2":
        return v2.route(service, request)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")
