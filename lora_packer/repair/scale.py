"""The scale of the update, written so that engines read it right which know neither rsLoRA nor a scale for each module.

Such engines multiply every update by lora_alpha / r, whatever else the config says: SGLang
(github.com/sgl-project/sglang/issues/40835), llama.cpp (src/llama-adapter.h::get_scale), LMDeploy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import PAIRED
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Computed, Draft
from lora_packer.repair.layouts.parts import exact_alpha
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting, judged, not_taken_by_target

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN = "plain-scale"
_OF_SCALE = frozenset({"use_rslora", "rank_pattern", "alpha_pattern"})
# Where the exponent is: how many bits are below it, and its mask (IEEE 754; bfloat16 is the upper half of a float32).
_FIELD = {"F64": (52, 0x7FF), "F32": (23, 0xFF), "F16": (10, 0x1F), "BF16": (7, 0xFF)}


def fold(draft: Draft, setting: Setting) -> Mended:
    """Fold rsLoRA into lora_alpha, and ranks and alphas of single modules into one of each."""
    if PLAIN not in setting.allowed and not not_taken_by_target(draft, setting) & _OF_SCALE:
        return draft, []
    told: list[Told] = []
    config = draft.settings
    if config.use_rslora and not (config.rank_pattern or config.alpha_pattern):
        scale = config.scale(config.r, config.lora_alpha)
        alpha = exact_alpha(config.r, scale)
        off = abs(alpha / config.r - scale)
        draft = draft.with_config(use_rslora=False, lora_alpha=alpha)
        how = (
            "is exactly the same number"
            if off == 0
            else f"is off by {off / scale:.1e} of it (the last bit of a float64)"
        )
        message = f"lora_alpha is {alpha:g} and use_rslora false: the update is scaled by {scale:.4g}, as before"
        told.append(repaired("rslora", "LP210", 1, message, f"alpha / r {how}"))
        return draft, told
    if config.rank_pattern or config.alpha_pattern:
        return _one_scale(draft, setting)
    return draft, told


def _one_scale(draft: Draft, setting: Setting) -> Mended:
    """One rank (rows and columns of zeros are added) and one alpha (lora_B takes powers of two)."""
    found = judged(draft, setting)
    if found is None or found.errors or found.case.sources:
        reason = "which rank and alpha each module has is known only where the adapter fits the base model."
        return draft, [skipped("patterns", None, reason)]
    case, config = found.case, draft.settings
    if config.use_dora or case.expectation.experts or config.lora_bias:
        return draft, [skipped("patterns", None, "DoRA, LoRA on parameters and biases on lora_B are not folded.")]
    scales = {path: config.scale(rank, alpha) for path, (rank, alpha) in case.expectation.targeted.items()}
    common = max(set(scales.values()), key=list(scales.values()).count)
    factors = {path: scale / common for path, scale in scales.items()}
    odd = next((path for path, factor in factors.items() if factor <= 0 or math.frexp(factor)[0] != 0.5), None)
    if odd is not None:
        reason = (
            f"'{odd}' is scaled by {factors[odd]:.4g} of what others are, which is no power of two: lora_B would be "
            "rounded. Serve it with an engine that reads alpha_pattern."
        )
        return draft, [skipped("patterns", None, reason)]
    rank = max(rank for rank, _ in case.expectation.targeted.values())
    tensors = dict(draft.tensors)
    with Files(setting.source) as files:
        for name, match in case.difference.matched.items():
            part, path = match.want.part, match.want.path
            if part not in PAIRED:
                continue
            blob = tensors[name]
            if part in ("lora_B.weight", "lora_embedding_B") and factors[path] != 1:
                if blob.dtype not in _FIELD or not _has_room(files.array(blob), blob.dtype, factors[path]):
                    why = f"'{name}' has numbers too small or too large to be scaled."
                    return draft, [skipped("patterns", None, why)]
                blob = _times(blob, factors[path])
            tensors[name] = _padded(blob, 0 if "_A" in part else 1, rank)
    alpha = exact_alpha(rank, common)
    mended = draft.with_tensors(tensors).with_config(
        r=rank, lora_alpha=alpha, rank_pattern={}, alpha_pattern={}, use_rslora=False
    )
    after = judged(mended, setting)
    if after is None or after.errors or alpha / rank != common:
        return draft, [skipped("patterns", None, f"no lora_alpha makes the scale exactly {common:.6g}.")]
    changed = sum(factor != 1 for factor in factors.values())
    message = f"one rank of {rank} and one lora_alpha of {alpha:g} stand for rank_pattern and alpha_pattern"
    proof = (
        f"rows and columns of zeros were added, and lora_B of {changed} modules multiplied by powers of two, which "
        "rounds nothing: each update is the same"
    )
    return mended, [repaired("patterns", None, len(factors), message, proof)]


def _padded(blob: Blob, axis: int, rank: int) -> Blob:
    import numpy as np

    missing = rank - blob.shape[axis]
    if not missing:
        return blob
    shape = tuple(rank if at == axis else size for at, size in enumerate(blob.shape))

    def pad(array: NDArray[Any]) -> NDArray[Any]:
        return np.pad(array, [(0, missing if at == axis else 0) for at in range(array.ndim)])

    return Blob(blob.dtype, shape, Computed((blob,), pad, "pad"))


def _has_room(bits: NDArray[Any], dtype: str, factor: float) -> bool:
    """Whether every number may be multiplied by a power of two without a bit lost: only its exponent changes."""
    shift, mask = _FIELD[dtype]
    steps = math.frexp(factor)[1] - 1
    fields = (bits.reshape(-1) >> bits.dtype.type(shift)) & bits.dtype.type(mask)
    numbers = fields[(bits.reshape(-1) & bits.dtype.type((1 << (shift + mask.bit_length())) - 1)) != 0].astype("<i8")
    return bool(((numbers >= 1) & (numbers + steps >= 1) & (numbers + steps < mask)).all()) if numbers.size else True


def _times(blob: Blob, factor: float) -> Blob:
    import numpy as np

    shift, mask = _FIELD[blob.dtype]
    steps = math.frexp(factor)[1] - 1

    def scale(bits: NDArray[Any]) -> NDArray[Any]:
        nonzero = (bits & bits.dtype.type((1 << (shift + mask.bit_length())) - 1)) != 0
        moved = (bits.astype(np.int64) + (steps << shift)).astype(bits.dtype)
        return np.where(nonzero, moved, bits)

    return Blob(blob.dtype, blob.shape, Computed((blob,), scale, "scaled", elementwise=True))
