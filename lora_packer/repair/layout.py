"""What the weights file of a draft consists of: its header, and for each tensor where its bytes come from.

The order is the safetensors library's (safetensors/src/tensor.rs::prepare, release 0.8): the widest dtypes first, by
name among those of one dtype. So a file that was only renamed by mistake comes back as it was, to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lora_packer.adapter.safetensors_header import DTYPE_BITS
from lora_packer.repair.draft import Blob, Draft, Span

_RANK = {dtype: at for at, dtype in enumerate(DTYPE_BITS)}  # in the order of the library's enumeration
_ALIGNED = 8


class Segment(NamedTuple):
    """Some bytes of the new file: the bytes themselves, a range of an old file, or a tensor that is computed."""

    size: int
    what: bytes | Span | Blob


def segments(draft: Draft) -> list[Segment]:
    """Return the weights file of a draft, from end to end."""
    if draft.whole is not None:
        return [Segment(draft.whole.end - draft.whole.begin, draft.whole)]
    ordered = sorted(draft.tensors.items(), key=lambda item: item[0].encode())
    ordered.sort(key=lambda item: -_RANK[item[1].dtype])
    header = _header(draft.metadata, ordered)
    return list(_joined([Segment(len(header), header), *_data(ordered)]))


def _header(metadata: Mapping[str, str], ordered: list[tuple[str, Blob]]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name, blob in ordered:
        offsets = [position, position + blob.size]
        entries[name] = {"dtype": blob.dtype, "shape": list(blob.shape), "data_offsets": offsets}
        position += blob.size
    raw = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % _ALIGNED)
    return len(raw).to_bytes(8, "little") + raw


def _data(ordered: list[tuple[str, Blob]]) -> Iterator[Segment]:
    for _, blob in ordered:
        if blob.size:
            yield Segment(blob.size, blob.made if isinstance(blob.made, Span) else blob)


def _joined(parts: list[Segment]) -> Iterator[Segment]:
    """The same, with ranges of a file that follow one another taken as one."""
    run: Span | None = None
    for size, what in parts:
        if isinstance(what, Span) and run is not None and (what.file, what.begin) == (run.file, run.end):
            run = Span(run.file, run.begin, what.end)
            continue
        if run is not None:
            yield Segment(run.end - run.begin, run)
        run = what if isinstance(what, Span) else None
        if run is None:
            yield Segment(size, what)
    if run is not None:
        yield Segment(run.end - run.begin, run)
