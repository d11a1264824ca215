"""What a receipt records of the files of a release, typed: whoever wrote the receipt, each value is looked at first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from lora_packer.errors import InputError
from lora_packer.files import followed
from lora_packer.frozen import frozen
from lora_packer.names import REQUIRED, name_of
from lora_packer.pipeline.receipt import Receipt, Section, load_receipt
from lora_packer.publisher.s3uri import digest_in
from lora_packer.redact import escape

_SHA256 = re.compile(r"[0-9a-f]{64}")
# What `publish` and `release` put behind an archive's name in its object's key: the beginning of its SHA-256.
_KEY_DIGEST = re.compile(r"-[0-9a-f]{16}$")
_WHOLE = "0" * 64
_SUFFIX = ".receipt.json"
_MOST_ENTRIES = 100_000  # of a folder that are looked at
_MOST_NAMED = 5


@frozen
class FileRecord:
    """One file: its length in bytes and the SHA-256 of its content in hex; None where that is not known."""

    size: int | None
    sha256: str | None


@frozen
class Recorded:
    """What a receipt records of what was sent.

    Attributes:
        format: of the archive: ``zip`` or ``tar.gz``.
        archive: its size and SHA-256; None where the release had no archive, or did not come as far as its upload.
        files: those of the adapter, by name; empty where a finished archive was released.
        are_all_files: whether it has no others; of a Hub repository the two are recorded that an adapter needs.
        commit: of a Hub repository that was released.
        why_no_archive: the end of a sentence, where there is none.
        is_partial: whether no more is known of its SHA-256 than the first digits.
        contradictions: where two sections of the receipt differ: what, and the two values.
    """

    format: str | None
    archive: FileRecord | None
    files: Mapping[str, FileRecord]
    are_all_files: bool
    commit: str | None
    why_no_archive: str
    is_partial: bool
    contradictions: tuple[tuple[str, str, str], ...]


def receipt_for(archive: str | Path, receipt: str | Path | None) -> Receipt:
    """Return the receipt at ``receipt``, or the one whose default name fits the archive's.

    Raises InputError where there is none, or not one alone.
    """
    path = Path(receipt) if receipt is not None else _only_one(archive)
    found = load_receipt(path)
    if found is None:
        raise InputError(
            f"There is no receipt '{escape(str(path))}'.", hint="Give the file that `lora-packer release` wrote."
        )
    return found


def recorded(receipt: Receipt) -> Recorded:
    """Return what a receipt records. Raises InputError where a value has not the type that it should have."""
    read = _Reading(receipt)
    packed = receipt.archive
    own = read.digests(receipt.adapter)
    of_archive = [name for name in own if name not in REQUIRED and name.endswith((".zip", ".tar.gz"))]
    archive = None
    if packed is not None:
        archive = FileRecord(read.size(packed, "archive"), read.sha256(packed, "archive", required=True))
    elif len(own) == len(of_archive) == 1:
        archive = FileRecord(None, own[of_archive[0]])
    elif receipt.object is not None:
        archive = read.stored(receipt.object)
    members = read.members(packed)
    commit = read.text(receipt.adapter, "adapter", "commit")
    files = members
    if not members and (commit is not None or set(own) >= set(REQUIRED)):
        files = {name: FileRecord(None, own.get(name)) for name in REQUIRED}
    return Recorded(
        format=read.text(packed, "archive", "format"),
        archive=archive,
        files=MappingProxyType(files),
        are_all_files=bool(files) and commit is None,
        commit=commit,
        is_partial=archive is not None and len(archive.sha256 or _WHOLE) < len(_WHOLE),
        why_no_archive="" if archive else _why_no_archive(receipt),
        contradictions=tuple(_contradictions(read, receipt, archive, members, own, of_archive)),
    )


def _contradictions(
    read: _Reading,
    receipt: Receipt,
    archive: FileRecord | None,
    members: Mapping[str, FileRecord],
    own: Mapping[str, str],
    of_archive: list[str],
) -> Iterator[tuple[str, str, str]]:
    """Two sections that record one thing record the same, unless somebody changed one of them."""
    stored = read.sha256(receipt.object, "object") if receipt.object is not None else None
    whole = archive.sha256 if archive is not None else None
    if whole is not None and len(whole) == len(_WHOLE):
        for section, digest in [("object", stored), *(("adapter", own[name]) for name in of_archive)]:
            if digest is not None and digest != whole:
                yield f"{section}.sha256 in the receipt", whole, digest
    for name, member in members.items():
        if name in own and member.sha256 is not None and own[name] != member.sha256:
            yield f"adapter.sha256 of {escape(name, 120)} in the receipt", member.sha256, own[name]


def _why_no_archive(receipt: Receipt) -> str:
    source = receipt.release.get("source")
    if source == "direct":
        return "the files were sent to the service themselves, with --direct"
    if isinstance(source, str) and source.startswith("s3://"):
        return "the archive was at the store already, and was not read as a whole"
    if source is not None:
        return "the service fetched the repo from the Hub itself"
    return "the release did not come as far as the upload"


@frozen
class _Reading:
    """Reads values out of a receipt; each raises InputError where a value is of another kind."""

    receipt: Receipt

    def text(self, section: Section | None, where: str, key: str) -> str | None:
        """Return a text that may be missing."""
        value = (section or {}).get(key)
        if value is None or isinstance(value, str):
            return value
        raise self._odd(f"{where}.{key}", "a text")

    def size(self, section: Section, where: str) -> int | None:
        """Return a number of bytes that may be missing."""
        value = section.get("size")
        if value is None or (type(value) is int and 0 <= value < 1 << 63):
            return value
        raise self._odd(f"{where}.size", "a number of bytes")

    def sha256(self, section: Section, where: str, *, required: bool = False) -> str | None:
        """Return a SHA-256; empty is as good as missing: nobody wanted it then."""
        value = section.get("sha256") or None
        if (value is None and not required) or (isinstance(value, str) and _SHA256.fullmatch(value)):
            return value
        raise self._odd(f"{where}.sha256", "a SHA-256 in hex")

    def digests(self, adapter: Section) -> dict[str, str]:
        """Return the SHA-256 of the adapter's files, by name."""
        value = adapter.get("sha256") or {}
        if isinstance(value, dict) and all(isinstance(one, str) and _SHA256.fullmatch(one) for one in value.values()):
            return value
        raise self._odd("adapter.sha256", "an object: file name -> SHA-256 in hex")

    def stored(self, section: Section) -> FileRecord:
        """Return an object that was there already: its digest, or what its key tells of it, as those of `publish`."""
        key = self.text(section, "object", "key") or ""
        return FileRecord(self.size(section, "object"), self.sha256(section, "object") or digest_in(f"s3://b/{key}"))

    def members(self, packed: Section | None) -> dict[str, FileRecord]:
        """Return the archive's members, by name."""
        value = (packed or {}).get("members") or []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._odd("archive.members", "a list of objects")
        found = {}
        for number, item in enumerate(value):
            where = f"archive.members[{number}]"
            name = self.text(item, where, "name")
            if not name or name in found:
                raise self._odd(f"{where}.name", "the name of one file")
            found[name] = FileRecord(self.size(item, where), self.sha256(item, where))
        return found

    def _odd(self, where: str, wanted: str) -> InputError:
        return InputError(
            f"The receipt '{escape(str(self.receipt.path))}' is damaged: its {where} is not {wanted}.",
            hint="Give the receipt as `lora-packer release` wrote it.",
        )


