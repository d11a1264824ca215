"""Files are written whole, durably and in no device's place; a lock keeps other runs away."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import lora_packer
from lora_packer.files import followed, new_file, write_whole
from lora_packer.locks import locked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "f"


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("private", "mask", "mode"), [(False, 0o022, 0o644), (False, 0o027, 0o640), (True, 0o000, 0o600)]
)
def test_modes(path: Path, private: bool, mask: int, mode: int) -> None:
    with umask(mask):
        write_whole(path, "text\n", private=private)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "text\n"


def test_the_umask_of_the_process_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one for all threads: another thread's file would get it."""

    def changed(_: int) -> int:
        raise AssertionError("the umask was changed")

    monkeypatch.setattr(os, "umask", changed)
    write_whole(path, "text")


def test_only_the_owner_reads_what_is_being_written(path: Path) -> None:
    with umask(0), new_file(path, mode=0o644) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
        assert not path.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_durable_before_it_has_its_name_and_the_name_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_whole(path, "text")
    assert synced == [(False, False), (True, True)]


def test_a_folder_that_cannot_be_synced_is_no_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def not_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", not_folders)
    write_whole(path, "text")
    assert path.read_text() == "text"


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_to_a_file_is_followed_and_stays_one(path: Path, exists: bool) -> None:
    link = path.with_name("link")
    link.symlink_to("f")
    if exists:
        path.write_text("old")
    write_whole(link, "new")
    assert link.is_symlink()
    assert not path.is_symlink()
    assert path.read_text() == "new"


@pytest.mark.parametrize("linked", [True, False])
def test_a_named_pipe_is_written_into_and_stays_one(path: Path, linked: bool) -> None:
    os.mkfifo(path)
    out = path
    if linked:
        out = path.with_name("link")
        out.symlink_to(path)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    write_whole(out, "text" * 50_000, private=True)
    reader.join(60)
    assert read == ["text" * 50_000]
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_device_is_written_into_and_stays_one(path: Path) -> None:
    """A terminal stands for /dev/null: this cannot lose one where it fails as root."""
    main, terminal = os.openpty()
    try:
        device = Path(os.ttyname(terminal))
        path.symlink_to(device)
        write_whole(path, "text", private=True)
        assert os.read(main, 100) == b"text"
        assert stat.S_ISCHR(device.stat().st_mode)
    finally:
        os.close(main)
        os.close(terminal)


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "link"])
@pytest.mark.parametrize("to_file", [True, False])
def test_standard_output_is_written_into_whatever_it_is(path: Path, name: str, to_file: bool) -> None:
    """Also where it is a file, which another file in its place would take from whoever wrote to it before."""
    if not Path("/proc/self/fd").exists() and name != "/dev/stdout":
        pytest.skip("no /proc")
    program = (
        "import os, sys; from pathlib import Path; from lora_packer.files import write_whole\n"
        "os.write(1, b'before '); write_whole(Path(sys.argv[1]), 'text'); os.write(1, b' after')"
    )
    if name == "link":
        name = str(path.with_name("link"))
        os.symlink("/dev/stdout", name)
    command = [sys.executable, "-c", program, name]
    if to_file:
        with path.open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
        written = path.read_bytes()
    else:
        written = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert written == b"before text after"


def test_a_socket_is_not_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("f")
        with pytest.raises(FileExistsError, match="no regular file"):
            write_whole(path, "text")
    assert stat.S_ISSOCK(path.stat().st_mode)


@pytest.mark.parametrize("write", [lambda path: write_whole(path, ""), lambda path: new_file(path).__enter__()])
def test_a_folder_is_not_replaced(path: Path, write: object) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write(path)  # type: ignore[operator]
    assert list(path.parent.rglob("*")) == [path]


def test_an_archive_never_takes_a_device_s_place() -> None:
    with pytest.raises(FileExistsError, match="no regular file"), new_file(Path("/dev/null")):
        pass
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_lock_is_held_against_every_other_run_and_let_go(path: Path) -> None:
    with locked(path):
        program = (
            "import sys; from pathlib import Path; from lora_packer.locks import locked\n"
            "from lora_packer import InputError\n"
            "try:\n    with locked(Path(sys.argv[1])): print('held')\n"
            "except InputError as error: print(error)"
        )
        command = [sys.executable, "-c", program, str(path)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert told == f"Another run is using '{path}'. Wait until it has ended, or name another file.\n"
        with pytest.raises(lora_packer.InputError, match="Another run"), locked(path):
            pass
        with locked(path.with_name("another")):
            pass
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"
    with locked(path):
        pass
    assert not path.exists()  # it is the lock that was made, not the file


def test_a_lock_that_cannot_be_made_is_a_sentence(path: Path) -> None:
    with pytest.raises(lora_packer.InputError, match="cannot be locked: No such file"), locked(path / "g"):
        pass
    assert not path.exists()
    os.mkfifo(path.with_name(".f.lock"))
    with pytest.raises(lora_packer.InputError, match="cannot be locked: It is there and no regular"), locked(path):
        pass


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import sys, os, signal; from pathlib import Path; from lora_packer.files import new_file\n"
        "del os.O_TMPFILE  # as on a system that has no files without a name\n"
        "with new_file(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "out"], check=False)
    (left,) = tmp_path.iterdir()
    others = [tmp_path / name for name in (".lora-packer-x.tmp", ".lora-packer-0123456789abcdef.tmp2")]
    (tmp_path / ".lora-packer-0123456789abcdef.tmp").symlink_to(others[0])
    for other in others:
        other.touch()
    monkeypatch.delattr(os, "O_TMPFILE")
    with new_file(tmp_path / "one") as one:
        one.write(b"1")
        with new_file(tmp_path / "two") as two:  # that which is being written stays
            two.write(b"2")
    assert not left.exists()
    assert ((tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()) == (b"1", b"2")
    assert {path.name for path in tmp_path.iterdir()} == {
        "one", "two", ".lora-packer-0123456789abcdef.tmp", *(other.name for other in others)
    }  # fmt: skip


def test_a_link_is_followed_to_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    assert followed(tmp_path / "link") == tmp_path / "target"


def test_where_a_link_leads_cannot_always_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    assert followed(circle) == circle

    def gone(*_: object, **__: object) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "readlink", gone)  # between the look at it and the reading it became a file
    monkeypatch.chdir(tmp_path)
    assert followed(Path("circle")) == circle
