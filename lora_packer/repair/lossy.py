"""What loses something, or sets what no tensor confirms: done only where it is asked for by name (``--allow``)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import PAIRED, parse_key
from lora_packer.errors import InputError
from lora_packer.inspector.case import halves, parsed
from lora_packer.peft.expected import RANK_AXIS
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Computed, Draft
from lora_packer.repair.result import repaired, skipped
from lora_packer.repair.setting import Mended, Setting, found_by, is_better, judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANK, BFLOAT16, SVD = "rank-from-tensors", "bfloat16", "svd-rank"
LOSSY = {
    RANK: "r and rank_pattern as the tensors have them; the scale of the update changes with them",
    BFLOAT16: "float32 tensors rounded to bfloat16",
    SVD: "svd-rank=N: the best update of rank N, by a singular value decomposition of each",
}
_LARGEST = 8192


def rank_from_tensors(draft: Draft, setting: Setting) -> Mended:
    """Set ``r`` and ``rank_pattern`` to the ranks of the tensors."""
    found = found_by(draft, setting, "LP302")
    if found is None:
        return draft, []
    diagnosis, findings = found
    if RANK not in setting.allowed:
        reason = (
            f"{findings[0].message}. With --allow {RANK} the config takes the tensors' ranks; whether lora_alpha was "
            "that of training no tensor shows."
        )
        return draft, [skipped("rank", "LP302", reason)]
    ranks: dict[str, int] = {}
    for match in diagnosis.case.difference.matched.values():
        if match.want.part in PAIRED and match.want.path not in diagnosis.case.expectation.experts:
            ranks[match.want.path] = match.info.shape[RANK_AXIS[match.want.part]]
    common = max(set(ranks.values()), key=list(ranks.values()).count, default=draft.settings.r)
    pattern = {path: rank for path, rank in ranks.items() if rank != common}
    mended = draft.with_config(r=common, rank_pattern=pattern)
    if not is_better(diagnosis, judged(mended, setting), "LP302", setting.base):
        return draft, [
            skipped("rank", "LP302", f"{findings[0].message}, and no rank fits all. Save the adapter again.")
        ]
    scale = draft.settings.scale(common, draft.settings.lora_alpha)
    message = f"r is {common}" + (f", with other ranks for {len(pattern)} modules" if pattern else "")
    proof = (
        f"the tensors have these ranks; lora_alpha stays, so that the update is scaled by {scale:.4g}: make sure of it"
    )
    return mended, [repaired("rank", "LP302", findings[0].count, message, proof)]


def bfloat16(draft: Draft, setting: Setting) -> Mended:
    """Round float32 to bfloat16, to the nearest and halves to even, as torch does."""
    float32 = [name for name, blob in draft.tensors.items() if blob.dtype == "F32"]
    if BFLOAT16 not in setting.allowed or not float32:
        return draft, []
    tensors = {name: _rounded(blob) if blob.dtype == "F32" else blob for name, blob in draft.tensors.items()}
    message = f"{len(float32)} float32 tensors were rounded to bfloat16"
    proof = "no value is off by more than 1/256 of itself (2^-8: bfloat16 has 8 bits of precision)"
    return draft.with_tensors(tensors), [repaired(BFLOAT16, None, len(float32), message, proof)]


def _rounded(blob: Blob) -> Blob:
    import numpy as np

    def round_bits(bits: NDArray[Any]) -> NDArray[Any]:
        is_nan = (bits & np.uint32(0x7FFF_FFFF)) > np.uint32(0x7F80_0000)
        even = ((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF)
        # A number that would round to infinity is cut instead: that is the nearest number there is.
        up = bits + even
        overflows = (up & np.uint32(0x7F80_0000)) == np.uint32(0x7F80_0000)
        is_finite = (bits & np.uint32(0x7F80_0000)) != np.uint32(0x7F80_0000)
        kept = np.where(is_nan | (overflows & is_finite), bits, up)
        return (kept >> np.uint32(16)).astype(np.uint16)

    return Blob("BF16", blob.shape, Computed((blob,), round_bits, "rounded", elementwise=True))


# --- a lower rank ----------------------------------------------------------------------------------------------------


def lower_rank(draft: Draft, setting: Setting) -> Mended:
    """Replace each update by the nearest one of a lower rank (Eckart and Young: what an SVD cut off leaves)."""
    if SVD not in setting.allowed:
        return draft, []
    wanted = _rank(setting.allowed[SVD])
    config = draft.settings
    off = next((why for why in _refusals(draft, wanted)), None)
    if off is not None:
        return draft, [skipped(SVD, None, off)]
    tensors, errors = dict(draft.tensors), {}
    with Files(setting.source) as files:
        for path, pair in halves(parsed(draft.infos)).items():
            a, b = pair["A"].name, pair["B"].name
            new_a, new_b, errors[path] = _cut(
                _floats(draft.tensors[a], files), _floats(draft.tensors[b], files), wanted
            )
            tensors[a], tensors[b] = _stored(new_a, draft.tensors[a]), _stored(new_b, draft.tensors[b])
    alpha = config.lora_alpha * (math.sqrt(wanted / config.r) if config.use_rslora else wanted / config.r)
    alpha = int(alpha) if alpha == int(alpha) else alpha
    mended = draft.with_tensors(tensors).with_config(r=wanted, lora_alpha=alpha)
    worst = max(errors, key=lambda path: errors[path])
    mean = sum(errors.values()) / len(errors)
    message = f"the updates of {len(errors)} modules have rank {wanted} now instead of {config.r}"
    proof = (
        f"no update of that rank is nearer; relative error of the update (Frobenius norm): at most {errors[worst]:.3g} "
        f"({worst}), {mean:.3g} on average"
    )
    return mended, [repaired(SVD, None, 2 * len(errors), message, proof)]


def _rank(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or not 0 < int(value[:6]) <= _LARGEST:
        raise InputError(f"--allow {SVD} needs a rank.", hint=f"Write it behind: --allow {SVD}=16.")
    return int(value)


def _refusals(draft: Draft, wanted: int) -> Any:
    config = draft.settings
    if config.r <= wanted:
        yield f"r is {config.r} already, which is not above {wanted}."
    if config.rank_pattern or config.alpha_pattern:
        yield "modules have ranks or scales of their own (rank_pattern, alpha_pattern). Train with one rank."
    if config.use_dora or config.lora_bias or config.target_parameters:
        yield "DoRA, biases on lora_B and LoRA on parameters are not cut."
    for path, pair in halves(parsed(draft.infos)).items():
        if len(pair) < 2 or any(len(item.info.shape) != 2 or item.info.dtype not in _FLOATS for item in pair.values()):
            yield f"the pair of '{path}' is not whole, or no matrix of floating point."
        elif {parse_key(item.name).part for item in pair.values()} != {"lora_A.weight", "lora_B.weight"}:
            yield f"'{path}' is an embedding, whose pair is not cut."


_FLOATS = ("F64", "F32", "F16", "BF16")


def _floats(blob: Blob, files: Files) -> NDArray[Any]:
    import numpy as np

    bits = files.array(blob)
    if blob.dtype == "BF16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    return bits.view({"F64": np.float64, "F32": np.float32, "F16": np.float16}[blob.dtype]).astype(np.float64)


def _cut(a: NDArray[Any], b: NDArray[Any], rank: int) -> tuple[NDArray[Any], NDArray[Any], float]:
    """The halves of the best update of a rank, and its relative error; the product itself is never made."""
    import numpy as np

    left, right = np.linalg.qr(b), np.linalg.qr(a.T)
    u, values, v = np.linalg.svd(left[1] @ right[1].T)
    root = np.sqrt(values[:rank])
    total = float(np.sqrt((values**2).sum()))
    error = float(np.sqrt((values[rank:] ** 2).sum())) / total if total else 0.0
    return (root[:, None] * v[:rank]) @ right[0].T, (left[0] @ u[:, :rank]) * root, error


def _stored(values: NDArray[Any], like: Blob) -> Blob:
    """New values in the dtype of the old ones, kept in memory: they are smaller than what they were made from."""
    import numpy as np

    if like.dtype == "BF16":
        blob = Blob("F32", values.shape, Computed((), lambda: values.astype(np.float32).view(np.uint32), "svd"))
        return _rounded(blob)
    kind = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[like.dtype]
    width = f"<u{np.dtype(kind).itemsize}"
    return Blob(like.dtype, values.shape, Computed((), lambda: values.astype(kind).view(width), "svd"))
