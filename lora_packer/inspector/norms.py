"""How large each module's update is: the Frobenius norm of scale x B x A, without ever computing B x A.

``|BA|^2 = trace((A A^T)(B^T B))``: two r x r Gram matrices, summed up in float64 while the file is read in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import BinaryIO

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import parse_key
from lora_packer.adapter.safetensors_header import SafetensorsHeader, TensorInfo
from lora_packer.frozen import frozen
from lora_packer.inspector.case import halves, parsed
from lora_packer.inspector.pieces import FLOAT_BYTES, columns_of, rows_of
from lora_packer.peft.expected import Expectation
from lora_packer.peft.targets import PatternLookup

_PIECE = 1 << 20  # elements in float64 at a time: 8 MB
_LARGEST_RANK = 2048  # a Gram matrix of 32 MB


@frozen
class ModuleStats:
    """One adapted module.

    Attributes:
        module: its path in the base model (of a fused parameter: the parameter's name).
        rank: the rank of its update.
        scale: what the update is multiplied with.
        norm: the Frobenius norm of scale x B x A (for DoRA: of the direction's update), or None where the shapes or the
            dtype do not allow it. Not finite values make it NaN or infinite, which JSON gets as None.
    """

    module: str
    rank: int
    scale: float
    norm: float | None


def module_stats(
    file: BinaryIO,
    header: SafetensorsHeader,
    config: LoraConfig,
    expectation: Expectation | None,
    sources: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[ModuleStats, ...]:
    """Return the statistics of every complete pair, in the order of the file. Raises OSError, PatternError.

    With ``sources`` (see Case), config and expectation are of the file as PEFT renames and merges it.
    """
    alpha_of = PatternLookup(config.alpha_pattern, config.lora_alpha)
    experts_of = expectation.experts if expectation is not None else {}
    place_of = _places(sources or {})
    result = []
    for path, pair in halves(item for item in parsed(header.tensors) if item.info.shape).items():
        if len(pair) < 2:
            continue
        a, b = pair["A"].info, pair["B"].info
        place, merged = place_of.get(path, (path, False))
        name, experts = experts_of.get(place, (place, 1))
        columns = a.shape[0]
        rank = columns // experts if experts and columns % experts == 0 else columns
        if rank == 0:
            continue
        if merged and expectation is not None and name in expectation.targeted:
            # One of the modules that PEFT makes one parameter of, whose rank and alpha count.
            scale, name, experts, rank = config.scale(*expectation.targeted[name]), path, 1, columns
        else:
            scale = config.scale(rank, alpha_of(name))
        norm = _norm(file, header.data_start, a, b, experts)
        norm = None if norm is None or not math.isfinite(norm * scale) else abs(scale) * norm
        result.append(ModuleStats(name, rank, scale, norm))
    return tuple(result)


def _places(sources: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, bool]]:
    """The path of a module in the file -> its path as PEFT has it, and whether other modules of the file go there."""
    return {
        parse_key(own).path: (parse_key(name).path, len(names) > 1) for name, names in sources.items() for own in names
    }


def _norm(file: BinaryIO, start: int, a: TensorInfo, b: TensorInfo, experts: int) -> float | None:
    """The norm of B x A; of fused experts, each of which has its own rows of A and columns of B, of all together."""
    import numpy as np

    columns = a.shape[0]
    fits = len(a.shape) >= 2 and len(b.shape) >= 2 and b.shape[1] == columns and math.prod(b.shape[2:]) == 1
    if not fits or not {a.dtype, b.dtype} <= FLOAT_BYTES.keys() or columns > _LARGEST_RANK or columns % experts:
        return None
    gram_a = np.zeros((columns, columns))
    with np.errstate(all="ignore"):
        for piece in columns_of(file, start, a, max(1, _PIECE // max(1, columns))):
            gram_a += piece @ piece.T
        gram_b = np.zeros((columns, columns))
        for piece in rows_of(file, start, b, max(1, _PIECE // max(1, columns))):
            gram_b += piece.T @ piece
        if experts > 1:
            # A's rows are expert-major, B's columns are rank-major (peft/tuners/lora/layer.py, ParamWrapper).
            of_row, of_column = np.arange(columns) // (columns // experts), np.arange(columns) % experts
            order = np.argsort(of_column, kind="stable")
            gram_b = gram_b[np.ix_(order, order)]
            gram_a = np.where(of_row[:, None] == of_row[None, :], gram_a, 0.0)
        total = float(np.sum(gram_a * gram_b))
    # Rounding may leave a tiny negative number where the update is zero.
    return math.sqrt(max(total, 0.0)) if math.isfinite(total) else math.nan
