"""An adapter of PEFT's under the names of Megatron-Bridge and NeMo 1; ``megatron.py`` has the sources and the way in.

Both know two kinds: a LoRA for each part of a fused module (Megatron-Bridge's CanonicalLoRA, NeMo 1's variant
"canonical"), and one A for all parts of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import parse_key
from lora_packer.base_model import BaseModel
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Computed, Draft
from lora_packer.repair.layouts.megatron import MEGATRON, MODULES, orders_of
from lora_packer.repair.layouts.parts import CannotConvert, alpha_of_all
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Setting

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HALVES = {"lora_A.weight": "linear_in", "lora_B.weight": "linear_out"}
_BLOCKS = {"linear_qkv": "self_attention", "linear_proj": "self_attention", "linear_fc1": "mlp", "linear_fc2": "mlp"}
# What CanonicalLoRA calls its targets (target_modules in peft/canonical_lora.py).
_CANONICAL = {
    "self_attn.q_proj": "linear_q",
    "self_attn.k_proj": "linear_k",
    "self_attn.v_proj": "linear_v",
    "self_attn.o_proj": "linear_proj",
    "mlp.up_proj": "linear_fc1_up",
    "mlp.gate_proj": "linear_fc1_gate",
    "mlp.down_proj": "linear_fc2",
}


@frozen
class _Form:
    """How one of them writes an adapter.

    Attributes:
        told: whose form it is.
        layer: what stands before a layer's number.
        whole: the module of Megatron -> its name where one A is for all of it.
        part: the same where each part has its own; ``{}`` is the part (q, k, v, gate, up).
        rank: what the config calls the rank.
        words: what its config calls each module of transformers.
        more: further fields of the config.
        is_fused: whether one A is for all parts of a module.
        needs_all: whether a module has LoRA on all of its parts, or on none.
    """

    told: str
    layer: str
    whole: Mapping[str, str]
    part: Mapping[str, str]
    rank: str
    words: Mapping[str, str]
    more: Mapping[str, str]
    is_fused: bool
    needs_all: bool


def _bridge(*, is_fused: bool) -> _Form:
    whole = {module: f"{module}.adapter" for module in MODULES}
    part = {module: f"{module}.adapter.adapter_{{}}" for module in MODULES}
    told = "Megatron-Bridge's LoRA" if is_fused else "Megatron-Bridge's CanonicalLoRA"
    # CanonicalLoRA refuses the names of fused modules among its targets (_init_target_match_state).
    words = _by_path({module: module for module in MODULES}) if is_fused else _CANONICAL
    return _Form(told, "decoder.layers.", whole, part, "dim", words, {}, is_fused, needs_all=is_fused)


def _by_path(words: Mapping[str, str]) -> dict[str, str]:
    return {path: words[module] for module, paths in MODULES.items() for path in paths}


def _nemo(*, is_fused: bool) -> _Form:
    names = {
        "linear_qkv": "kqv_adapter",
        "linear_proj": "dense_attention_adapter",
        "linear_fc1": "hto4h_adapter",
        "linear_fc2": "4htoh_adapter",
    }
    whole = {module: f"adapter_layer.lora_{name}" for module, name in names.items()}
    part = {module: f"adapter_layer.lora_unfused_{name}.{{}}_adapter" for module, name in names.items()}
    # PEFT_MODULE_MAP in nemo/collections/nlp/parts/peft_config.py.
    words = {
        "linear_qkv": "attention_qkv",
        "linear_proj": "attention_dense",
        "linear_fc1": "mlp_fc1",
        "linear_fc2": "mlp_fc2",
    }
    variant = "nemo" if is_fused else "canonical"
    told = f"NeMo 1, its variant '{variant}'"
    more = {"variant": variant}
    return _Form(
        told, "model.decoder.layers.", whole, part, "adapter_dim", _by_path(words), more, is_fused, needs_all=True
    )


FORMS = {
    "": _bridge(is_fused=False),
    "fused": _bridge(is_fused=True),
    "nemo1": _nemo(is_fused=False),
    "nemo1-fused": _nemo(is_fused=True),
}


def to_megatron(draft: Draft, setting: Setting) -> tuple[Draft | None, list[Told]]:
    """Return the adapter in the form that was asked for, or why it has none there."""
    try:
        form = FORMS.get(setting.allowed.get(MEGATRON, ""))
        if form is None:
            raise CannotConvert(f"--allow {MEGATRON}= takes {', '.join(filter(None, FORMS))}")
        alpha = alpha_of_all(draft)
        tensors, paths = _written(draft, setting, form)
    except CannotConvert as error:
        return None, [skipped(MEGATRON, None, f"it was not written in Megatron's layout: {error}.")]
    gone = dict.fromkeys(("r", "lora_alpha", "use_rslora"), ...)
    config = {**draft.config, **gone, form.rank: draft.settings.r, "alpha": alpha, **form.more}
    config["target_modules"] = list(dict.fromkeys(word for path, word in form.words.items() if path in paths))
    mended = draft.with_tensors(tensors).with_config(**config)
    message = f"{len(draft.tensors)} tensors are {len(tensors)} with the names of {form.told}"
    proof = "each part keeps its own A and B; no number is changed, and the scale is alpha over the rank"
    if form.is_fused:
        proof = "the parts of a fused module have the same A, bit for bit, and each keeps its rows of B"
    return mended, [repaired(MEGATRON, None, len(draft.tensors), message, proof)]


def _written(draft: Draft, setting: Setting, form: _Form) -> tuple[dict[str, Blob], set[str]]:
    """Return the tensors, and the paths in a layer that have some."""
    made: dict[str, Blob] = {}
    groups = _groups_of(draft)
    with Files(setting.source) as files:
        for (layer, module), parts in groups.items():
            name = f"{form.layer}{layer}.{_BLOCKS[module]}"
            every = MODULES[module]
            if len(every) > 1 and form.needs_all and parts.keys() != set(every):
                listed = ", ".join(path.rpartition(".")[2] for path in every)
                raise CannotConvert(f"layer {layer} has not all of {listed}, on which it puts LoRA together")
            if len(every) == 1 or form.is_fused:
                halves = _fused(module, [parts[path] for path in every], setting.base, files)
                made |= _pair(f"{name}.{form.whole[module]}", halves)
                continue
            for path, own in parts.items():
                leaf = path.rpartition(".")[2].removesuffix("_proj")
                made |= _pair(f"{name}.{form.part[module].format(leaf)}", own)
    return made, {path for parts in groups.values() for path in parts}


def _pair(name: str, halves: Mapping[str, Blob]) -> dict[str, Blob]:
    return {f"{name}.{half}.weight": halves[half] for half in ("linear_in", "linear_out")}


def _groups_of(draft: Draft) -> dict[tuple[str, str], dict[str, dict[str, Blob]]]:
    """Return (layer, module of Megatron) -> its parts, by their paths in a layer -> the two halves."""
    module_of = {path: module for module, paths in MODULES.items() for path in paths}
    groups: dict[tuple[str, str], dict[str, dict[str, Blob]]] = {}
    for name, blob in draft.tensors.items():
        key = parse_key(name)
        half = _HALVES.get(key.part)
        found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", key.path)
        if half is None or not key.prefixed:
            raise CannotConvert(f"'{escape(name, 80)}' has no place there")
        if found is None or found[2] not in module_of:
            raise CannotConvert(f"'{escape(key.path, 80)}' is no part of its decoder that is known")
        own = groups.setdefault((found[1], module_of[found[2]]), {})
        own.setdefault(found[2], {})[half] = blob
    for (layer, _), parts in groups.items():
        for path, halves in parts.items():
            if len(halves) < 2:
                raise CannotConvert(f"layer {layer} has one half of {escape(path, 80)} alone")
    return groups


def _fused(module: str, parts: list[dict[str, Blob]], base: BaseModel | str, files: Files) -> dict[str, Blob]:
    """Return the one pair of a module that has one A for all its parts."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(base, str):
        raise CannotConvert("how its rows lie depends on the base model, which is not known (--base-config)")
    first, *others = (part["linear_in"] for part in parts)
    if not all(_is_same(first, other, files) for other in others):
        raise CannotConvert(
            f"it has one A for all of {module}, and the file has one for each part (--allow {MEGATRON})"
        )
    outs = [part["linear_out"] for part in parts]
    if len({(out.dtype, out.shape[1:]) for out in outs}) > 1:
        raise CannotConvert(f"the parts of {module} have different dtypes or ranks")
    sizes = [out.shape[0] for out in outs]
    orders = list(orders_of(module, sizes, base))
    if sizes != [len(order) for order in orders]:
        raise CannotConvert(f"the parts of {module} have other sizes than this base model")
    shape = (sum(sizes), *outs[0].shape[1:])
    out = Blob(outs[0].dtype, shape, Computed(tuple(outs), lambda *given: _joined(given, orders), "rows put together"))
    return {"linear_in": first, "linear_out": out}


def _is_same(one: Blob, other: Blob, files: Files) -> bool:
    if one == other:
        return True
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return bool((files.array(one) == files.array(other)).all())


def _joined(parts: tuple[NDArray[Any], ...], orders: list[NDArray[Any]]) -> NDArray[Any]:
    import numpy as np

    whole = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), parts[0].dtype)
    for part, order in zip(parts, orders, strict=True):
        whole[order] = part
    return whole
