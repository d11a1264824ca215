"""MLX-LM's layout, into PEFT's and back.

``mlx_lm/tuner/lora.py`` of 0.32.2: y + scale * (x @ lora_a) @ lora_b, with lora_a (in, r) and lora_b (r, out), so that
PEFT's halves are their transposes and lora_alpha is scale * r. The experts of a layer are one module, whose lora_a is
(experts, r, in) and lora_b (experts, out, r). ``mlx_lm/tuner/dora.py`` keeps DoRA's magnitude as ``m``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import PREFIX, key_name, layer_index, parse_key
from lora_packer.misplaced import MLX_WEIGHTS
from lora_packer.repair.draft import Blob, Computed, Draft, Span, transposed
from lora_packer.repair.layouts.parts import CannotConvert, exact_alpha
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting, targets_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MLX = "mlx"
_NAME = re.compile(r"(?P<path>.+)\.(?P<leaf>lora_a|lora_b|m)")
_SWITCH = ".switch_mlp."
_OF_MIXTRAL = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}  # mlx_lm/models/mixtral.py::sanitize
_CODE = "LP319"


def from_mlx(draft: Draft, _setting: Setting) -> Mended:
    """Give an adapter of MLX-LM the names, the orientation and the config of PEFT."""
    settings = draft.config.get("lora_parameters")
    if not draft.tensors or not all(_NAME.fullmatch(name) for name in draft.tensors):
        return draft, []
    try:
        if not isinstance(settings, dict):
            raise CannotConvert("its config has no lora_parameters, and scale and rank stand nowhere else")
        rank, scale = _numbers(settings)
        tensors: dict[str, Blob] = {}
        for name, blob in draft.tensors.items():
            tensors.update(_as_peft(name, blob, rank))
        config = _peft_config(draft, tensors, rank, scale)
    except CannotConvert as error:
        reason = f"MLX-LM's layout was not converted: {error}. Merge it with mlx_lm.fuse."
        return draft, [skipped("mlx", _CODE, reason)]
    mended = draft.with_tensors(tensors).with_config(**dict.fromkeys(draft.config, ...))
    mended = mended.with_config(**config)
    message = f"{len(draft.tensors)} tensors of MLX-LM have PEFT's names and orientation, and the config is PEFT's"
    proof = f"lora_A and lora_B are the transposes of lora_a and lora_b, and lora_alpha / r is the scale of {scale:g}"
    return mended, [repaired("mlx", _CODE, len(draft.tensors), message, proof)]


def _numbers(settings: Mapping[str, Any]) -> tuple[int, float]:
    rank, scale = settings.get("rank"), settings.get("scale")
    if type(rank) is not int or rank <= 0:
        raise CannotConvert("lora_parameters has no rank above 0")
    if not isinstance(scale, int | float) or isinstance(scale, bool) or not math.isfinite(scale):
        raise CannotConvert("lora_parameters has no scale")
    return rank, float(scale)


def _as_peft(name: str, blob: Blob, rank: int) -> dict[str, Blob]:
    found = _NAME.fullmatch(name)
    assert found is not None
    path, leaf = found["path"], found["leaf"]
    if layer_index(path) is None:
        raise CannotConvert(f"'{path[:60]}' is in no layer")
    if leaf == "m":
        return {key_name(path, "lora_magnitude_vector"): blob}
    part = "lora_A.weight" if leaf == "lora_a" else "lora_B.weight"
    axis = {("lora_a", 2): 1, ("lora_b", 2): 0, ("lora_a", 3): 1, ("lora_b", 3): 2}.get((leaf, len(blob.shape)))
    if axis is None or blob.shape[axis] != rank:
        raise CannotConvert(f"'{path[:60]}' has another rank than {rank}")
    if len(blob.shape) == 2:
        return {key_name(path, part): transposed(blob)}
    if _SWITCH not in path:
        raise CannotConvert(f"'{path[:60]}' has three axes and is no mixture's")
    return {key_name(_of_expert(path, at), part): one for at, one in enumerate(_cut(blob))}


def _of_expert(path: str, at: int) -> str:
    before, _, leaf = path.rpartition(_SWITCH)
    if before.endswith("block_sparse_moe"):
        leaf = _OF_MIXTRAL.get(leaf, leaf)
    return f"{before}.experts.{at}.{leaf}"


def _cut(blob: Blob) -> list[Blob]:
    """The matrices that lie one behind the other in a tensor of three axes."""
    if not isinstance(blob.made, Span):
        raise CannotConvert("its experts lie in no file")
    count, *shape = blob.shape
    size = blob.size // max(1, count)
    begins = range(blob.made.begin, blob.made.end, size or 1)
    return [Blob(blob.dtype, tuple(shape), Span(blob.made.file, at, at + size)) for at in begins]


def _peft_config(draft: Draft, tensors: Mapping[str, Blob], rank: int, scale: float) -> dict[str, Any]:
    paths = [parse_key(name).path for name in tensors]
    layers = sorted({index for path in paths if (index := layer_index(path)) is not None})
    settings = draft.config["lora_parameters"]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": draft.config.get("model"),
        "r": rank,
        "lora_alpha": exact_alpha(rank, scale),
        "lora_dropout": settings.get("dropout") or 0.0,
        "target_modules": sorted({path.rpartition(".")[2] for path in paths}),
        "layers_to_transform": layers if layers[0] else None,
        "use_dora": any(parse_key(name).part == "lora_magnitude_vector" for name in tensors),
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


# --- and back --------------------------------------------------------------------------------------------------------


def is_wanted(setting: Setting) -> bool:
    """Whether MLX-LM's layout was asked for, or no target that was named takes PEFT's."""
    return MLX in setting.allowed or all(one.fact("peft_format").effect == "rejected" for one in targets_of(setting))


def to_mlx(draft: Draft, setting: Setting) -> tuple[Draft | None, list[Told]]:
    """Return the adapter in MLX-LM's layout, or None where it has none there."""
    try:
        tensors, keys = _mlx_tensors(draft)
        config = _mlx_config(draft, setting, keys)
    except CannotConvert as error:
        return None, [skipped(MLX, None, f"it was not written in MLX-LM's layout: {error}.")]
    mended = draft.with_tensors(tensors).with_config(**dict.fromkeys(draft.config, ...)).with_config(**config)
    message = f"{len(tensors)} tensors are written as {MLX_WEIGHTS} in MLX-LM's layout, with its config"
    scale = config["lora_parameters"]["scale"]
    proof = f"lora_a and lora_b are the transposes of lora_A and lora_B, and scale is lora_alpha / r, {scale:g}"
    return mended, [repaired(MLX, None, len(tensors), message, proof)]


