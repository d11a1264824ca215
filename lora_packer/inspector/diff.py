"""``diff``: what changed between two adapters, and by how much the update of each module moved."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, cast

from lora_packer.adapter import WEIGHTS_NAME, Adapter, AdapterSource, read_adapter
from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.patterns import PatternError
from lora_packer.arguments import require_path
from lora_packer.errors import InconclusiveError, InputError
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Tensor, halves, parsed
from lora_packer.inspector.changes import Diff, ModuleChange
from lora_packer.inspector.config_changes import config_changes
from lora_packer.inspector.moved import Distance, Stored, Update, distance, same_bytes, tensor_distance, why_not
from lora_packer.inspector.opening import open_adapter
from lora_packer.inspector.scales import Scales
from lora_packer.redact import escape

_WIDEST = 200  # characters of a name
_PIECE = 8 << 20  # bytes of a copy at a time


def diff(
    old: str | Path | AdapterSource,
    new: str | Path | AdapterSource,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Diff:
    """Compare two adapters: their configs, their modules, and how far each module's update moved.

    The update of a module is scale x B x A; stored as another rank, dtype or scale, it has not moved as long as that is
    the same. Neither product is ever computed, and memory does not grow with the files.
    Of DoRA the update of the direction is compared, and the magnitude as a tensor of its own.

    Args:
        old, new: folders, finished archives, ``hf://org/repo[@revision]``, ``s3://...`` or an ``https://`` URL. What is
            not on this machine is fetched, into a temporary file.
        progress: told (bytes compared, bytes in all).

    Raises:
        InputError: one of the two cannot be read.
        InconclusiveError: whoever has one of them could not be asked, or alpha_pattern is not evaluated.
    """
    for value, name in ((old, "old"), (new, "new")):
        if not hasattr(value, "open"):
            require_path(value, name)
    with _opened(old) as before, _opened(new) as after:
        try:
            measured = list(_measured(before, after, progress or _nobody))
        except PatternError as error:
            raise InconclusiveError(f"A pattern of the config is not evaluated: {escape(str(error))}.") from None
        except OSError as error:
            raise InputError(f"{WEIGHTS_NAME} cannot be read: {error.strerror or error}.") from None
        changes = config_changes(before.adapter.raw_config, after.adapter.raw_config)
        names = before.adapter.source, after.adapter.source
    updates = [found for item, found in measured if item.kind == "update" and found is not None]
    modules = sorted((item for item, _ in measured), key=lambda item: (item.moved is not None, -_moved(item)))
    return Diff(*names, changes, tuple(modules), _overall(updates))


def _nobody(_done: int, _total: int) -> None:
    """Nobody wants to know."""


def _moved(item: ModuleChange) -> float:
    return 0.0 if item.moved is None else item.moved


def _overall(updates: Iterable[Distance]) -> float | None:
    """All updates as one."""
    found = list(updates)
    before, between = (math.hypot(*values) for values in ([d.old for d in found], [d.between for d in found]))
    return 100 * (between / before) if before else None


@frozen
class _Side:
    """One of the two adapters, open: what it says, its weights, and its tensors by what they are of."""

    adapter: Adapter
    config: LoraConfig
    start: int
    file: BinaryIO
    pairs: Mapping[str, Mapping[str, Tensor]]
    others: Mapping[str, Tensor]


@contextmanager
def _opened(place: str | Path | AdapterSource) -> Iterator[_Side]:
    """Open one of the two. Raises InputError where config or header cannot be read."""
    with open_adapter(place) as source:
        adapter = read_adapter(source)
        if adapter.config is None or adapter.header is None:
            why = "; ".join(defect.message for defect in adapter.defects)
            raise InputError(
                f"'{escape(source.name)}' cannot be compared: {why}.", hint="`lora-packer check` says what to do."
            )
        tensors = parsed(adapter.header.tensors)
        pairs = halves(tensor for tensor in tensors if tensor.info.shape)
        paired = {tensor.name for pair in pairs.values() for tensor in pair.values()}
        others = {_name(tensor): tensor for tensor in tensors if tensor.name not in paired}
        with _weights(source) as file:
            yield _Side(adapter, adapter.config, adapter.header.data_start, file, pairs, others)


def _name(tensor: Tensor) -> str:
    return ".".join(part for part in (tensor.key.path, tensor.key.part) if part)


@contextmanager
def _weights(source: AdapterSource) -> Iterator[BinaryIO]:
    """Open the weights, to be read at any offset; what is no file of its own is copied to one without a name."""
    with source.open(WEIGHTS_NAME) as file:
        if source.path(WEIGHTS_NAME) is not None:
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            while piece := file.read(_PIECE):
                copy.write(piece)
            yield cast(BinaryIO, copy)


def _measured(
    before: _Side, after: _Side, progress: Callable[[int, int], None]
) -> Iterator[tuple[ModuleChange, Distance | None]]:
    """Each module's update and each other tensor, in the order of the files. Raises OSError, PatternError."""
    scales = Scales(before.config), Scales(after.config)
    total = sum(info.end - info.begin for side in (before, after) for info in side.adapter.tensors.values())
    done = 0
    for path in dict.fromkeys([*before.pairs, *after.pairs]):
        pairs = before.pairs.get(path), after.pairs.get(path)
        yield _update(path, *(_half(*item) for item in zip((before, after), scales, pairs, strict=True)))
        done += sum(_bytes(tensor) for pair in pairs if pair is not None for tensor in pair.values())
        progress(done, total)
    for name in dict.fromkeys([*before.others, *after.others]):
        tensors = before.others.get(name), after.others.get(name)
        yield _tensor(name, *(_stored(*item) for item in zip((before, after), tensors, strict=True)))
        done += sum(_bytes(tensor) for tensor in tensors if tensor is not None)
        progress(done, total)


