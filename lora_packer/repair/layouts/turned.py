"""LoRA on fused experts in the layout of PEFT before 0.19, whose two halves lay the other way round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import key_name
from lora_packer.inspector.todays import turned_experts
from lora_packer.repair.draft import Blob, Computed, Draft
from lora_packer.repair.result import repaired
from lora_packer.repair.setting import Mended, Setting, found_by, is_better, judged

if TYPE_CHECKING:
    from numpy.typing import NDArray


def turn_round(draft: Draft, setting: Setting) -> Mended:
    """Turn the halves of LoRA on fused experts round that a PEFT before 0.19 wrote, where the sizes show it.

    Before, an expert's update was the transpose of what the two halves give today (peft/tuners/lora/layer.py:2437).
    """
    found = found_by(draft, setting, "LP322")
    turned = {} if found is None else turned_experts(found[0].case, draft.tensors)
    if found is None or not turned:
        return draft, []
    diagnosis, _ = found
    tensors = dict(draft.tensors)
    for path, experts in turned.items():
        a, b = (key_name(path, part) for part in ("lora_A.weight", "lora_B.weight"))
        tensors[a], tensors[b] = _turned(tensors[a], tensors[b], experts)
    mended = draft.with_tensors(tensors)
    if not is_better(diagnosis, judged(mended, setting), "LP322", setting.base):
        return draft, []
    count = 2 * len(turned)
    message = f"{count} tensors of fused experts that a PEFT before 0.19 wrote have today's layout"
    proof = "today's PEFT makes of them the update that the older one made: the same products, transposed as they were"
    return mended, [repaired("experts-of-older-peft", "LP322", count, message, proof)]


def _turned(a: Blob, b: Blob, experts: int) -> tuple[Blob, Blob]:
    rank = a.shape[0] // experts

    def new_a(array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(array.shape[0], rank, experts).transpose(2, 1, 0).reshape(experts * rank, array.shape[0])

    def new_b(array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(experts, rank, array.shape[1]).transpose(2, 1, 0).reshape(array.shape[1], rank * experts)

    return (
        Blob(b.dtype, (a.shape[0], b.shape[0]), Computed((b,), new_a, "turn")),
        Blob(a.dtype, (a.shape[1], b.shape[1]), Computed((a,), new_b, "turn")),
    )