def _mlx_tensors(draft: Draft) -> tuple[dict[str, Blob], list[str]]:
    tensors: dict[str, Blob] = {}
    experts: dict[str, dict[int, Blob]] = {}
    keys: dict[str, None] = {}
    for name, blob in draft.tensors.items():
        key = parse_key(name)
        leaf = {"lora_A.weight": "lora_a", "lora_B.weight": "lora_b", "lora_magnitude_vector": "m"}.get(key.part)
        path, index = _switch(key.path)
        if leaf is None or not name.startswith(PREFIX) or layer_index(path) is None:
            raise CannotConvert(f"'{name[:80]}' has no place there")
        keys[re.sub(r"^.*?\.\d+\.", "", path, count=1)] = None
        if index is not None:
            experts.setdefault(f"{path}.{leaf}", {})[index] = blob
        else:
            tensors[f"{path}.{leaf}"] = blob if leaf == "m" else transposed(blob)
    for name, found in experts.items():
        if sorted(found) != list(range(len(found))) or len({(blob.dtype, blob.shape) for blob in found.values()}) > 1:
            raise CannotConvert(f"some experts of '{name[:80]}' have no LoRA")
        tensors[name] = _stacked([found[at] for at in range(len(found))])
    return tensors, sorted(keys)


def _switch(path: str) -> tuple[str, int | None]:
    """The module that holds an expert's, and the expert's number."""
    found = re.fullmatch(r"(.+)\.experts\.(\d+)\.(\w+)", path)
    if found is None:
        return path, None
    names = {mixtral: leaf for leaf, mixtral in _OF_MIXTRAL.items()}
    return f"{found[1]}{_SWITCH}{names.get(found[3], found[3])}", int(found[2])


def _stacked(blobs: list[Blob]) -> Blob:
    import numpy as np

    def stack(*arrays: NDArray[Any]) -> NDArray[Any]:
        return np.stack(arrays)

    return Blob(blobs[0].dtype, (len(blobs), *blobs[0].shape), Computed(tuple(blobs), stack, "stack"))


def _mlx_config(draft: Draft, setting: Setting, keys: list[str]) -> dict[str, Any]:
    config = draft.settings
    if config.rank_pattern or config.alpha_pattern:
        raise CannotConvert("MLX-LM has one rank and one scale for all modules (rank_pattern, alpha_pattern)")
    layers = [index for name in draft.tensors if (index := layer_index(parse_key(name).path)) is not None]
    depth = max(layers) + 1
    if not isinstance(setting.base, str):
        depth = max((i for path in setting.base.modules if (i := layer_index(path)) is not None), default=depth - 1) + 1
    return {
        "fine_tune_type": "dora" if config.use_dora else "lora",
        "num_layers": depth - min(layers),
        "model": config.base_model_name_or_path,
        "lora_parameters": {
            "rank": config.r,
            "scale": config.scale(config.r, config.lora_alpha),
            "dropout": config.lora_dropout,
            "keys": keys,
        },
    }
