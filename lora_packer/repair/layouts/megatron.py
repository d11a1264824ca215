"""The names of Megatron-Bridge and NeMo, into PEFT's; ``megatron_out.py`` is the way back.

Megatron has q, k and v in one module, group by group (the query heads of a group, its key head, its value head), and
gate above up in another: ``split_qkv_weights`` in Megatron-Bridge's models/conversion/param_mapping.py and
``TransformFns.split_qkv`` and ``split_fc1`` in NeMo's lightning/io/state.py; a LoRA on such a module is one A and one B
(peft/lora.py), or one for each part (peft/canonical_lora.py, ``ADAPTER_NAME_MAP`` in conversion/peft_bridge.py). The
older names are those of NeMo 1 (scripts/nlp_language_modeling/merge_lora_weights/merge.py), of which its variant
"canonical" has a LoRA for each part (scripts/checkpoint_converters/lora_converters). The scale is alpha / dim.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import key_name
from lora_packer.base_model import BaseModel
from lora_packer.inspector.foreign import MEGATRON_NUMBERS
from lora_packer.redact import escape
from lora_packer.repair.draft import Blob, Draft
from lora_packer.repair.layouts.parts import CannotConvert, heads_of, require_rows, rows
from lora_packer.repair.result import repaired, skipped
from lora_packer.repair.setting import Mended, Setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEGATRON = "megatron"
_NAME = re.compile(
    r"(?:(?:module|model|language_model)\.)*(?:decoder|encoder)?\.?layers\.(?P<layer>\d+)\.(?P<block>self_attention|mlp)\."
    r"(?:(?P<module>linear_\w+)\.adapter(?:\.(?P<only>adapter_\w+))?|adapter_layer\.(?P<older>lora_\w+_adapter)"
    r"(?:\.(?P<part>\w+)_adapter)?)"
    r"\.linear_(?P<half>in|out)\.weight"
)
_OLDER = {
    "lora_kqv_adapter": "linear_qkv",
    "lora_dense_attention_adapter": "linear_proj",
    "lora_hto4h_adapter": "linear_fc1",
    "lora_4htoh_adapter": "linear_fc2",
    "lora_unfused_kqv_adapter": "linear_qkv",
    "lora_unfused_hto4h_adapter": "linear_fc1",
}
_APART = ("lora_unfused_kqv_adapter", "lora_unfused_hto4h_adapter")  # each part has an adapter of its own
# What transformers has in place of each module, in the order of its rows.
MODULES = {
    "linear_qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "linear_proj": ("self_attn.o_proj",),
    "linear_fc1": ("mlp.gate_proj", "mlp.up_proj"),
    "linear_fc2": ("mlp.down_proj",),
}
_ITS_OWN = ("dim", "alpha", "adapter_dim", "variant")
_CODE = "LP319"


def from_megatron(draft: Draft, setting: Setting) -> Mended:
    """Give an adapter of Megatron-Bridge or NeMo the names and the modules of transformers."""
    if not draft.tensors or not all(_NAME.fullmatch(name) for name in draft.tensors):
        return draft, []
    try:
        if isinstance(setting.base, str):
            raise CannotConvert("how its rows lie depends on the base model, which is not known (--base-config)")
        rank, alpha = _numbers(draft.config)
        tensors: dict[str, Blob] = {}
        for name, blob in draft.tensors.items():
            tensors |= _as_peft(name, blob, setting.base)
    except CannotConvert as error:
        reason = f"Megatron's layout was not converted: {error}. Export it with Megatron-Bridge's save_hf_adapter."
        return draft, [skipped(MEGATRON, _CODE, reason)]
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in tensors})
    kept = {name: value for name, value in draft.config.items() if name not in _ITS_OWN}
    new = {"peft_type": "LORA", **kept, "r": rank, "lora_alpha": alpha, "target_modules": targets}
    mended = draft.with_tensors(tensors).with_config(**dict.fromkeys(draft.config, ...)).with_config(**new)
    message = f"{len(draft.tensors)} tensors of Megatron are {len(tensors)} of PEFT now"
    proof = "each part of a fused module has the same A, and the rows of B that are its own: every update is the same"
    return mended, [repaired(MEGATRON, _CODE, len(draft.tensors), message, proof)]


def _numbers(config: Mapping[str, Any]) -> tuple[Any, Any]:
    for rank, alpha in MEGATRON_NUMBERS:
        if rank in config and alpha in config:
            return config[rank], config[alpha]
    raise CannotConvert("its config has no r and no lora_alpha (Megatron's dim and alpha)")


def _as_peft(name: str, blob: Blob, base: BaseModel) -> dict[str, Blob]:
    found = _NAME.fullmatch(name)
    assert found is not None
    module = found["module"] or _OLDER.get(found["older"], "")
    parts = MODULES.get(module)
    if parts is None:
        raise CannotConvert(f"'{escape(name, 100)}' is no module that transformers has")
    paths = [f"model.layers.{int(found['layer'])}.{part}" for part in parts]
    strange = next((path for path in paths if path not in base.modules), None)
    if strange is not None:
        raise CannotConvert(f"this base model has no {escape(strange, 80)}")
    leaf = found["only"].removeprefix("adapter_") if found["only"] else found["part"]
    if (found["older"] in _APART) != (found["part"] is not None):
        raise CannotConvert(f"'{escape(name, 100)}' is no part of a module that is known")
    if leaf is not None:
        paths = [path for path in paths if path.rpartition(".")[2].removesuffix("_proj") == leaf]
        if not paths:
            raise CannotConvert(f"'{escape(name, 100)}' is no part of a module that is known")
    if found["half"] == "in":
        return {key_name(path, "lora_A.weight"): blob for path in paths}
    sizes = [base.modules[path].weight_shape[0] for path in paths]
    require_rows(name, blob, sum(sizes))
    if len(paths) == 1:
        return {key_name(paths[0], "lora_B.weight"): blob}
    orders = orders_of(module, sizes, base)
    return {
        key_name(path, "lora_B.weight"): rows(blob, order, "rows of a fused module")
        for path, order in zip(paths, orders, strict=True)
    }


def orders_of(module: str, sizes: list[int], base: BaseModel) -> Iterator[NDArray[Any]]:
    """Yield for each part of a fused module which of its rows are that part's. Raises CannotConvert."""
    return _groups(*heads_of(base)) if module == "linear_qkv" else _one_after_another(sizes)


def _groups(heads: int, key_heads: int, width: int) -> Iterator[NDArray[Any]]:
    """The rows of q, of k and of v, which stand group by group."""
    import numpy as np

    each = heads // key_heads
    grouped = np.arange((heads + 2 * key_heads) * width).reshape(key_heads, each + 2, width)
    for begin, end in ((0, each), (each, each + 1), (each + 1, each + 2)):
        yield grouped[:, begin:end].reshape(-1)


def _one_after_another(sizes: list[int]) -> Iterator[NDArray[Any]]:
    import numpy as np

    begin = 0
    for size in sizes:
        yield np.arange(begin, begin + size)
        begin += size