@frozen
class _Half:
    """One side of one module: its tensors, its update or why that cannot be computed, its rank and scale if known."""

    tensors: Mapping[str, Stored]
    update: Update | str
    rank: int | None
    scale: float | None
    config: LoraConfig

    def is_same_as(self, other: _Half) -> bool:
        """Whether both halves are the same, bit for bit; the scale is another matter. Raises OSError."""
        return self.tensors.keys() == other.tensors.keys() and all(
            same_bytes(tensor, other.tensors[name]) for name, tensor in self.tensors.items()
        )

    def is_scaled_as(self, other: _Half) -> bool:
        """Whether both have the same scale; where it is not known, the same config."""
        if self.scale is None or other.scale is None:
            return self.config == other.config
        return self.scale == other.scale


def _half(side: _Side, scales: Scales, pair: Mapping[str, Tensor] | None) -> _Half | None:
    if pair is None:
        return None
    tensors = {name: Stored(side.file, side.start, tensor.info) for name, tensor in pair.items()}
    lost = [name for name in "AB" if name not in tensors]
    if lost:
        return _Half(tensors, f"lora_{lost[0]} is missing", None, None, side.config)
    columns = pair["A"].info.shape[0]
    scaled = scales.of(pair["A"].key.path, columns)
    if isinstance(scaled, str):
        return _Half(tensors, scaled, None, None, side.config)
    update = Update(tensors["A"], tensors["B"], scaled.scale, scaled.experts)
    return _Half(tensors, why_not(update) or update, columns // scaled.experts, scaled.scale, side.config)


def _stored(side: _Side, tensor: Tensor | None) -> Stored | None:
    return None if tensor is None else Stored(side.file, side.start, tensor.info)


def _bytes(tensor: Tensor) -> int:
    return tensor.info.end - tensor.info.begin


def _update(path: str, old: _Half | None, new: _Half | None) -> tuple[ModuleChange, Distance | None]:
    """What became of one module's update."""
    same = old is not None and new is not None and old.is_same_as(new)
    unchanged = same and old is not None and new is not None and old.is_scaled_as(new)
    updates = [half.update if half is not None else None for half in (old, new)]
    found: Distance | str
    if (reason := next((item for item in updates if isinstance(item, str)), None)) is not None:
        found = reason
    else:
        found = distance(*(item for item in updates if not isinstance(item, str)), same=same)
    change = ModuleChange(
        escape(path, _WIDEST),
        "update",
        _kind(old, new, unchanged=unchanged),
        old_rank=old.rank if old else None,
        new_rank=new.rank if new else None,
        old_scale=old.scale if old else None,
        new_scale=new.scale if new else None,
    )
    return _with(change, found)


def _tensor(name: str, old: Stored | None, new: Stored | None) -> tuple[ModuleChange, Distance | None]:
    """What became of one tensor that is no part of an update."""
    unchanged = old is not None and new is not None and same_bytes(old, new)
    change = ModuleChange(escape(name, _WIDEST), "tensor", _kind(old, new, unchanged=unchanged))
    return _with(change, tensor_distance(old, new))


def _kind(old: object, new: object, *, unchanged: bool) -> Literal["same", "changed", "added", "removed"]:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    return "same" if unchanged else "changed"


def _with(change: ModuleChange, found: Distance | str) -> tuple[ModuleChange, Distance | None]:
    """Return a change with its figures. What is the same, new or gone needs none to be told how far it moved."""
    moved = {"same": 0.0, "added": 100.0, "removed": 100.0}.get(change.change)
    if isinstance(found, str):
        return replace(change, moved=moved, not_compared=found if moved is None else None), None
    old, new = (
        None if change.change == missing else norm for missing, norm in (("added", found.old), ("removed", found.new))
    )
    return replace(change, moved=found.percent if moved is None else moved, old_norm=old, new_norm=new), found
