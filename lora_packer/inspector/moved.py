"""By how much an update moved: the Frobenius norms of two updates and of their difference, without computing either.

An update is scale x B x A. The difference of two is one product, ``[s2 B2 | -s1 B1] [A2; A1]``, and the norm of a
product U V is the root of ``trace((U^T U)(V V^T))``: matrices of rank x rank, summed up in float64 while the files are
read in pieces. Where the two nearly cancel, squares are not exact enough: then U and V^T are brought to triangles (QR,
piece by piece, as in https://arxiv.org/abs/0808.2664), and the norm is that of the product of the triangles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.frozen import frozen
from lora_packer.inspector.pieces import FLOAT_BYTES, columns_of, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 1 << 20  # elements in float64 at a time: 8 MB
_LARGEST = 1 << 23  # elements of a matrix of ranks by ranks, for all experts together: 64 MB
_BYTES = 1 << 20
# Below this part of what was summed up, rounding shows in the sixth digit of the root.
_CANCELLED = 1e-8


@frozen
class Stored:
    """A tensor in a file, whose data begin at ``start``."""

    file: BinaryIO
    start: int
    info: TensorInfo


@frozen
class Update:
    """One module's update: its two halves, what it is multiplied with, and how many experts lie in them.

    Of fused experts each has its own rows of A, one expert after the other, and its own columns of B, one rank after
    the other (peft/tuners/lora/layer.py, ParamWrapper).
    """

    a: Stored
    b: Stored
    scale: float
    experts: int = 1

    @property
    def rank(self) -> int:
        """The rank of each expert's update."""
        return self.a.info.shape[0] // self.experts

    @property
    def size(self) -> tuple[int, int]:
        """Rows of B and columns of A: those of the base model's own weight."""
        return self.b.info.shape[0], math.prod(self.a.info.shape[1:])


@frozen
class Distance:
    """Two norms and that of the difference."""

    old: float
    new: float
    between: float

    @property
    def percent(self) -> float:
        """The difference in percent of the old; 100 where that was zero and the new is not."""
        if not self.old:
            return 100.0 if self.new else 0.0
        return 100 * (self.between / self.old)


def why_not(update: Update) -> str | None:
    """Return why an update cannot be computed, as the end of a sentence, or None where it can."""
    a, b = update.a.info, update.b.info
    if not {a.dtype, b.dtype} <= FLOAT_BYTES.keys():
        return f"its values are {'/'.join(sorted({a.dtype, b.dtype}))}"
    if len(a.shape) < 2 or len(b.shape) < 2 or b.shape[1] != a.shape[0] or math.prod(b.shape[2:]) != 1:
        return "its lora_A and lora_B do not multiply, as those of a grouped convolution"
    if not math.prod(a.shape) or not math.prod(b.shape):
        return "it has tensors without a value"
    if a.shape[0] % update.experts:
        return "its rank is not that of the config"
    if update.experts * (2 * update.rank) ** 2 > _LARGEST:
        return f"its rank is {update.rank}, for which matrices of {_LARGEST:,} numbers are not enough"
    return None


def distance(old: Update | None, new: Update | None, *, same: bool) -> Distance | str:
    """Return how far two updates are apart, where None is no update; or why that is not to be had.

    ``same``: whether both are the same, bit for bit, but for the scale. Both have to be such that ``why_not`` has
    nothing to say. Raises OSError.
    """
    sides = [item for item in (old, new) if item is not None]
    if len({(item.size, item.experts) for item in sides}) > 1:
        sizes = " and ".join(f"{item.size[0]} x {item.size[1]}" for item in sides)
        return f"its sizes are {sizes}: the base models differ"
    if old is not None and new is not None and same:
        norm, _ = _norms([(old, 1.0)])
        found = Distance(norm * abs(old.scale), norm * abs(new.scale), norm * abs(new.scale - old.scale))
    else:
        signed = [(item, item.scale * sign) for item, sign in ((new, 1.0), (old, -1.0)) if item is not None]
        between, norms = _norms(signed)
        found = Distance(norms[-1] if old else 0.0, norms[0] if new else 0.0, between)
    if not all(map(math.isfinite, (found.old, found.new, found.between))):
        return "its values are not finite"
    return found


def _norms(signed: Sequence[tuple[Update, float]]) -> tuple[float, list[float]]:
    """Return the norm of the sum of factor x B x A, and that of each alone."""
    import numpy as np

    with np.errstate(all="ignore"):
        products = _of_each(_grams, signed) * _grams(_outputs(signed))
        ends = np.cumsum([item.rank for item, _ in signed])
        own = [
            products[:, end - item.rank : end, end - item.rank : end]
            for end, (item, _) in zip(ends, signed, strict=True)
        ]
        total = float(products.sum())
        if math.isfinite(total) and total < _CANCELLED * float(np.abs(products).sum()):
            whole = _triangles(_outputs(signed)) @ _of_each(_triangles, signed).transpose(0, 2, 1)
            between = float(np.linalg.norm(whole))
        else:
            between = _root(total)
        return between, [_root(float(item.sum())) for item in own]


