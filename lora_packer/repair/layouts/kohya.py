"""kohya's layout, into PEFT's and back.

``networks/lora.py`` of sd-scripts (github.com/kohya-ss/sd-scripts): ``lora_down`` and ``lora_up`` are PEFT's A and B,
of a convolution too, and ``alpha`` beside them is that of the one module; without it alpha is the rank
(``create_network_from_weights``). The update is scaled with alpha / rank, and there is no config.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import key_name, parse_key
from lora_packer.adapter.kohya import NAME, PREFIX, is_kohya
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel
from lora_packer.inspector.kohya import flat, modules_named
from lora_packer.peft.targets import PatternLookup
from lora_packer.redact import escape
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Computed, Draft
from lora_packer.repair.layouts.parts import CannotConvert
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

KOHYA = "kohya"
KOHYA_WEIGHTS = "lora.safetensors"
_DEFAULT_PREFIX = "lora_te"
_PARTS = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}
_CODE = "LP319"


def from_kohya(draft: Draft, setting: Setting) -> Mended:
    """Give an adapter of kohya's the names of the base model's modules, and a config."""
    if not is_kohya(draft.tensors):
        return draft, []
    try:
        paths = _paths(draft, setting)
        tensors, ranks = _tensors(draft, paths)
        alphas = _alphas(draft, setting, paths, ranks)
    except CannotConvert as error:
        reason = f"kohya's layout was not converted: {error}. It is an image model's, unless --base-config says else."
        return draft, [skipped(KOHYA, _CODE, reason)]
    mended = draft.with_tensors(tensors).with_config(**{**draft.config, **_peft_config(setting, ranks, alphas)})
    message = f"{len(draft.tensors)} tensors of kohya's are {len(tensors)} of PEFT, with a config"
    proof = "each name is that of the one module whose path is written so, and each module has its own rank and alpha"
    return mended, [repaired(KOHYA, _CODE, len(draft.tensors), message, proof)]


def _paths(draft: Draft, setting: Setting) -> Mapping[str, str]:
    if isinstance(setting.base, str):
        raise CannotConvert("which modules its names mean is known with the base model alone (--base-config)")
    paths = modules_named(draft.tensors, setting.base)
    if paths is None:
        raise CannotConvert(f"not every name is that of one module of {escape(setting.base.model_type, 40)}")
    return paths


def _tensors(draft: Draft, paths: Mapping[str, str]) -> tuple[dict[str, Blob], dict[str, int]]:
    tensors: dict[str, Blob] = {}
    ranks: dict[str, int] = {}
    for name, blob in draft.tensors.items():
        found = NAME.fullmatch(name)
        assert found is not None
        if found["part"] in _PARTS:
            path = paths[found["flat"]]
            tensors[key_name(path, _PARTS[found["part"]])] = blob
            if found["part"] == "lora_down.weight":
                ranks[path] = blob.shape[0] if blob.shape else 0
    missing = next((path for path in paths.values() if ranks.get(path, 0) < 1), None)
    if missing is not None:
        raise CannotConvert(f"'{missing[:80]}' has no lora_down")
    return tensors, ranks


def _alphas(draft: Draft, setting: Setting, paths: Mapping[str, str], ranks: Mapping[str, int]) -> dict[str, float]:
    """The alpha of each module: its scalar's value, or its rank where it has none."""
    alphas: dict[str, float] = dict(ranks)
    with Files(setting.source) as files:
        for name, blob in draft.tensors.items():
            found = NAME.fullmatch(name)
            if found is None or found["part"] != "alpha":
                continue
            value = _number(blob, files)
            if value is None or not math.isfinite(value):
                raise CannotConvert(f"'{name[:80]}' is no number")
            path = paths[found["flat"]]
            alphas[path] = value or ranks[path]  # 0: none, as LoRAModule has it
    return {path: int(alpha) if alpha == int(alpha) else alpha for path, alpha in alphas.items()}


