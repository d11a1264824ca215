"""Who may come in: nobody without credentials through any port, no web page under another name, no file too many."""

from __future__ import annotations

import http.client
import os
import ssl
from pathlib import Path

import httpx2
import pytest
from s3_support import local_s3

from lora_packer.sandbox import LocalHub, Service, s3
from lora_packer.sandbox.certificate import make_certificate

__all__ = ["local_s3"]

_READ = (
    "/buckets/",
    "/buckets/sandbox/",
    "/buckets/sandbox/adapters/a.zip",
    "/dir/assign",
    "/dir/status",
    "/vol/status",
)
_WRITTEN = ("/buckets/sandbox/adapters/a.zip", "/x.txt", "/1,01637037d6")


def ports_of(server: s3.LocalS3) -> list[int]:
    """Every port of 127.0.0.1 that a process below the server's guard listens on."""
    assert server._guard is not None
    below = Path(f"/proc/{server._guard.pid}/task/{server._guard.pid}/children").read_text().split()
    sockets = set()
    for child in below:
        for descriptor in Path(f"/proc/{child}/fd").iterdir():
            sockets.add(os.readlink(descriptor))
    ports = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
            ports.append(int(fields[1].partition(":")[2], 16))
    return ports


def ask(port: int, method: str, path: str, host: str | None = None) -> int:
    """The status, 0 where there is no answer in HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        headers = {} if host is None else {"Host": host}
        connection.request(method, path, b"x" if method in ("PUT", "POST") else None, headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="ports are looked up in /proc")
def test_no_port_lists_serves_or_takes_files_without_credentials(local_s3: s3.LocalS3) -> None:
    ports = ports_of(local_s3)
    assert int(local_s3.endpoint_url.rpartition(":")[2]) in ports
    assert len(ports) >= 5  # some open a moment later
    for port in ports:
        for host in (None, "evil.example"):
            assert [path for path in _READ if ask(port, "GET", path, host) in range(200, 300)] == []
            for method in ("PUT", "POST", "DELETE"):
                assert [path for path in _WRITTEN if ask(port, method, path, host) in range(200, 300)] == []
        assert ask(port, "GET", "/col/delete?collection=sandbox") not in range(200, 300)


def test_its_parts_show_each_other_a_certificate(tmp_path: Path) -> None:
    certificate, key = make_certificate()
    (tmp_path / "c").write_text(certificate)
    (tmp_path / "k").write_text(key.reveal())
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cadata=certificate)
    server.load_cert_chain(tmp_path / "c", tmp_path / "k")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done = set()
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
    assert done == set(ends)
    assert make_certificate()[0] != certificate


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.nip.io", "", "[", "localhost.evil", "10.0.0.1"]
)
def test_no_page_under_another_name(host: str) -> None:
    with Service() as service, LocalHub() as hub:
        for address, path in ((service.base_url, "/v1/models"), (hub.endpoint, "/api/models/a/b")):
            port = int(address.removesuffix("/v1").rpartition(":")[2])
            assert ask(port, "GET", path, host) == 421
            assert ask(port, "GET", path, f"localhost:{port}") == 401
            assert ask(port, "GET", path) == 401


def test_a_repository_holds_its_own_files_only(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for place in (outside, folder / "sub", folder / ".git"):
        place.mkdir(parents=True)
    (outside / "secret").write_text("s")
    for name in ("README.md", "sub/a.txt", ".gitattributes", ".env", ".git/config", "sub/.netrc"):
        (folder / name).write_text("x")
    (folder / "link").symlink_to(folder / "README.md")
    (folder / "leads-out").symlink_to(outside / "secret")
    (folder / "folder-out").symlink_to(outside)
    (folder / "nowhere").symlink_to(folder / "none")
    os.mkfifo(folder / "pipe")
    with LocalHub() as hub:
        commit = hub.add("me/mine", folder)
        served = set(hub._repos["me/mine"].commits[commit])
        assert served == {"README.md", "sub/a.txt", ".gitattributes", "link"}
        port = int(hub.endpoint.rpartition(":")[2])
        for name in (
            ".env",
            ".git/config",
            "leads-out",
            "folder-out/secret",
            "../outside/secret",
            "%2e%2e/outside/secret",
        ):
            assert ask(port, "GET", f"/me/mine/resolve/main/{name}") == 404
        (folder / "README.md").unlink()
        (folder / "README.md").symlink_to(outside / "secret")
        with pytest.raises(httpx2.RemoteProtocolError):
            httpx2.get(f"{hub.endpoint}/me/mine/resolve/main/README.md")
