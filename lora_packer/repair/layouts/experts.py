"""LoRA on a mixture's experts: one by one, as the experts of transformers 4 are, or on the fused parameters of 5.

The fused form is what PEFT 0.21.2 itself makes at load (peft/utils/transformers_weight_conversion.py): lora_A of an
expert e and rank k is row e * r + k, lora_B of it column k * experts + e (peft/tuners/lora/layer.py:2556), and gate and
up have their halves beside one another, lora_B as blocks of a diagonal. Back, blocks are cut apart; where lora_B is no
diagonal because both were trained as one, gate and up each keep the whole rank.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import key_name, layer_of
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel
from lora_packer.base_model.architecture import TRANSFORMERS_4
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case
from lora_packer.peft.conversions import experts_pattern
from lora_packer.peft.loading import convert_config
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Computed, Draft
from lora_packer.repair.result import repaired, skipped
from lora_packer.repair.setting import Mended, Setting, judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

FUSED, PER_EXPERT = "fused-experts", "per-expert"
# What the parts of an expert are called: gate, up, down.
_SCHEMES = {"qwen2_moe": ("gate_proj", "up_proj", "down_proj"), "mixtral": ("w1", "w3", "w2")}
_ONE = re.compile(r"(?P<holder>.+\.experts)\.(?P<at>\d+)\.(?P<leaf>\w+)\.(?P<part>lora_[AB]\.weight)")
_PARAMETERS = ("gate_up_proj", "down_proj")


def _blob(
    dtype: str, shape: tuple[int, ...], parts: list[Blob], compute: Callable[..., NDArray[Any]], what: str
) -> Blob:
    return Blob(dtype, shape, Computed(tuple(parts), compute, what))


# --- one by one into one ---------------------------------------------------------------------------------------------


def fuse(draft: Draft, setting: Setting) -> Mended:
    """Put the LoRA of single experts onto the parameters that hold them in transformers 5."""
    if FUSED not in setting.allowed or isinstance(setting.base, str):
        return draft, []
    before = judged(draft, setting)
    pattern = experts_pattern(setting.base.model_type)
    found = {name: match for name in draft.tensors if (match := _ONE.fullmatch(name))}
    if pattern is None or not found or before is None:
        return draft, [skipped(FUSED, None, "it has no LoRA on single experts of a model that transformers 5 fuses.")]
    try:
        config = convert_config(draft.settings, pattern, setting.base.modules)
    except PatternError as error:
        return draft, [skipped(FUSED, None, f"a pattern of the config was not evaluated: {error}.")]
    if isinstance(config, Refusal):
        return draft, [skipped(FUSED, None, f"{config.message}. {config.hint or ''}")]
    tensors = {name: blob for name, blob in draft.tensors.items() if name not in found}
    holders: dict[str, dict[tuple[str, str, int], Blob]] = {}
    for name, match in found.items():
        place = match["leaf"], match["part"], int(match["at"])
        holders.setdefault(match["holder"], {})[place] = draft.tensors[name]
    for holder, parts in holders.items():
        fused = _fused(parts, _SCHEMES[pattern])
        if fused is None:
            return draft, [skipped(FUSED, None, f"some experts of '{holder[:80]}' lack a half, or differ in shape.")]
        path = _todays(holder, setting.base)
        tensors |= {path + suffix: blob for suffix, blob in fused.items()}
    mended = draft.with_tensors(tensors).with_config(
        target_modules=list(config.target_modules or ()),
        target_parameters=list(config.target_parameters or ()),
        rank_pattern=dict(config.rank_pattern),
        alpha_pattern=dict(config.alpha_pattern),
    )
    after = judged(mended, setting)
    if after is None or after.errors:
        why = after.errors[0].message if after is not None else "the config could not be used"
        return draft, [skipped(FUSED, None, f"what came out does not fit: {why}.")]
    message = f"{len(found)} tensors of single experts are {len(tensors) - len(draft.tensors) + len(found)} fused ones"
    proof = "each number is at the place that PEFT's own conversion gives it, and zeros are all that is between them"
    return mended, [repaired(FUSED, None, len(found), message, proof)]


def _todays(holder: str, base: BaseModel) -> str:
    """The path of the experts in transformers 5: of the same layer, the one that holds fused parameters."""
    plain = holder.removeprefix("base_model.model.")
    layer = layer_of(plain)
    paths = [path for path in base.modules if path.endswith(".gate_up_proj") and layer_of(path).endswith(layer)]
    return key_name(paths[0].removesuffix(".gate_up_proj"), "") if len(paths) == 1 else holder


def _fused(parts: Mapping[tuple[str, str, int], Blob], scheme: tuple[str, str, str]) -> dict[str, Blob] | None:
    """The tensors of the two parameters, by how their names end; None where something is missing."""
    import numpy as np

    gate, up, down = scheme
    count = 1 + max(at for _, _, at in parts)
    blobs: dict[tuple[str, str], list[Blob]] = {}
    for leaf in scheme:
        for part in ("lora_A.weight", "lora_B.weight"):
            own = [parts.get((leaf, part, at)) for at in range(count)]
            if any(blob is None for blob in own) or len({(b.dtype, b.shape) for b in own if b is not None}) > 1:
                return None
            blobs[leaf, part] = [blob for blob in own if blob is not None]
    dtype = blobs[gate, "lora_A.weight"][0].dtype
    (rank_g, width), (rank_u, _) = (blobs[leaf, "lora_A.weight"][0].shape for leaf in (gate, up))
    (out_g, _), (out_u, _) = (blobs[leaf, "lora_B.weight"][0].shape for leaf in (gate, up))
    rank, out = rank_g + rank_u, out_g + out_u

    def gate_up_a(*arrays: NDArray[Any]) -> NDArray[Any]:
        pairs = zip(arrays[:count], arrays[count:], strict=True)
        return np.concatenate([np.concatenate(pair) for pair in pairs])

    def gate_up_b(*arrays: NDArray[Any]) -> NDArray[Any]:
        result = np.zeros((out, rank, count), arrays[0].dtype)
        for at in range(count):
            result[:out_g, :rank_g, at] = arrays[at]
            result[out_g:, rank_g:, at] = arrays[count + at]
        return result.reshape(out, rank * count)

    def down_a(*arrays: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate(arrays)

    def down_b(*arrays: NDArray[Any]) -> NDArray[Any]:
        return np.stack(arrays, axis=-1).reshape(arrays[0].shape[0], -1)

    a, b = ("lora_A.weight", "lora_B.weight")
    rank_d, width_d = blobs[down, a][0].shape
    out_d = blobs[down, b][0].shape[0]
    return {
        f".base_layer.{a}": _blob(dtype, (rank * count, width), [*blobs[gate, a], *blobs[up, a]], gate_up_a, "fuse"),
        f".base_layer.{b}": _blob(dtype, (out, rank * count), [*blobs[gate, b], *blobs[up, b]], gate_up_b, "fuse"),
        f".{a}": _blob(dtype, (rank_d * count, width_d), blobs[down, a], down_a, "fuse"),
        f".{b}": _blob(dtype, (out_d, rank_d * count), blobs[down, b], down_b, "fuse"),
    }


# --- one into one by one ---------------------------------------------------------------------------------------------


@frozen
class _Fused:
    """One fused parameter's pair: the path that it has in the file, its halves, its rank, alpha and experts."""

    path: str
    a: Blob
    b: Blob
    rank: int
    alpha: float
    experts: int


