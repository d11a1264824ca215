"""torchtune's own names, into PEFT's and back.

``torchtune/models/convert_weights.py`` of 0.6 (github.com/pytorch/torchtune): modules have names of their own, and the
rows of q_proj and k_proj are in the order that Meta's rotary embedding takes them in, pairs beside each other; so is
lora_b of these (``tune_to_peft_adapter_weights``). For Qwen's models they are as transformers has them
(``torchtune/models/qwen2/_convert_weights.py``, ``qwen3``). The scale is alpha / rank (``modules/peft/lora.py``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import key_name, parse_key
from lora_packer.base_model import BaseModel
from lora_packer.inspector.foreign import TORCHTUNE_AS_IT_IS, TORCHTUNE_TURNS
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Draft
from lora_packer.repair.layouts.parts import CannotConvert, alpha_of_all, heads_of, require_rows, rows
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

TORCHTUNE = "torchtune"
_NAME = re.compile(
    r"(?:layers\.(?P<layer>\d+)\.(?P<block>attn|mlp)\.)?(?P<leaf>\w+)\."
    r"(?P<part>lora_a\.weight|lora_b\.weight|magnitude(?:\.weight)?)"
)
_PARTS = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
# torchtune/models/convert_weights.py::_FROM_HF
_PATHS = {
    ("attn", "q_proj"): "self_attn.q_proj",
    ("attn", "k_proj"): "self_attn.k_proj",
    ("attn", "v_proj"): "self_attn.v_proj",
    ("attn", "output_proj"): "self_attn.o_proj",
    ("mlp", "w1"): "mlp.gate_proj",
    ("mlp", "w2"): "mlp.down_proj",
    ("mlp", "w3"): "mlp.up_proj",
}
_CODE = "LP319"


def from_torchtune(draft: Draft, setting: Setting) -> Mended:
    """Give an adapter of torchtune the names and the order of rows of PEFT."""
    if not draft.tensors or not all(_NAME.fullmatch(name) for name in draft.tensors):
        return draft, []
    try:
        base = _known(setting.base)
        tensors = dict(_as_peft(name, blob, base) for name, blob in draft.tensors.items())
        if not {"r", "lora_alpha"} <= draft.config.keys():
            raise CannotConvert("its config has no r and no lora_alpha, and the scale stands nowhere else")
    except CannotConvert as error:
        reason = f"torchtune's layout was not converted: {error}. Save with torchtune's checkpointer in PEFT's format."
        return draft, [skipped(TORCHTUNE, _CODE, reason)]
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors})
    mended = draft.with_tensors(tensors).with_config(**{"peft_type": "LORA", **draft.config, "target_modules": targets})
    message = f"{len(tensors)} tensors of torchtune have PEFT's names"
    proof = "each name is that of the same module in transformers, as torchtune's own table has it"
    if base.model_type in TORCHTUNE_TURNS:
        message += ", and q_proj and k_proj transformers' order of rows"
        proof += "; the rows are those that were there, in the order of transformers' rotary embedding"
    return mended, [repaired(TORCHTUNE, _CODE, len(tensors), message, proof)]


def _known(base: BaseModel | str) -> BaseModel:
    if isinstance(base, str):
        raise CannotConvert("how its rows lie depends on the base model, which is not known (--base-config)")
    if base.model_type not in (*TORCHTUNE_TURNS, *TORCHTUNE_AS_IT_IS):
        known = ", ".join((*TORCHTUNE_TURNS, *TORCHTUNE_AS_IT_IS))
        shown = escape(base.model_type, 40)
        raise CannotConvert(f"how it writes the rows of {shown} is not known, only of {known}")
    return base


def _as_peft(name: str, blob: Blob, base: BaseModel) -> tuple[str, Blob]:
    found = _NAME.fullmatch(name)
    assert found is not None
    part = _PARTS[found["part"].removesuffix(".weight")]
    if found["layer"] is None:
        if found["leaf"] != "output":
            raise CannotConvert(f"'{escape(name, 80)}' is no module that it trains")
        return key_name("lm_head", part), blob
    path = _PATHS.get((found["block"], found["leaf"]))
    if path is None:
        raise CannotConvert(f"'{escape(name, 80)}' is no module of a decoder that transformers has")
    if found["leaf"] in ("q_proj", "k_proj") and part != "lora_A.weight" and base.model_type in TORCHTUNE_TURNS:
        heads, key_heads, width = heads_of(base)
        count = heads if found["leaf"] == "q_proj" else key_heads
        require_rows(name, blob, count * width)
        blob = rows(blob, halves_apart(count, width), "rotary order")
    return key_name(f"model.layers.{int(found['layer'])}.{path}", part), blob


def halves_apart(heads: int, width: int) -> NDArray[Any]:
    """Which row comes where, so that the even rows of each head stand before its odd ones."""
    import numpy as np

    return np.arange(heads * width).reshape(heads, width // 2, 2).transpose(0, 2, 1).reshape(-1)


# --- and back --------------------------------------------------------------------------------------------------------


def to_torchtune(draft: Draft, setting: Setting) -> tuple[Draft | None, list[Told]]:
    """Return the adapter in torchtune's layout, or None where it has none there."""
    try:
        base, alpha = _known(setting.base), alpha_of_all(draft)
        tensors = dict(_as_tune(name, blob, base) for name, blob in draft.tensors.items())
    except CannotConvert as error:
        return None, [skipped(TORCHTUNE, None, f"it was not written in torchtune's layout: {error}.")]
    targets = sorted({found["leaf"] for name in tensors if (found := _NAME.fullmatch(name))})
    mended = draft.with_tensors(tensors).with_config(lora_alpha=alpha, use_rslora=False, target_modules=targets)
    message = f"{len(tensors)} tensors have torchtune's names"
    proof = "each name is that of the same module in torchtune, as its own table has it, and the scale is alpha / rank"
    if base.model_type in TORCHTUNE_TURNS:
        proof += "; the rows of q_proj and k_proj are in the order of its rotary embedding"
    return mended, [repaired(TORCHTUNE, None, len(tensors), message, proof)]


def _as_tune(name: str, blob: Blob, base: BaseModel) -> tuple[str, Blob]:
    key = parse_key(name)
    leaves = {part: leaf for leaf, part in _PARTS.items()}
    part = leaves.get(key.part)
    if part is None or not key.prefixed:
        raise CannotConvert(f"'{escape(name, 80)}' has no place there")
    leaf = part if part == "magnitude" else f"{part}.weight"
    if key.path == "lm_head":
        return f"output.{leaf}", blob
    paths = {path: places for places, path in _PATHS.items()}
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", key.path)
    if found is None or found[2] not in paths:
        raise CannotConvert(f"'{escape(key.path, 80)}' is no module that it trains")
    block, module = paths[found[2]]
    if module in ("q_proj", "k_proj") and part != "lora_a" and base.model_type in TORCHTUNE_TURNS:
        import numpy as np

        heads, key_heads, width = heads_of(base)
        count = heads if module == "q_proj" else key_heads
        require_rows(name, blob, count * width)
        blob = rows(blob, np.argsort(halves_apart(count, width)), "rotary order")
    return f"layers.{found[1]}.{block}.{module}.{leaf}", blob


__all__ = ["TORCHTUNE", "from_torchtune", "halves_apart", "to_torchtune"]
