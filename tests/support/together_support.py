"""What the tests of the client and of the sandbox share: secrets to look for, a time to fake, archives to serve."""

from __future__ import annotations

import functools
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from lora_packer.packager.layout import FileSlice
from lora_packer.packager.source import Source
from lora_packer.redact import PresignedUrl, Secret
from lora_packer.together import Client, LocalFiles, Submission

ADAPTER = Path(__file__).resolve().parent.parent.parent / "fixtures" / "adapters" / "tiny-llama-qv"
FILES = {name: (ADAPTER / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}

TOKEN = "key-0123456789-of-the-test"
HF_TOKEN = "hf_" + "Q" * 34
SIGNATURE = "5a" * 32
BASE_MODEL = "tiny/llama"


def presigned(
    *,
    host: str = "https://bucket.s3.us-west-2.amazonaws.com",
    path: str = "/adapters/a.zip",
    life: timedelta = timedelta(hours=12),
) -> str:
    """Return a presigned URL; ``life`` is how long it lives from now."""
    ago = timedelta(seconds=1) - min(life, timedelta())  # what is dead was signed earlier
    signed = datetime.now(UTC) - ago
    expires = round((life + ago).total_seconds())
    return (
        f"{host}{path}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260102%2Fus-west-2"
        f"%2Fs3%2Faws4_request&X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host"
        f"&X-Amz-Security-Token=IQoJ{'T' * 60}&X-Amz-Signature={SIGNATURE}"
    )


SECRETS = (TOKEN, HF_TOKEN, SIGNATURE, "IQoJ" + "T" * 60)


def assert_no_secret(*texts: object) -> None:
    """No secret of this module is in the texts' str or repr."""
    for text in texts:
        for secret in SECRETS:
            assert secret not in str(text), text
            assert secret not in repr(text), text


@dataclass
class FakeTime:
    """A clock that only sleeping moves."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


Handler = Callable[[httpx2.Request], httpx2.Response]


def mock_client(handler: Handler, time: FakeTime | None = None, **options: Any) -> Client:
    """Return a client whose requests ``handler`` answers, in a time of its own."""
    time = time or FakeTime()
    return Client(
        Secret(TOKEN),
        transport=httpx2.MockTransport(handler),
        sleep=time.sleep,
        clock=time.clock,
        jitter=lambda: 0.0,
        **options,
    )


def submission(url: str | None = None, **changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "model_name": "my-adapter",
        "source": PresignedUrl(url or presigned()),
        "base_model": BASE_MODEL,
    }
    return Submission(**{**fields, **changes})


def zip_of(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


class _Files(http.server.SimpleHTTPRequestHandler):
    """A folder over HTTP, as S3 answers: 403 for what may not be had."""

    def do_GET(self) -> None:
        if "expired" in self.path:
            self.send_error(403)
        else:
            super().do_GET()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serving(handler: Any) -> Iterator[str]:
    """Serve with a request handler class on a loopback port; yields ``http://127.0.0.1:PORT``."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def serving_folder(folder: Path) -> Any:
    """Serve the files of a folder; paths with ``expired`` in them answer 403."""
    return serving(functools.partial(_Files, directory=str(folder)))


@dataclass
class Recorded:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def recording(answers: list[tuple[int, bytes]]) -> Iterator[tuple[str, list[Recorded]]]:
    """Answer each request with the next of ``answers`` (the last one again and again), and keep the requests."""
    requests: list[Recorded] = []

    class Recorder(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._record()

        def do_POST(self) -> None:
            self._record()

        def do_PATCH(self) -> None:
            self._record()

        def do_DELETE(self) -> None:
            self._record()

        def _record(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {key.lower(): value for key, value in self.headers.items()}
            status, answer = answers[min(len(requests), len(answers) - 1)]
            requests.append(Recorded(self.command, self.path, headers, body))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: Any) -> None:
            pass

    with serving(Recorder) as url:
        yield url, requests


def local_files(folder: Path, files: Mapping[str, bytes] = FILES) -> LocalFiles:
    """Files of this machine, to be sent directly."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    found = ((name, Source.at(folder / name)) for name in files)
    return LocalFiles(tuple((name, FileSlice(source, 0, source.size)) for name, source in found))