def unfuse(draft: Draft, setting: Setting) -> Mended:
    """Cut the LoRA on fused experts into that of single ones, as engines read them that have each as a layer."""
    if PER_EXPERT not in setting.allowed or isinstance(setting.base, str):
        return draft, []
    found = judged(draft, setting)
    pattern = experts_pattern(setting.base.model_type) or "qwen2_moe"
    pairs = {} if found is None or found.errors else _pairs(draft, found.case)
    if not pairs:
        return draft, [skipped(PER_EXPERT, None, "it has no LoRA on fused experts that fits the base model.")]
    tensors = {name: blob for name, blob in draft.tensors.items() if not _is_of(name, pairs)}
    ranks, alphas = set(), set()
    with Files(setting.source) as files:
        for holder, own in pairs.items():
            path = _older(holder, setting.base)
            cut = _cut(own["gate_up_proj"], own["down_proj"], _SCHEMES[pattern], files)
            for leaf, (rank, alpha, halves) in cut.items():
                ranks.add((leaf, rank))
                alphas.add((leaf, alpha))
                for at, (a, b) in enumerate(halves):
                    tensors[f"{key_name(path, '')}.{at}.{leaf}.lora_A.weight"] = a
                    tensors[f"{key_name(path, '')}.{at}.{leaf}.lora_B.weight"] = b
    config = _per_expert_config(draft, _SCHEMES[pattern], ranks, alphas)
    if config is None:
        return draft, [
            skipped(PER_EXPERT, None, "its layers' experts have different ranks, which no pattern tells apart.")
        ]
    mended = draft.with_tensors(tensors).with_config(**config)
    after = judged(mended, setting)
    if after is None or after.errors:
        why = after.errors[0].message if after is not None else "the config could not be used"
        return draft, [skipped(PER_EXPERT, None, f"what came out does not fit: {why}.")]
    count = 4 * len(pairs)
    message = f"{count} fused tensors are {len(tensors) - len(draft.tensors) + count} of single experts"
    proof = "each expert's halves are the rows and columns that PEFT multiplies for it; only zeros were left out"
    return mended, [repaired(PER_EXPERT, None, count, message, proof)]


