"""Archives that readers may take differently: each reader at hand unpacks those that the check takes, and has to agree.

usage: python tools/hostile/readers.py [--mutations N] [--all]

A reader that refuses an archive has no other reading of it. With mutations, bytes of the headers of a good zip and of a
good tar are changed at random, too.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hostile import archives
from lora_packer.adapter.source import open_source
from lora_packer.errors import LoraPackerError

REQUIRED = ("adapter_config.json", "adapter_model.safetensors")
_SLOW = ("100,000", "300,000", "150 pax", "20 GNU", "global pax", "20,000,000", "20 MB", "400 MB")
Reading = Mapping[str, str]
Reader = Callable[[Path, Path], None]


def _program(*command: str) -> Reader:
    """A program, with {archive} and {folder} in its words; it runs in the folder."""

    def read(archive: Path, folder: Path) -> None:
        words = [word.format(archive=archive, folder=folder) for word in command]
        subprocess.run(words, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    return read


def _zipfile(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)


def _tarfile(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")


ZIP_READERS: Mapping[str, Reader] = {
    "zipfile": _zipfile,
    "unzip": _program("unzip", "-o", "-q", "{archive}"),
    "7zz": _program("7zz", "x", "-y", "{archive}"),
    "bsdtar": _program("bsdtar", "-xf", "{archive}"),
    "jar": _program("jar", "xf", "{archive}"),
}
TAR_READERS: Mapping[str, Reader] = {
    "tarfile": _tarfile,
    "tar": _program("tar", "-xzf", "{archive}"),
    "7zz": _program("sh", "-c", "7zz x -so -tgzip '{archive}' | 7zz x -y -si -ttar"),
    "bsdtar": _program("bsdtar", "-xf", "{archive}"),
}


def at_hand(readers: Mapping[str, Reader]) -> dict[str, Reader]:
    """Return the readers that this machine has, and name the others."""
    found = {}
    for name, reader in readers.items():
        if name in ("zipfile", "tarfile") or shutil.which(name):
            found[name] = reader
        else:
            print(f"not at hand: {name}")
    return found


def is_small(name: str) -> bool:
    """Whether an archive of this name is none of those that are there for what they cost."""
    return not any(word in name for word in _SLOW)


def ours(archive: Path) -> Reading | None:
    """Return what the check reads: the digests of the adapter's files; None where it refuses the archive."""
    try:
        with open_source(archive) as source:
            found = {}
            for name in source.files():
                if name in REQUIRED:
                    with source.open(name) as file:
                        found[name] = _digest_of(file.read())
            return found
    except (LoraPackerError, OSError):
        return None


def theirs(reader: Reader, archive: Path) -> Reading:
    """Return what a reader leaves in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            reader(archive, Path(folder))
        except Exception:  # noqa: BLE001 - it refuses, in whatever way
            return {}
        return {
            name: _digest_of((Path(folder) / name).read_bytes()) for name in REQUIRED if (Path(folder) / name).is_file()
        }


def _digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def disagreements(archive: Path, readers: Mapping[str, Reader]) -> tuple[bool, list[str]]:
    """Return whether the check takes an archive, and the readers that then read something else of it."""
    mine = ours(archive)
    if mine is None:
        return False, []
    told = []
    for name, reader in readers.items():
        other = theirs(reader, archive)
        if any(other.get(file, digest) != digest for file, digest in mine.items()):
            told.append(name)
    return True, told


def _mutated(raw: bytes, count: int, places: list[int]) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(0)
    for _ in range(count):
        changed = bytearray(raw)
        where = chance.sample(places, chance.randint(1, 2))
        for at in where:
            changed[at] = chance.choice((0, 1, 2, 8, 0xFF, changed[at] ^ 1 << chance.randrange(8)))
        yield f"bytes {where} changed", bytes(changed)


def _zip_places(raw: bytes) -> list[int]:
    """Where a zip's headers are."""
    places: list[int] = []
    for mark, size in ((b"PK\x03\x04", 30), (b"PK\x01\x02", 46), (b"PK\x05\x06", 22)):
        at = raw.find(mark)
        while at >= 0:
            places += range(at, min(len(raw), at + size + 30))
            at = raw.find(mark, at + 1)
    return places


def _tar_headers(raw: bytes) -> list[int]:
    return [at for at in range(0, len(raw), 512) if raw[at + 257 : at + 262] == b"ustar"]


def _tar_places(raw: bytes) -> list[int]:
    """Where a tar's headers are, but for their checksums."""
    return [at + n for at in _tar_headers(raw) for n in range(512) if not 148 <= n < 156]


def _with_sums(raw: bytes, good: bytes) -> bytes:
    """The tar with checksums that hold."""
    changed = bytearray(raw)
    for at in _tar_headers(good):
        block = changed[at : at + 148] + b" " * 8 + changed[at + 156 : at + 512]
        changed[at + 148 : at + 156] = f"{sum(block):06o}\0 ".encode()
    return bytes(changed)


def run(mutations: int, *, everything: bool = False) -> bool:
    """Hold every archive against every reader; print those that disagree, and a table. Return whether none does."""
    zips, tars = at_hand(ZIP_READERS), at_hand(TAR_READERS)
    few = [(name, raw) for name, raw, _ in archives.ZIPS if is_small(name)]
    tar_few = [(name, raw) for name, raw, _ in archives.TARS if is_small(name)]
    good, good_tar = archives.plain_zip(), archives.plain_tar()
    rows: list[tuple[str, str, Mapping[str, Reader], Callable[[], bytes]]] = [
        *(("a.zip", name, zips, raw) for name, raw in (("a good zip", archives.plain_zip), *few)),
        *(("a.tar.gz", name, tars, raw) for name, raw in (("a good tar", lambda: archives.packed(good_tar)), *tar_few)),
        *(("a.zip", name, zips, lambda raw=raw: raw) for name, raw in _mutated(good, mutations, _zip_places(good))),
        *(
            ("a.tar.gz", name, tars, lambda raw=raw: archives.packed(_with_sums(raw, good_tar)))
            for name, raw in _mutated(good_tar, mutations, _tar_places(good_tar))
        ),
    ]
    taken = wrong = 0
    for file, name, readers, raw in rows:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / file
            archive.write_bytes(raw())
            accepted, told = disagreements(archive, readers)
        taken += accepted
        wrong += bool(told)
        if told or everything:
            otherwise = f"; read otherwise by {', '.join(told)}" if told else ""
            print(f"{file}: {name}: {'taken' if accepted else 'refused'}{otherwise}")
    print(
        f"\nreaders: {len(rows)} archives, {len(rows) - taken} refused, {taken} taken, {wrong} of them read otherwise"
    )
    return not wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=300)
    parser.add_argument("--all", action="store_true")
    given = parser.parse_args()
    sys.exit(0 if run(given.mutations, everything=given.all) else 1)
