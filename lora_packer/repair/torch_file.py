"""The tensors of a ``.bin`` file of ``torch.save``, without torch: where the bytes of each lie.

Since torch 1.6 such a file is a zip whose members are stored as they are: ``NAME/data.pkl`` says what there is, and
``NAME/data/KEY`` has the bytes of a storage (torch/serialization.py::_save). What the pickle says is read by
``unpickle``, which runs nothing.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from lora_packer.adapter.archive_safety import check_zip_end, data_start
from lora_packer.adapter.safetensors_header import DTYPE_BITS
from lora_packer.errors import InputError
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Computed, Span
from lora_packer.repair.pickled import PickledTensor, Storage, UnpickleError
from lora_packer.repair.unpickle import MAX_BYTES, unpickle

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PICKLE = "/data.pkl"
_ALONE = ""
# Under which keys trainers put the tensors beside their own state.
_HOLDERS = ("state_dict", "model_state_dict", "model", "module", "lora_state_dict")


def read_torch_file(file: BinaryIO, name: str) -> dict[str, Blob]:
    """Return the tensors of the file, which is called ``name`` among the adapter's. Raises UnpickleError."""
    return _read(file, name, _named)


def read_torch_tensor(file: BinaryIO, name: str) -> Blob:
    """Return the one tensor of a file that holds no more. Raises UnpickleError."""
    return _read(file, name, _alone)[_ALONE]


def _read(file: BinaryIO, name: str, taken: Callable[[Any], dict[str, PickledTensor]]) -> dict[str, Blob]:
    start = file.read(4)
    if start[:2] != b"PK":
        old = start[:1] == b"\x80"
        what = "it is a pickle as torch before 1.6 wrote it" if old else "it is no file of torch.save"
        raise UnpickleError(f"{what}: save it with torch.save of a newer release")
    try:
        check_zip_end(name, file)
        with zipfile.ZipFile(file) as opened:
            return _tensors(opened, file, name, taken)
    except InputError as error:
        raise UnpickleError(error.message.rstrip(".")) from None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, ValueError, struct.error) as error:
        if isinstance(error, UnpickleError):
            raise
        raise UnpickleError(f"it is a damaged zip ({escape(str(error), 80)})") from None


def _tensors(
    opened: zipfile.ZipFile, file: BinaryIO, name: str, taken: Callable[[Any], dict[str, PickledTensor]]
) -> dict[str, Blob]:
    members = {info.filename: info for info in opened.infolist()}
    pickles = [item for item in members if item.endswith(_PICKLE) and item.count("/") == 1]
    if len(pickles) != 1 or len(members) != len(opened.infolist()):
        raise UnpickleError("it is a zip, and not one of torch.save")
    folder = pickles[0].removesuffix(_PICKLE)
    for info in members.values():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 0x1:
            raise UnpickleError(f"its member '{escape(info.filename, 60)}' is not stored as it is")
    order = members.get(f"{folder}/byteorder")
    if order is not None and (order.file_size > 16 or opened.read(order) != b"little"):
        raise UnpickleError("it was written by a machine of the other byte order")
    if members[pickles[0]].file_size > MAX_BYTES:
        raise UnpickleError(f"its pickle has more than {MAX_BYTES:,} bytes")
    found = taken(unpickle(opened.read(pickles[0])))
    starts: dict[str, int] = {}
    size = file.seek(0, 2)
    for tensor in found.values():
        storage = tensor.storage
        if storage.key in starts:
            continue
        member = members.get(f"{folder}/data/{storage.key}")
        if member is None or member.file_size != storage.elements * DTYPE_BITS[storage.dtype] // 8:
            raise UnpickleError("a storage that its pickle names is missing, or has another size")
        starts[storage.key] = data_start(file, member)
        if starts[storage.key] + member.file_size > size:
            raise UnpickleError("a storage reaches behind the end of the file")
    return {key: _blob(tensor, starts[tensor.storage.key], name) for key, tensor in found.items()}


def _alone(value: Any) -> dict[str, PickledTensor]:
    if not isinstance(value, PickledTensor):
        raise UnpickleError("it holds no tensor")
    return {_ALONE: value}


def _named(value: Any) -> dict[str, PickledTensor]:
    """The tensors by name, of a state dictionary or of the one below a trainer's key."""
    if not isinstance(value, dict):
        raise UnpickleError("its pickle holds no dictionary of tensors")
    found = {key: item for key, item in value.items() if isinstance(item, PickledTensor) and isinstance(key, str)}
    if not found:
        for holder in _HOLDERS:
            below = value.get(holder)
            if isinstance(below, dict):
                return _named({key: item for key, item in below.items() if isinstance(item, PickledTensor)})
        raise UnpickleError("it holds no tensors by name")
    if len(found) != len(value):
        raise UnpickleError("it holds other things than tensors")
    return found


def _blob(tensor: PickledTensor, start: int, name: str) -> Blob:
    storage, width = tensor.storage, DTYPE_BITS[tensor.storage.dtype] // 8
    elements = 1
    for length in tensor.shape:
        elements *= length
    begin = start + tensor.offset * width
    if _is_contiguous(tensor) or not elements:
        return Blob(storage.dtype, tensor.shape, Span(name, begin, begin + elements * width))
    whole = Blob(storage.dtype, (storage.elements,), Span(name, start, start + storage.elements * width))

    def view(array: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        strides = tuple(step * array.itemsize for step in tensor.stride)
        return np.lib.stride_tricks.as_strided(array[tensor.offset :], tensor.shape, strides).copy()

    return Blob(storage.dtype, tensor.shape, Computed((whole,), view, "view"))


def _is_contiguous(tensor: PickledTensor) -> bool:
    step = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


__all__ = ["Storage", "UnpickleError", "read_torch_file", "read_torch_tensor"]
