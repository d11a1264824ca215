"""A distributed checkpoint of torch, as FSDP saves shards: each tensor put together of the pieces that the ranks wrote.

``.metadata`` is a pickle that says which tensors there are, how large each is, and where its pieces lie
(torch/distributed/checkpoint/metadata.py); each piece is a file of ``torch.save`` within a ``.distcp`` file
(filesystem.py::_write_item). accelerate saves the model's below "model" (utils/fsdp_utils.py::save_fsdp_model). Of the
pickle nothing is imported, called or run: see ``unpickle``.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import field
from itertools import combinations
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from lora_packer.adapter import AdapterSource
from lora_packer.adapter.keys import PREFIX
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Computed, Shape, Span
from lora_packer.repair.pickled import Inert, UnpickleError
from lora_packer.repair.torch_file import read_torch_tensor
from lora_packer.repair.unpickle import MAX_BYTES, unpickle

if TYPE_CHECKING:
    from numpy.typing import NDArray

_METADATA = "torch.distributed.checkpoint.metadata"
_NAMES = frozenset(
    {
        *((_METADATA, name) for name in ("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "StorageMeta")),
        *((_METADATA, name) for name in ("ChunkStorageMetadata", "TensorProperties", "MetadataIndex")),
        (_METADATA, "_MEM_FORMAT_ENCODING"),
        ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
        ("torch.serialization", "_get_layout"),
        ("torch", "Size"),
        *(("torch", name) for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
        *((module, "PosixPath") for module in ("pathlib", "pathlib._local")),
    }
)
_MODEL = "model."
_MOST_PIECES = 256  # of one tensor: each is compared with every other


class _Place(NamedTuple):
    """Where the bytes of a piece lie."""

    file: str
    begin: int
    length: int


class _Piece(NamedTuple):
    """A part of a tensor: where it begins, and how large it is."""

    offsets: Shape
    sizes: Shape


def read_distributed(source: AdapterSource, metadata: str) -> dict[str, Blob]:
    """Return the tensors of a checkpoint, given the name of its ``.metadata``. Raises UnpickleError, InputError."""
    size = source.size(metadata)
    if size > MAX_BYTES:
        raise UnpickleError(f"it has {size:,} bytes; at most {MAX_BYTES:,} are read")
    with source.open(metadata) as file:
        told = _fields(unpickle(file.read(size), _NAMES), "Metadata")
    places = dict(_places(told.get("storage_data"), metadata.rpartition("/")[0]))
    entries = told.get("state_dict_metadata")
    if not isinstance(entries, dict) or not entries:
        raise UnpickleError("it names no tensors")
    with ExitStack() as stack:
        parts = _Parts(source, places, frozenset(source.files()), stack)
        tensors = {str(name): _tensor(str(name), entry, parts) for name, entry in entries.items()}
    if all(name.startswith(_MODEL + PREFIX) for name in tensors):
        return {name.removeprefix(_MODEL): blob for name, blob in tensors.items()}
    return tensors


def _fields(value: Any, of: str) -> Mapping[str, Any]:
    if isinstance(value, Inert) and value.of == of and isinstance(value.state, dict):
        return value.state
    raise UnpickleError(f"it has no {of} where one has to be")


def _shape(value: Any) -> Shape:
    """A ``torch.Size``."""
    if isinstance(value, Inert) and value.of == "Size":
        match value.arguments:
            case (list(numbers) | tuple(numbers),) if all(type(n) is int and 0 <= n < 1 << 40 for n in numbers):
                return tuple(numbers)
    raise UnpickleError("it has no size where one has to be")


def _places(value: Any, folder: str) -> Any:
    """Yield ((tensor, offsets of the piece), where it lies)."""
    if not isinstance(value, dict):
        raise UnpickleError("it does not say where the pieces lie")
    for key, info in value.items():
        index, fields = _fields(key, "MetadataIndex"), _fields(info, "_StorageInfo")
        if fields.get("transform_descriptors"):
            raise UnpickleError("its pieces are compressed, which is not read")
        match fields:
            case {"relative_path": str(path), "offset": int(begin), "length": int(length)} if min(begin, length) >= 0:
                offsets = () if index.get("offset") is None else _shape(index["offset"])
                yield (index.get("fqn"), offsets), _Place(f"{folder}/{path}" if folder else path, begin, length)
            case _:
                raise UnpickleError("it has a piece without a place")


@frozen
class _Parts:
    """The files of a checkpoint, each opened once and closed by ``stack``, and where the pieces lie in them."""

    source: AdapterSource
    places: Mapping[tuple[str, Shape], _Place]
    names: frozenset[str]
    stack: ExitStack
    opened: dict[str, BinaryIO] = field(default_factory=dict)

    def piece(self, name: str, offsets: Shape) -> Blob:
        """Return a piece of a tensor. Raises UnpickleError, InputError."""
        place = self.places.get((name, offsets))
        if place is None or place.file not in self.names:
            missing = "" if place is None else f": there is no '{escape(place.file, 80)}'"
            raise UnpickleError(f"a piece of '{escape(name, 80)}' is missing{missing}")
        if place.file not in self.opened:
            self.opened[place.file] = self.stack.enter_context(self.source.open(place.file))
        window = io.BufferedReader(_Window(self.opened[place.file], place.begin, place.length))
        return _moved(read_torch_tensor(cast("BinaryIO", window), place.file), place.begin)


def _tensor(name: str, entry: Any, parts: _Parts) -> Blob:
    if isinstance(entry, Inert) and entry.of == "BytesStorageMetadata":
        raise UnpickleError(f"'{escape(name, 80)}' is no tensor")
    fields = _fields(entry, "TensorStorageMetadata")
    shape, listed = _shape(fields.get("size")), fields.get("chunks")
    if not isinstance(listed, list):
        raise UnpickleError(f"'{escape(name, 80)}' has no pieces")
    told = [_fields(item, "ChunkStorageMetadata") for item in listed]
    pieces = [_Piece(_shape(item.get("offsets")), _shape(item.get("sizes"))) for item in told]
    pieces = [piece for piece in pieces if math.prod(piece.sizes)] or pieces[:1]
    if len(pieces) > _MOST_PIECES:
        raise UnpickleError(f"'{escape(name, 80)}' is in {len(pieces):,} pieces; at most {_MOST_PIECES} are joined")
    if not _covers(pieces, shape):
        raise UnpickleError(f"the pieces of '{escape(name, 80)}' do not make the whole of it")
    blobs = []
    for piece in pieces:
        blobs.append(parts.piece(name, piece.offsets))
        if blobs[-1].shape != piece.sizes or blobs[-1].dtype != blobs[0].dtype:
            raise UnpickleError(f"a piece of '{escape(name, 80)}' has another size or dtype than its metadata says")
    return _joined(blobs, pieces, shape)


def _covers(pieces: Sequence[_Piece], shape: Shape) -> bool:
    """Whether each element of a tensor is in one piece and no two: within it, apart, and as many in all."""
    within = all(
        len(offsets) == len(sizes) == len(shape)
        and all(begin + size <= length for begin, size, length in zip(offsets, sizes, shape, strict=True))
        for offsets, sizes in pieces
    )
    count = sum(math.prod(piece.sizes) for piece in pieces)
    return (
        bool(pieces)
        and within
        and count == math.prod(shape)
        and not any(_overlap(*pair) for pair in combinations(pieces, 2))
    )


def _overlap(one: _Piece, other: _Piece) -> bool:
    return all(
        a < b + b_size and b < a + a_size
        for a, a_size, b, b_size in zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True)
    )


def _moved(blob: Blob, by: int) -> Blob:
    """The same tensor, whose offsets are those of the whole file."""
    made = blob.made
    if isinstance(made, Span):
        moved: Span | Computed = Span(made.file, made.begin + by, made.end + by)
    else:
        parts = tuple(_moved(part, by) for part in made.parts)
        moved = Computed(parts, made.compute, made.what, made.elementwise)
    return Blob(blob.dtype, blob.shape, moved)


def _joined(blobs: Sequence[Blob], pieces: Sequence[_Piece], shape: Shape) -> Blob:
    if len(blobs) == 1:
        return blobs[0]

    def join(*arrays: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        whole = np.empty(shape, arrays[0].dtype)
        for array, piece in zip(arrays, pieces, strict=True):
            ends = zip(piece.offsets, piece.sizes, strict=True)
            whole[tuple(slice(begin, begin + size) for begin, size in ends)] = array
        return whole

    return Blob(blobs[0].dtype, shape, Computed(tuple(blobs), join, "joined"))


class _Window(io.RawIOBase):
    """A range of an open file, as a file."""

    def __init__(self, file: BinaryIO, begin: int, length: int) -> None:
        self._file = file
        self._begin = begin
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError("a place before the file's first byte")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._begin + self._at)
        data = self._file.read(max(0, min(len(view), self._length - self._at))) or b""
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
