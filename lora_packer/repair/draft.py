"""An adapter that is being mended: a config, and for each tensor where its bytes lie or what they are made of.

Nothing is read or written while repairs go over it: a tensor that a repair only renames stays a range of the file it
is in, and one that has to be computed says from what, and is computed when it is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.config import LoraConfig, parse_config
from lora_packer.adapter.safetensors_header import DTYPE_BITS, TensorInfo
from lora_packer.frozen import frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape = tuple[int, ...]
METADATA = MappingProxyType({"format": "pt"})  # what PEFT writes, and transformers asks for


@frozen
class Span:
    """Bytes of one of the adapter's files."""

    file: str
    begin: int
    end: int


@frozen
class Computed:
    """What is computed from other tensors when it is written.

    Attributes:
        parts: the tensors that it is computed from.
        compute: makes the tensor of theirs; arrays of unsigned integers as wide as an element, so that bits stay bits.
        what: what is done, in a word.
        elementwise: whether each element comes from one element of the one part, so that it can be done in pieces.
    """

    parts: tuple[Blob, ...]
    compute: Callable[..., NDArray[Any]]
    what: str
    elementwise: bool = False


@frozen
class Blob:
    """A tensor: its dtype, its shape, and where its bytes come from."""

    dtype: str
    shape: Shape
    made: Span | Computed

    @property
    def size(self) -> int:
        """Its length in bytes."""
        count = 1
        for length in self.shape:
            count *= length
        return count * DTYPE_BITS[self.dtype] // 8


@frozen
class Draft:
    """An adapter between two repairs.

    Attributes:
        config: the fields of ``adapter_config.json``.
        tensors: name -> tensor.
        metadata: the ``__metadata__`` of the weights file.
        config_bytes: the config file as it was; None: it is written anew.
        whole: the weights file that is copied as it is, with its length; None: it is written anew.
        extras: files that go along unchanged.
        kept: what was worked out about this config and these tensors, to be asked for again.
    """

    config: Mapping[str, Any]
    tensors: Mapping[str, Blob]
    metadata: Mapping[str, str]
    config_bytes: bytes | None = None
    whole: Span | None = None
    extras: tuple[str, ...] = ()
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def with_config(self, **changes: Any) -> Draft:
        """The same with other values of fields; ``...`` takes a field out."""
        config = {name: value for name, value in {**self.config, **changes}.items() if value is not ...}
        return replace(self, config=config, config_bytes=None, kept={})

    def with_tensors(self, tensors: Mapping[str, Blob]) -> Draft:
        """The same with other tensors."""
        return replace(self, tensors=tensors, whole=None, kept={})

    def renamed(self, names: Mapping[str, str]) -> Draft | None:
        """The same with other names for some tensors, or None where two would have one name."""
        tensors = {names.get(name, name): blob for name, blob in self.tensors.items()}
        return self.with_tensors(tensors) if len(tensors) == len(self.tensors) else None

    @property
    def settings(self) -> LoraConfig:
        """The config as PEFT takes it."""
        return parse_config(self.config)[0]

    @property
    def infos(self) -> Mapping[str, TensorInfo]:
        """The tensors as a header has them; their places in a file are not decided yet."""
        if "infos" not in self.kept:
            self.kept["infos"] = {
                name: TensorInfo(blob.dtype, blob.shape, 0, blob.size) for name, blob in self.tensors.items()
            }
        found: Mapping[str, TensorInfo] = self.kept["infos"]
        return found

    @property
    def config_file(self) -> bytes:
        """The config file, as it was or as PEFT's ``save_pretrained`` would write it (peft/config.py)."""
        if self.config_bytes is not None:
            return self.config_bytes
        return json.dumps(self.config, indent=2, sort_keys=True).encode()


def transposed(blob: Blob) -> Blob:
    """The transpose of a matrix."""
    import numpy as np

    def turn(array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array.T)

    if isinstance(blob.made, Computed) and blob.made.what == "transpose":  # of a transpose
        return blob.made.parts[0]
    return Blob(blob.dtype, blob.shape[::-1], Computed((blob,), turn, "transpose"))