def _number(blob: Blob, files: Files) -> float | None:
    import numpy as np

    if math.prod(blob.shape) != 1 or blob.dtype not in ("F64", "F32", "F16", "BF16", "I64", "I32"):
        return None
    bits = files.array(blob).reshape(1)
    if blob.dtype == "BF16":
        return float((bits.astype(np.uint32) << np.uint32(16)).view(np.float32)[0])
    kind = {"F": "f", "I": "i"}[blob.dtype[0]]
    return float(bits.view(f"<{kind}{bits.itemsize}")[0])


def _peft_config(setting: Setting, ranks: Mapping[str, int], alphas: Mapping[str, float]) -> dict[str, Any]:
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": setting.hosted,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: value for path, value in sorted(ranks.items()) if value != rank},
        "alpha_pattern": {path: value for path, value in sorted(alphas.items()) if value != alpha},
        "lora_dropout": 0.0,
        "target_modules": sorted({path.rpartition(".")[2] for path in ranks}),
        "use_dora": False,
        "use_rslora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


# --- and back --------------------------------------------------------------------------------------------------------


def to_kohya(draft: Draft, setting: Setting) -> tuple[Draft | None, list[Told]]:
    """Return the adapter in kohya's layout, or None where it has none there."""
    prefix = setting.allowed[KOHYA] or _DEFAULT_PREFIX
    try:
        if not PREFIX.fullmatch(f"{prefix}_"):
            raise CannotConvert(
                f"'{escape(prefix, 40)}' is not what its names begin with: lora_unet, lora_te, lora_te1"
            )
        tensors, alphas = _kohya_tensors(draft, f"{prefix}_")
        _require_sure(tensors, setting.base)
    except CannotConvert as error:
        return None, [skipped(KOHYA, None, f"it was not written in kohya's layout: {error}.")]
    mended = draft.with_tensors(tensors).with_config(**dict.fromkeys(draft.config, ...))
    message = f"{len(tensors)} tensors are written as {KOHYA_WEIGHTS} in kohya's layout"
    proof = f"lora_down and lora_up are lora_A and lora_B, and each of {len(alphas)} modules has its own alpha"
    return mended, [repaired(KOHYA, None, len(tensors), message, proof)]


def _kohya_tensors(draft: Draft, prefix: str) -> tuple[dict[str, Blob], dict[str, float]]:
    parts = {peft: kohya for kohya, peft in _PARTS.items()}
    tensors: dict[str, Blob] = {}
    ranks: dict[str, int] = {}
    for name, blob in draft.tensors.items():
        key = parse_key(name)
        if key.part not in parts or not key.prefixed or not blob.shape:
            raise CannotConvert(f"'{escape(name, 80)}' has no place there")
        tensors[f"{prefix}{flat(key.path)}.{parts[key.part]}"] = blob
        if key.part == "lora_A.weight":
            ranks[key.path] = blob.shape[0]
    if len(tensors) < len(draft.tensors) or 2 * len(ranks) != len(tensors):
        raise CannotConvert("two modules would have one name, or a half is missing")
    alphas = _own_alphas(draft, ranks)
    for path, alpha in alphas.items():
        tensors[f"{prefix}{flat(path)}.alpha"] = _scalar(alpha)
    return tensors, alphas


def _own_alphas(draft: Draft, ranks: Mapping[str, int]) -> dict[str, float]:
    config = draft.settings
    if config.use_dora:
        raise CannotConvert("DoRA's magnitudes mean something else there")
    try:
        lookup = PatternLookup[float](config.alpha_pattern, config.lora_alpha)
        alphas = {path: lookup(path) for path in ranks}
    except PatternError as error:
        raise CannotConvert(f"a pattern of the config was not evaluated ({escape(str(error), 80)})") from None
    return {path: config.scale(ranks[path], alpha) * ranks[path] for path, alpha in alphas.items()}


def _scalar(value: float) -> Blob:
    import numpy as np

    if float(np.float32(value)) != value:
        raise CannotConvert(f"its alpha of {value:g} is no float32")

    def make() -> NDArray[Any]:
        return np.array(value, np.float32)

    return Blob("F32", (), Computed((), make, "alpha"))


def _require_sure(tensors: Mapping[str, Blob], base: BaseModel | str) -> None:
    if not isinstance(base, str) and modules_named(tensors, base) is None:
        raise CannotConvert("two modules of the base model would have one name")
