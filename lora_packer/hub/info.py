"""What the Hub tells about a repository, read field by field: whatever it sends, each value has its type or is refused.

The fields are those of ``ModelInfo`` in huggingface_hub 2.4 (hf_api.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lora_packer.frozen import frozen

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 2**53  # bytes; no file of the Hub is nearly as large


@frozen
class RepoInfo:
    """A repository's commit and files; see ``Snapshot``."""

    commit: str
    sizes: Mapping[str, int]
    digests: Mapping[str, str]
    restricted: str | None


def read_info(answer: bytes) -> RepoInfo:
    """Return what an answer says. Raises ValueError, which names the field that is not what it should be."""
    try:
        info = json.loads(answer)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(info, dict):
        raise ValueError("it is no object")
    commit, siblings = info.get("sha"), info.get("siblings")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise ValueError("its sha is no commit")
    if not isinstance(siblings, list):
        raise ValueError("its siblings are no list")
    sizes: dict[str, int] = {}
    digests: dict[str, str] = {}
    for item in siblings:
        name = item.get("rfilename") if isinstance(item, dict) else None
        if not isinstance(name, str) or not _is_unicode(name):
            raise ValueError("an rfilename is no text")
        sizes[name] = _size(item)
        if digest := _digest(item):
            digests[name] = digest
    restricted = "private" if info.get("private") else "gated" if info.get("gated") else None
    return RepoInfo(commit, MappingProxyType(sizes), MappingProxyType(digests), restricted)


def _size(item: Mapping[str, Any]) -> int:
    size = item.get("size")
    if type(size) is not int or not 0 <= size <= _LARGEST:
        raise ValueError("a size is no number of bytes")
    return size


def _digest(item: Mapping[str, Any]) -> str | None:
    """The SHA-256 of a file that the Hub stores as a large one; None for another."""
    lfs = item.get("lfs")
    if not lfs:
        return None
    digest = lfs.get("sha256") if isinstance(lfs, dict) else None
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ValueError("an lfs has no sha256")
    return digest


def _is_unicode(name: str) -> bool:
    """Whether it can be written at all: JSON can name half of a character."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
