"""Files without a name: nothing of them is seen until they are whole, and where there are none it is done as before."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lora_packer.files import new_file, write_whole
from lora_packer.folders import new_folder
from lora_packer.unnamed import give_name, open_unnamed


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


WRITES = {
    "a file": """
from lora_packer.files import new_file
with new_file(Path(sys.argv[1], "out")) as file:
    file.write(b"half")
    stop()
""",
    "a file in another's place": """
from lora_packer.files import new_file
with new_file(Path(sys.argv[1], "old")) as file:
    file.write(b"half")
    stop()
""",
    "a folder": """
from lora_packer.folders import new_folder
with new_folder(Path(sys.argv[1], "out")) as folder:
    with folder.create("one") as file:
        file.write(b"whole")
    with folder.create("two") as file:
        file.write(b"half")
        stop()
""",
}


@pytest.mark.parametrize("what", WRITES)
def test_a_kill_leaves_nothing(what: str, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    program = f"""
import os, signal, sys
from pathlib import Path
def stop():
    print(*os.listdir(sys.argv[1]), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
{WRITES[what]}"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "old\n", "")
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize("why", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS])
def test_where_there_are_none_a_hidden_name_does_it(why: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def has_none(path: Path, flags: int, *more: int, **other: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(why, os.strerror(why))
        return opened(path, flags, *more, **other)

    monkeypatch.setattr(os, "open", has_none)
    assert open_unnamed(tmp_path, 0o600) is None
    with new_file(tmp_path / "file") as file:
        file.write(b"whole")
        assert len(names(tmp_path)) == 1
    with new_folder(tmp_path / "folder") as folder:
        with folder.create("one") as file:
            file.write(b"1")
        assert folder.path("one").read_bytes() == b"1"
        with folder.create("two") as file:
            file.write(b"2")
        folder.remove("two")
        with pytest.raises(FileExistsError):
            folder.create("one")
        assert (tmp_path / names(tmp_path)[0]).stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert names(tmp_path / "folder") == ["one"]
    assert (tmp_path / "folder").stat().st_mode == plain_folder(tmp_path).stat().st_mode


def plain_folder(folder: Path) -> Path:
    (folder / "plain").mkdir()
    return folder / "plain"


@pytest.mark.parametrize("why", [errno.EPERM, errno.ENOENT, errno.EXDEV])
def test_where_they_get_no_name_they_are_copied(why: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "link", refused)
    whole = bytes(range(256)) * 5000
    for content in (whole, whole[1:]):
        with new_file(tmp_path / "file", mode=0o640) as file:
            file.write(content)
        assert (tmp_path / "file").read_bytes() == content
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    with new_folder(tmp_path / "folder") as folder, folder.create("one") as file:
        file.write(whole)
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "folder" / "one").read_bytes() == whole


@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EIO])
def test_a_name_that_fails_leaves_nothing(why: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_: object, **__: object) -> None:
        raise OSError(why, os.strerror(why))

    monkeypatch.setattr(os, "link", failed)
    for write in (lambda: write_whole(tmp_path / "file", "text"), lambda: one_file(tmp_path / "folder")):
        with pytest.raises(OSError, match=os.strerror(why)):
            write()
    assert names(tmp_path) == []


def one_file(place: Path) -> None:
    with new_folder(place) as folder:
        folder.create("one").close()


def test_a_folder_that_is_refused_is_no_system_without_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_unnamed(tmp_path / "none", 0o600)


def test_without_proc_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is given by way of it."""
    monkeypatch.setattr("lora_packer.unnamed.path_of", lambda number: tmp_path / "proc" / str(number))
    before = names(Path("/proc/self/fd"))
    assert open_unnamed(tmp_path, 0o600) is None
    assert names(Path("/proc/self/fd")) == before
    write_whole(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


def test_a_folder_has_its_files_and_their_modes(tmp_path: Path) -> None:
    plain = plain_folder(tmp_path)
    (plain / "file").write_text("")
    with new_folder(tmp_path / "folder") as folder:
        with folder.create("one") as file:
            file.write(b"1")
            assert folder.path("one").read_bytes() == b"1"
        with folder.create("two") as file:
            file.write(b"2")
        folder.remove("two")
        folder.remove("two")
        with pytest.raises(FileExistsError):
            folder.create("one")
        assert names(tmp_path) == ["plain"]
    assert names(tmp_path / "folder") == ["one"]
    assert (tmp_path / "folder").stat().st_mode == plain.stat().st_mode
    assert (tmp_path / "folder" / "one").stat().st_mode == (plain / "file").stat().st_mode


def twice(place: Path) -> None:
    with new_folder(place) as folder:
        for name in ("one", "one"):
            folder.create(name).close()


def test_a_folder_that_fails_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = names(Path("/proc/self/fd"))
    with pytest.raises(FileExistsError):
        twice(tmp_path / "folder")
    assert (names(tmp_path), names(Path("/proc/self/fd"))) == ([], before)


def test_a_name_that_was_taken_meanwhile_gives_way(tmp_path: Path) -> None:
    with new_file(tmp_path / "file") as file:
        file.write(b"mine")
        (tmp_path / "file").write_text("another's")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"
    descriptor = open_unnamed(tmp_path, 0o600)
    assert descriptor is not None
    with pytest.raises(FileExistsError):
        give_name(descriptor, tmp_path / "file")
    os.close(descriptor)
    assert (tmp_path / "file").read_text() == "mine"
