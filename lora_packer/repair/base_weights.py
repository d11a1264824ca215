"""The base model's own weights, read by ranges: enough to say whether a tensor of an adapter is one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import PREFIX, key_name
from lora_packer.adapter.safetensors_header import HeaderError, TensorInfo, read_header
from lora_packer.errors import InputError
from lora_packer.files import is_file, is_folder
from lora_packer.frozen import frozen
from lora_packer.inspector.matching import core_of
from lora_packer.redact import escape
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Span

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 1 << 20  # elements at a time
_MOST_FILES = 1000
# What widens to float32 without loss.
_FLOATS = {"F32": 4, "BF16": 2, "F16": 2}


@frozen
class _Place:
    """Where a tensor of the base lies: the file, the offset of its first byte, and what it is."""

    file: Path
    begin: int
    info: TensorInfo


class BaseWeights:
    """The tensors of a base checkpoint, by name."""

    def __init__(self, places: dict[str, _Place]) -> None:
        self._places = places
        cores: dict[str, list[_Place]] = {}
        for name, place in places.items():
            cores.setdefault(core_of(key_name(name, "")), []).append(place)
        self._cores = {core: found[0] for core, found in cores.items() if len(found) == 1}

    @classmethod
    def load(cls, path: str | Path) -> BaseWeights:
        """Read the headers of a ``.safetensors`` file, or of those in a folder. Raises InputError."""
        place = Path(path)
        shown = escape(str(place))
        if is_folder(place):
            files = sorted(place.glob("*.safetensors"))[:_MOST_FILES]
        elif is_file(place):
            files = [place]
        else:
            raise InputError(f"there is no file or folder '{shown}'.", hint="Give the base model's weights.")
        if not files:
            hint = "Give the folder with the base checkpoint's .safetensors files, or one of them."
            raise InputError(f"the folder '{shown}' has no .safetensors files.", hint=hint)
        found: dict[str, _Place] = {}
        for file in files:
            try:
                with file.open("rb") as opened:
                    header = read_header(opened, file.stat().st_size)
            except (HeaderError, OSError) as error:
                reason = escape(str(error), 120)
                raise InputError(f"'{escape(str(file))}' cannot be read: {reason}.", hint="Get it again.") from None
            for name, info in header.tensors.items():
                found[name] = _Place(file, header.data_start + info.begin, info)
        return cls(found)

    def has_same(self, name: str, blob: Blob, files: Files) -> bool | None:
        """Whether the base has exactly these values under that name; None where it has no such tensor."""
        plain = name.removeprefix(PREFIX)
        place = self._places.get(plain) or self._cores.get(core_of(key_name(plain, "")))
        if place is None:
            return None
        if place.info.shape != blob.shape:
            return False
        with place.file.open("rb") as base:
            return all(
                _equal(own, blob.dtype, _of_base(base, place, at, len(own)), place.info.dtype)
                for at, own in _pieces(blob, files)
            )


def _pieces(blob: Blob, files: Files) -> Any:
    """Yield (the position of its first element, some elements) of a tensor of the adapter."""
    import numpy as np

    if not isinstance(blob.made, Span):
        yield 0, files.array(blob).reshape(-1)
        return
    width = _width(blob.dtype)
    for at in range(0, blob.size // width, _PIECE):
        begin = blob.made.begin + at * width
        span = Span(blob.made.file, begin, min(begin + _PIECE * width, blob.made.end))
        yield at, np.frombuffer(files.read(span), f"<u{width}")


def _width(dtype: str) -> int:
    from lora_packer.adapter.safetensors_header import DTYPE_BITS

    return max(8, DTYPE_BITS[dtype]) // 8


def _of_base(base: Any, place: _Place, at: int, count: int) -> NDArray[Any]:
    import numpy as np

    width = _width(place.info.dtype)
    base.seek(place.begin + at * width)
    return np.frombuffer(base.read(count * width), f"<u{width}")


def _equal(own: NDArray[Any], own_dtype: str, other: NDArray[Any], dtype: str) -> bool:
    if own_dtype == dtype:
        return bool((own == other).all()) if own.shape == other.shape else False
    if own_dtype not in _FLOATS or dtype not in _FLOATS or own.shape != other.shape:
        return False
    return bool((_float32(own, own_dtype).view("<u4") == _float32(other, dtype).view("<u4")).all())


def _float32(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The values as float32, which holds each of them exactly."""
    import numpy as np

    if dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view(np.float16).astype(np.float32) if dtype == "F16" else bits.view(np.float32)