def _pairs(draft: Draft, case: Case) -> dict[str, dict[str, _Fused]]:
    """The fused pairs of each holder that has LoRA on both its parameters."""
    found: dict[str, dict[str, _Fused]] = {}
    for path, (name, experts) in case.expectation.experts.items():
        holder, _, leaf = name.rpartition(".")
        a, b = (draft.tensors.get(key_name(path, part)) for part in ("lora_A.weight", "lora_B.weight"))
        if leaf not in _PARAMETERS or a is None or b is None or case.modules[name].transposed:
            continue
        rank, alpha = case.expectation.targeted[name]
        found.setdefault(holder, {})[leaf] = _Fused(path, a, b, rank, alpha, experts)
    return {holder: own for holder, own in found.items() if len(own) == len(_PARAMETERS)}


def _is_of(name: str, pairs: Mapping[str, Mapping[str, _Fused]]) -> bool:
    paths = {item.path for own in pairs.values() for item in own.values()}
    return any(name in (key_name(path, "lora_A.weight"), key_name(path, "lora_B.weight")) for path in paths)


def _older(holder: str, base: BaseModel) -> str:
    """The path of the experts of the same layer in transformers 4, where each is a module; without it the same."""
    layer = layer_of(holder)
    for path in base.dialects.get(TRANSFORMERS_4, {}):
        if ".experts.0." in path and layer_of(path) == layer:
            return (
                path.partition(".0.w")[0] if ".experts.0.w" in path else path.partition(".experts.0.")[0] + ".experts"
            )
    return holder


Cut = dict[str, tuple[int, float, list[tuple[Blob, Blob]]]]


def _cut(gate_up: _Fused, down: _Fused, scheme: tuple[str, str, str], files: Files) -> Cut:
    gate, up, low = scheme
    out, rank = gate_up.b.shape[0], gate_up.rank
    half, middle = rank // 2, out // 2
    result: Cut = {}
    if rank % 2 == 0 and _is_diagonal(gate_up, files):
        for leaf, ranks, rows in ((gate, (0, half), (0, middle)), (up, (half, rank), (middle, out))):
            result[leaf] = half, gate_up.alpha * half / rank, _experts(gate_up, ranks, rows)
    else:
        for leaf, rows in ((gate, (0, middle)), (up, (middle, out))):
            result[leaf] = rank, gate_up.alpha, _experts(gate_up, (0, rank), rows)
    result[low] = down.rank, down.alpha, _experts(down, (0, down.rank), (0, down.b.shape[0]))
    return result


def _is_diagonal(pair: _Fused, files: Files) -> bool:
    """Whether lora_B is blocks of a diagonal: nothing but zeros (of either sign) beside them."""
    bits = files.array(pair.b).reshape(pair.b.shape[0], pair.rank, pair.experts)
    half, middle = pair.rank // 2, pair.b.shape[0] // 2
    return not (bits[:middle, half:].any() or bits[middle:, :half].any())


def _experts(pair: _Fused, ranks: tuple[int, int], rows: tuple[int, int]) -> list[tuple[Blob, Blob]]:
    shape_a = (ranks[1] - ranks[0], pair.a.shape[1])
    shape_b = (rows[1] - rows[0], ranks[1] - ranks[0])

    def of(at: int) -> tuple[Blob, Blob]:
        def a(array: NDArray[Any]) -> NDArray[Any]:
            return array[at * pair.rank + ranks[0] : at * pair.rank + ranks[1]]

        def b(array: NDArray[Any]) -> NDArray[Any]:
            return array.reshape(array.shape[0], pair.rank, pair.experts)[rows[0] : rows[1], ranks[0] : ranks[1], at]

        return _blob(pair.a.dtype, shape_a, [pair.a], a, "cut"), _blob(pair.b.dtype, shape_b, [pair.b], b, "cut")

    return [of(at) for at in range(pair.experts)]


def _per_expert_config(
    draft: Draft, scheme: tuple[str, str, str], ranks: set[tuple[str, int]], alphas: set[tuple[str, float]]
) -> dict[str, Any] | None:
    if len(ranks) > len(scheme) or len(alphas) > len(scheme):
        return None
    config = draft.settings
    if isinstance(config.target_modules, str):
        return None
    kept = [name for name in config.target_parameters or () if name.rpartition(".")[2] not in _PARAMETERS]
    patterns: dict[str, dict[str, Any]] = {}
    for field, values, default in (("rank_pattern", ranks, config.r), ("alpha_pattern", alphas, config.lora_alpha)):
        old = {key: value for key, value in getattr(config, field).items() if not key.endswith(_PARAMETERS)}
        new = {leaf: _plain(value) for leaf, value in sorted(values) if value != default}
        patterns[field] = {**old, **new}
    # What stands in the config only for PEFT's own conversion, the router, is a module again.
    modules = [*(config.target_modules or ()), *(name for name in scheme if name not in (config.target_modules or ()))]
    if "gate.weight" in kept:
        kept.remove("gate.weight")
        modules.append("gate")
    return {"target_modules": modules, "target_parameters": kept or None, **patterns}


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
