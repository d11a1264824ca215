"""A local Together API, version 1, on a free loopback port: good enough for the vendor's own SDK and CLI.

Paths and bodies are those of openapi.yaml in github.com/togethercomputer/openapi and of the examples in
docs.together.ai/docs/dedicated-endpoints/v1/adapter. Where neither says what a refusal looks like, it is an
``ErrorData`` body with status 400.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from lora_packer.errors import SandboxError
from lora_packer.redact import Secret
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.jobs import JobRecord, Jobs, NameTaken, SourceKind

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
    "project": {"id": "proj-sandbox", "name": ACCOUNT, "slug": ACCOUNT},
}

_MAX_BODY = 2**20  # bytes
_HUB_SOURCE = re.compile(r"(?:https://huggingface\.co/)?[\w.-]+/[\w.-]+/?")


class Service:
    """The service, from ``with`` to its end.

    Args:
        base_models: hosted besides ``DEFAULT_BASE_MODELS``.
        faults: what goes wrong.
        delay: seconds that each state of a job lasts at least.

    Attributes:
        base_models: the ids of every base model it hosts.
        api_key: the key it was started with; a new one each time.
        base_url: its address, with ``/v1``; known once it runs.
        jobs: its jobs.
    """

    def __init__(self, *, base_models: Sequence[str] = (), faults: Faults | None = None, delay: float = 0.3) -> None:
        self.faults = faults or Faults()
        self.base_models = tuple(dict.fromkeys((*DEFAULT_BASE_MODELS, *base_models)))
        self.api_key = Secret(f"sandbox-{secrets.token_hex(16)}")
        self.base_url = ""
        self.started = int(time.time())
        self.jobs = Jobs(account=ACCOUNT, delay=delay, faults=self.faults)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._server = _Server(self)
        except OSError as error:
            raise SandboxError(
                f"The local service could not be started: {error.strerror or error}.",
                hint="Check that this machine allows listening on 127.0.0.1.",
            ) from error
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="sandbox-service", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self.jobs.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking DNS for this machine's name, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def __init__(self, service: Service) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An ErrorData answer."""

    def __init__(
        self, status: int, message: str, kind: str = "invalid_request_error", *, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": None}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "lora-packer-sandbox"
    sys_version = ""
    timeout = 60  # seconds until an idle connection is closed
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """The commands' output belongs to the commands."""

    def _handle(self, method: str) -> None:
        service = self.server.service
        try:
            body = self._body()
            self._authenticate(service.api_key)
            status, answer = _route(service, method, urlsplit(self.path).path, body)
        except _Refused as refusal:
            status, answer = refusal.status, refusal.body
        if answer is None:
            self.close_connection = True
            return
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        """Read the whole body, so that the next request on this connection begins where it should."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise _Refused(413, "the request's body is too large or of unknown length")
        return self.rfile.read(int(length))

    def _authenticate(self, key: Secret) -> None:
        given = self.headers.get("Authorization", "")
        if not secrets.compare_digest(given.encode(), f"Bearer {key.reveal()}".encode()):
            raise _Refused(401, "Invalid API key provided", "authentication_error")


def _route(service: Service, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one."""
    match (method, path.rstrip("/").split("/")[1:]):
        case ("POST", ["v1", "models"]):
            return _submit(service, body)
        case ("GET", ["v1", "models"]):
            return 200, [_model(service, model) for model in (*service.base_models, *service.jobs.uploaded())]
        case ("GET", ["v1", "jobs"]):
            return 200, {"data": service.jobs.describe_all()}
        case ("GET", ["v1", "jobs", job_id]):
            found = service.jobs.describe(unquote(job_id))
            if found is None:
                raise _Refused(404, "job not found", "not_found_error")
            return 200, found
        case ("GET", ["v3", "whoami"]):
            return 200, _WHOAMI
    raise _Refused(404, f"no such endpoint: {method} {path}", "not_found_error")


def _submit(service: Service, body: bytes) -> tuple[int, Any]:
    if service.faults.refuse_submit is not None:
        raise _Refused(service.faults.refuse_submit, "refused, as the sandbox was started to do", "sandbox_fault")
    request = _request(body)
    for name in ("model_name", "model_source"):
        if not request.get(name):
            raise _Refused(400, f"{name} is required", param=name)
    if request.get("model_type", "model") != "adapter":
        raise _Refused(400, "this sandbox takes adapters only: model_type must be adapter", param="model_type")
    base_model = request.get("base_model")
    if not base_model:
        raise _Refused(400, "base_model is required for an adapter", param="base_model")
    if base_model not in service.base_models:
        raise _Refused(400, f"base model {base_model} is not supported for dedicated inference", param="base_model")
    source = request["model_source"]
    try:
        record = service.jobs.create(
            model_name=request["model_name"],
            model_source=source,
            kind=_source_kind(source),
            base_model=base_model,
            description=request.get("description"),
        )
    except NameTaken:
        # Some refusals come as a success without data: a comment in together 2.42.0, lib/cli/api/models/upload.py.
        return 200, {"message": "Model name already exists"}
    return 200, None if service.faults.lose_answer else _created(record)


def _request(body: bytes) -> dict[str, str]:
    """Return the fields of a submission that are text; every documented one is."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise _Refused(400, "the request's body is not a JSON object")
    for name in ("model_name", "model_source", "model_type", "base_model", "description", "hf_token"):
        if name in request and not isinstance(request[name], str):
            raise _Refused(422, f"{name} must be a string", param=name)
    return request


def _source_kind(source: str) -> SourceKind:
    if _HUB_SOURCE.fullmatch(source):
        return "huggingface"
    if source.startswith(("https://", "http://")):
        return "remote_archive"
    raise _Refused(400, "model_source is neither a Hugging Face repo nor a URL", param="model_source")


def _created(record: JobRecord) -> dict[str, Any]:
    return {
        "data": {
            "job_id": record.id,
            "model_name": record.model_name,
            "model_id": record.model_id,
            "model_source": record.source_kind,
        },
        "message": "job created",
    }


def _model(service: Service, model: str) -> dict[str, Any]:
    """Return one ModelInfo of the service's openapi.yaml."""
    organisation, _, name = model.rpartition("/")
    return {
        "id": model,
        "object": "model",
        "created": service.started,
        "type": "chat",
        "display_name": name,
        "organization": organisation,
        "link": "",
        "license": "",
        "context_length": 2048,
        "pricing": {"hourly": 0, "input": 0, "output": 0, "base": 0, "finetune": 0},
    }