def _root(square: float) -> float:
    """Rounding may leave a tiny negative number where it is zero."""
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan


def _grams(pieces: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """Return P^T P of what is given in pieces of rows: (experts, columns, columns)."""
    import numpy as np

    found: NDArray[Any] | float = 0.0
    for piece in pieces:
        found = found + piece.transpose(0, 2, 1) @ piece
    return np.asarray(found)


def _triangles(pieces: Iterator[NDArray[Any]]) -> NDArray[Any]:
    """Return R of P = Q R, of what is given in pieces of rows: the norm of P X is that of R X."""
    import numpy as np

    found: list[NDArray[Any]] = []
    for piece in pieces:
        found = [np.asarray(np.linalg.qr(np.concatenate([*found, piece], axis=1), mode="r"))]
    return found[0]


def _of_each(
    function: Callable[[Iterator[NDArray[Any]]], NDArray[Any]], signed: Sequence[tuple[Update, float]]
) -> NDArray[Any]:
    """Return what a function makes of each expert's rows of A, which lie together: (experts, ...)."""
    import numpy as np

    return np.concatenate([function(_inputs(signed, expert)) for expert in range(signed[0][0].experts)])


def _inputs(signed: Sequence[tuple[Update, float]], expert: int) -> Iterator[NDArray[Any]]:
    """One expert's A of all side by side, transposed: (1, some columns of A, ranks)."""
    import numpy as np

    step = max(1, _PIECE // sum(item.rank for item, _ in signed))
    pieces = [columns_of(item.a.file, item.a.start, _rows_of_expert(item, expert), step) for item, _ in signed]
    for beside in zip(*pieces, strict=True):
        yield np.concatenate(beside).T[np.newaxis]


def _rows_of_expert(update: Update, expert: int) -> TensorInfo:
    info = update.a.info
    size = (info.end - info.begin) // update.experts
    begin = info.begin + expert * size
    return info._replace(shape=(update.rank, *info.shape[1:]), begin=begin, end=begin + size)


def _outputs(signed: Sequence[tuple[Update, float]]) -> Iterator[NDArray[Any]]:
    """All B side by side, each times its factor: (experts, some rows of B, ranks)."""
    import numpy as np

    step = max(1, _PIECE // sum(item.a.info.shape[0] for item, _ in signed))
    pieces = [rows_of(item.b.file, item.b.start, item.b.info, step) for item, _ in signed]
    for beside in zip(*pieces, strict=True):
        shaped = [
            piece.reshape(-1, item.rank, item.experts) * factor
            for piece, (item, factor) in zip(beside, signed, strict=True)
        ]
        yield np.concatenate(shaped, axis=1).transpose(2, 0, 1)


def tensor_distance(old: Stored | None, new: Stored | None) -> Distance | str:
    """Return how far two tensors are apart, value by value. Raises OSError."""
    import numpy as np

    sides = [item for item in (old, new) if item is not None]
    if len({item.info.shape for item in sides}) > 1:
        shapes = " and ".join(" x ".join(map(str, item.info.shape)) for item in sides)
        return f"its shapes are {shapes}"
    if not {item.info.dtype for item in sides} <= FLOAT_BYTES.keys():
        return f"its values are {'/'.join(sorted({item.info.dtype for item in sides}))}"
    squares = np.zeros(3)  # of the old, the new and the difference
    with np.errstate(all="ignore"):
        for pieces in zip(*(_flat(item) for item in sides), strict=True):
            before = pieces[0] if old is not None else np.zeros_like(pieces[0])
            after = pieces[-1] if new is not None else np.zeros_like(pieces[0])
            squares += [float(np.dot(item, item)) for item in (before, after, after - before)]
    if not np.isfinite(squares).all():
        return "its values are not finite"
    return Distance(*(math.sqrt(item) for item in squares))


def same_bytes(old: Stored, new: Stored) -> bool:
    """Whether two tensors are the same, bit for bit. Raises OSError."""
    if (old.info.dtype, old.info.shape) != (new.info.dtype, new.info.shape):
        return False
    length = old.info.end - old.info.begin
    for at in range(0, length, _BYTES):
        pieces = []
        for item in (old, new):
            item.file.seek(item.start + item.info.begin + at)
            pieces.append(item.file.read(min(_BYTES, length - at)))
        if pieces[0] != pieces[1]:
            return False
    return True


def _flat(stored: Stored) -> Iterator[NDArray[Any]]:
    """The values in a row, some at a time."""
    info = stored.info._replace(shape=(math.prod(stored.info.shape), 1))
    for piece in rows_of(stored.file, stored.start, info, _PIECE):
        yield piece[:, 0]