def _only_one(archive: str | Path) -> Path:
    """Return the receipt beside an archive, or in the working folder, whose default name begins like the archive's."""
    text = str(archive)
    path = Path(text.rpartition("/")[2].partition("@")[0]) if "://" in text else Path(text)
    name = name_of(path)
    names = {name, _KEY_DIGEST.sub("", name)}
    folders = dict.fromkeys((followed(path).parent, Path.cwd()))
    found = [file for folder in folders for file in _receipts(folder) if _fits(file.name, names)]
    if len(found) == 1:
        return found[0]
    option = "Name it with --receipt."
    if not found:
        raise InputError(
            f"There is no receipt for '{escape(text)}': neither beside it nor in the working folder is a file "
            f"{escape(name, 60)}*{_SUFFIX}.",
            hint=option,
        )
    shown = ", ".join(escape(str(file), 120) for file in found[:_MOST_NAMED])
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    raise InputError(f"{len(found)} receipts may be those of '{escape(text)}': {shown}{more}.", hint=option)


def _fits(file: str, names: set[str]) -> bool:
    stem = file.removesuffix(_SUFFIX)
    return any(stem == name or stem.startswith(f"{name}.") for name in names)


def _receipts(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_ENTRIES) if entry.name.endswith(_SUFFIX))
    except OSError:
        return []
    return [folder / name for name in names]
