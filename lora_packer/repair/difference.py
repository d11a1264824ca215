"""What a mended adapter has that it had not: lines of the config, names of tensors, and what became of their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import unified_diff

from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Computed, Draft

_WIDEST = 200


@frozen
class Difference:
    """Lines that begin with ``-`` for what was there and ``+`` for what is: of the config, then of the tensors."""

    config: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


def difference(before: Draft | None, after: Draft | None) -> Difference:
    """Return what differs between two drafts of one adapter."""
    if before is None or after is None:
        return Difference()
    return Difference(tuple(_config(before, after)), tuple(_tensors(before, after)))


def _config(before: Draft, after: Draft) -> Iterable[str]:
    old, new = (json.dumps(dict(draft.config), indent=2, sort_keys=True).splitlines() for draft in (before, after))
    lines = list(unified_diff(old, new, n=0, lineterm=""))[2:]
    return (escape(line, _WIDEST) for line in lines if not line.startswith("@@"))


def _tensors(before: Draft, after: Draft) -> Iterable[str]:
    if before.tensors == after.tensors:
        return
    by_place = {blob.made: name for name, blob in before.tensors.items()}
    gone = before.tensors.keys() - after.tensors.keys()
    kept = set()
    for name, blob in after.tensors.items():
        old = by_place.get(blob.made)
        if old == name and before.tensors[name] == blob:
            continue
        if old is not None:
            yield f"- {escape(old, _WIDEST)}"
            kept.add(old)
        elif name in before.tensors:
            yield f"- {_shown(name, before.tensors[name])}"
        yield f"+ {escape(name, _WIDEST) if old is not None else _shown(name, blob)}"
    yield from (f"- {_shown(name, before.tensors[name])}" for name in before.tensors if name in gone - kept)


def _shown(name: str, blob: Blob) -> str:
    how = f", {blob.made.what}" if isinstance(blob.made, Computed) else ""
    return f"{escape(name, _WIDEST)} ({blob.dtype} {' x '.join(map(str, blob.shape))}{how})"
