"""What the packager's tests share: adapters to pack, sources of any size, and a layout as a file."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_packer.packager import Layout, Member
from lora_packer.packager.digest import digest
from lora_packer.packager.layout import FileSlice
from lora_packer.packager.source import Source

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
TINY_BASE = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"


def adapter(folder: Path, **files: str) -> Path:
    """A copy of the smallest adapter, with more files: ``README_md="..."`` is ``README.md``."""
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(TINY / name, folder / name)
    for name, content in files.items():
        (folder / name.replace("_md", ".md")).write_text(content)
    return folder


def change_in_secret(path: Path) -> None:
    """Write other bytes, as many as before and with the same time: only checksums show it. No value becomes NaN."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def then_change_in_secret(check: Callable[..., Any], path: Path) -> Callable[..., Any]:
    """Return the check with such a change right after it."""
    return then_change(check, path, in_secret=True)


def then_change(check: Callable[..., Any], path: Path, *, in_secret: bool = False) -> Callable[..., Any]:
    """Return the check with a change of the file right after it."""

    def check_and_change(*arguments: Any, **options: Any) -> Any:
        report = check(*arguments, **options)
        change_in_secret(path)
        if not in_secret:
            os.utime(path)
        return report

    return check_and_change


def source(path: Path, content: bytes = b"", *, size: int | None = None) -> Source:
    """A file with this content; with ``size``, made that long by a hole that takes no room on the disk."""
    path.write_bytes(content)
    if size is not None:
        with path.open("r+b") as file:
            file.truncate(size)
    return Source.at(path)


def entry(path: Path, content: bytes) -> tuple[Member, Source]:
    found = source(path, content)
    return digest(found), found


def unread_entry(path: Path, size: int) -> tuple[Member, Source]:
    """A member of any size, with a CRC-32 and SHA-256 that are not its own: good for offsets and headers."""
    found = source(path, size=size)
    return Member(path.name, size, "0" * 64, 0x12345678), found


def written(layout: Layout) -> bytes:
    file = io.BytesIO()
    layout.write_to(file)
    return file.getvalue()


def write_sparse(layout: Layout, path: Path) -> Path:
    """The layout as a file on the disk whose large slices are holes: the sources must be holes, too."""
    with path.open("wb") as file:
        for segment in layout.segments:
            if isinstance(segment, FileSlice) and segment.size > 1 << 20:
                file.seek(segment.size, io.SEEK_CUR)
            else:
                segment.write_to(file, lambda _count: None)
    return path


def tools(*names: str) -> list[Any]:
    """Each tool as a parameter; one that is not on this machine is a skip that says so."""
    missing = {name: pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed") for name in names}
    return [pytest.param(name, marks=missing[name]) for name in names]


class LayoutFile(io.RawIOBase):
    """A layout as a file to read, for readers that want one."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._layout.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray) -> int:
        data = self._layout.read(self._position, len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
