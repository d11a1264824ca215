"""Packing that fails: a full disk, a signal, a source that changes. Nothing is left behind."""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packager_support import TINY, adapter

from lora_packer.errors import PackError
from lora_packer.packager import pack
from lora_packer.packager.digest import digest

# By name: the package has a function called pack where it has a module of that name, too.
pack_module = importlib.import_module("lora_packer.packager.pack")
plan_module = importlib.import_module("lora_packer.packager.plan")
layout_module = importlib.import_module("lora_packer.packager.layout")

both = pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])


# --- nothing is left behind -----------------------------------------------------------------------------------------


def no_room(*_arguments: object, **_options: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*_arguments: object, **_options: object) -> int:
    raise KeyboardInterrupt


def no_kernel_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", no_room, raising=False)


def failing_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headers are still written; the first chunk of a file is not."""
    no_kernel_copy(monkeypatch)
    real = layout_module.write_all
    monkeypatch.setattr(
        layout_module, "write_all", lambda file, data: no_room() if len(data) > 1000 else real(file, data)
    )


def failing_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_room)


def failing_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", no_room)
    monkeypatch.setattr(os, "link", no_room)


def interrupted_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", interrupted, raising=False)


def interrupted_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_module, "verify", interrupted)


def interrupted_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", interrupted)


@pytest.mark.parametrize("existing", [None, b"the old archive"])
@pytest.mark.parametrize(
    ("fault", "raised", "words"),
    [
        (failing_write, PackError, "No space left on device"),
        (failing_sync, PackError, "No space left on device"),
        (failing_name, PackError, "No space left on device"),
        (interrupted_copy, KeyboardInterrupt, None),
        (interrupted_read_back, KeyboardInterrupt, None),
        (interrupted_sync, KeyboardInterrupt, None),
    ],
)
def test_a_failure_leaves_the_output_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existing: bytes | None,
    fault: Callable[[pytest.MonkeyPatch], None],
    raised: type[BaseException],
    words: str | None,
) -> None:
    output = tmp_path / "a.zip"
    if existing:
        output.write_bytes(existing)
    fault(monkeypatch)
    with pytest.raises(raised, match=words):
        pack(TINY, output)
    monkeypatch.undo()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([existing] if existing else [])


# --- sources that change, or cannot be read -------------------------------------------------------------------------


def pack_after(
    change: Callable[[Path], Any], folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch, **options: bool
) -> None:
    """Pack, with ``change`` happening to the weights after they were looked at and before they are copied."""
    real = pack_module.select

    def select_and_change(*arguments: Any, **options: Any) -> Any:
        selection = real(*arguments, **options)
        # The checksums are made beside the copy: here, whatever the threads do, of the file as it was.
        members = {found.name: digest(found) for found in selection.sources}
        monkeypatch.setattr(plan_module, "digest", lambda found, *_, **__: members[found.name])
        change(folder / "adapter_model.safetensors")
        return selection

    monkeypatch.setattr(pack_module, "select", select_and_change)
    pack(folder, output, **options)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite_in_secret(path: Path) -> None:
    """Other bytes, but the same file of the same size, with its time set back."""
    kept = path.stat()
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


@both
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (grow, "adapter_model.safetensors changed while it was being packed"),
        (lambda path: os.truncate(path, 100), "adapter_model.safetensors changed while it was being packed"),
        (lambda path: os.utime(path, ns=(1, 1)), "adapter_model.safetensors changed while it was being packed"),
        (Path.unlink, r"adapter_model.safetensors cannot be read: No such file"),
        (rewrite_in_secret, "adapter_model.safetensors changed while it was being packed"),
    ],
)
def test_a_source_that_changes_before_the_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, change: Callable[[Path], Any], words: str
) -> None:
    folder = adapter(tmp_path / "a")
    (tmp_path / "out").mkdir()
    with pytest.raises(PackError, match=words) as caught:
        pack_after(change, folder, tmp_path / "out" / f"a{suffix}", monkeypatch)
    assert caught.value.hint
    assert os.listdir(tmp_path / "out") == []


@both
@pytest.mark.usefixtures("no_change_time")
def test_the_read_back_notices_what_no_time_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    folder = adapter(tmp_path / "a")
    (tmp_path / "out").mkdir()
    with pytest.raises(PackError, match=r"not the file that was read|cannot be read back"):
        pack_after(rewrite_in_secret, folder, tmp_path / "out" / f"a{suffix}", monkeypatch)
    assert os.listdir(tmp_path / "out") == []


@both
def test_a_refused_folder_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "adapter_config.json").unlink()
    os.mkfifo(folder / "adapter_config.json")
    with pytest.raises(PackError, match="named pipe"):
        pack(folder, folder / f"a{suffix}")
    assert sorted(os.listdir(folder)) == ["adapter_config.json", "adapter_model.safetensors"]


def test_a_source_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("adapter_model.safetensors"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PackError, match=r"adapter_model\.safetensors cannot be read: Permission denied\."):
        pack(TINY, tmp_path / "a.zip")
    assert os.listdir(tmp_path) == []
