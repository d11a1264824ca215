"""Values that need not be there: the lower half of a float32 that is a bfloat16, and the base model's own weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lora_packer.adapter.keys import parse_key
from lora_packer.inspector.leftovers import leftovers
from lora_packer.repair.content import Files
from lora_packer.repair.draft import Blob, Computed, Draft, Span
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting, found_by, judged

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 4 << 20
_FIRST = 4 << 10


def halve(draft: Draft, setting: Setting) -> Mended:
    """Write float32 tensors as bfloat16 where every value of the file is exactly one."""
    float32 = {name: blob for name, blob in draft.tensors.items() if blob.dtype == "F32" and blob.size}
    if not float32 or setting.source.remote:
        return draft, []
    is_any = False
    with Files(setting.source) as files:
        if _has_low_bits(next(iter(float32.values())), files):
            return draft, []
        for blob in float32.values():
            for bits in _bits(blob, files):
                if (bits & 0xFFFF).any():
                    return draft, []
                is_any = is_any or bool(bits.any())
    if not is_any:
        return draft, []
    tensors = {name: upper_half(blob) if name in float32 else blob for name, blob in draft.tensors.items()}
    message = f"{len(float32)} float32 tensors are bfloat16 now, half as large"
    proof = "the lower 16 bits of every value were 0: widened again, each is the float32 that it was, to the last bit"
    return draft.with_tensors(tensors), [repaired("padded-float32", "LP406", len(float32), message, proof)]


def _has_low_bits(blob: Blob, files: Files) -> bool:
    """Whether the first values already have bits that bfloat16 lacks; without NumPy, which takes long to import."""
    if not isinstance(blob.made, Span):
        return False
    begin = files.read(Span(blob.made.file, blob.made.begin, min(blob.made.begin + _FIRST, blob.made.end)))
    return any(begin[::4]) or any(begin[1::4])


def _bits(blob: Blob, files: Files) -> Iterator[NDArray[Any]]:
    import numpy as np

    if not isinstance(blob.made, Span):
        yield files.array(blob)
        return
    for begin in range(blob.made.begin, blob.made.end, _PIECE):
        span = Span(blob.made.file, begin, min(begin + _PIECE, blob.made.end))
        yield np.frombuffer(files.read(span), "<u4")


def upper_half(blob: Blob) -> Blob:
    """A float32 tensor as the bfloat16 that is its upper half."""
    import numpy as np

    def take(bits: NDArray[Any]) -> NDArray[Any]:
        return (bits >> np.uint32(16)).astype(np.uint16)

    return Blob("BF16", blob.shape, Computed((blob,), take, "upper half", elementwise=True))


# --- the base model's own weights ------------------------------------------------------------------------------------


def without_base_weights(draft: Draft, setting: Setting) -> Mended:
    """Take out tensors that are, to the last bit, the base model's own."""
    found = found_by(draft, setting, "LP315", "LP320")
    told: list[Told] = []
    if found is not None:
        diagnosis, findings = found
        code = findings[0].code
        if setting.base_weights is None:
            how = "With --base-weights it is seen whether they are the base model's own, and these are taken out."
            told.append(skipped("base-weights", code, f"{findings[0].message}. {how}"))
        elif not diagnosis.case.sources:
            extra = leftovers(diagnosis.case).of("base", "embeddings", "surplus", "untargeted")
            names = [item.name for item in extra if not parse_key(item.name).part.startswith("lora_")]
            draft, more = _taken_out(draft, setting, names, code)
            told += more
    if setting.base_weights is not None:
        draft, more = _unchanged_modules(draft, setting)
        told += more
    return draft, told


def _taken_out(draft: Draft, setting: Setting, names: list[str], code: str) -> Mended:
    same = _same(draft, setting, names)
    equal = [name for name, is_same in same.items() if is_same]
    told: list[Told] = []
    if equal:
        mended = draft.with_tensors({name: blob for name, blob in draft.tensors.items() if name not in equal})
        message = f"{len(equal)} tensors of the base model's own weights were taken out"
        proof = (
            "each of their values is the base model's: loading them changes nothing, and neither does leaving them out"
        )
        told.append(repaired("base-weights", code, len(equal), message, proof))
        draft = mended
    for is_same, why in ((False, "are not the base model's own values"), (None, "have no place in --base-weights")):
        others = [name for name in names if same[name] is is_same]
        if others:
            what = "If they were trained, name their modules in modules_to_save; if not, leave them out."
            told.append(skipped("base-weights", code, f"{len(others)} tensors, first '{others[0]}', {why}. {what}"))
    return draft, told


def _same(draft: Draft, setting: Setting, names: list[str]) -> Mapping[str, bool | None]:
    weights = setting.base_weights
    assert weights is not None
    with Files(setting.source) as files:
        return {name: weights.has_same(name, draft.tensors[name], files) for name in names}


def _unchanged_modules(draft: Draft, setting: Setting) -> Mended:
    """Modules of ``modules_to_save`` that training did not change: their weights and their name go."""
    saved = draft.config.get("modules_to_save")
    if not isinstance(saved, list) or judged(draft, setting) is None:
        return draft, []
    told: list[Told] = []
    for module in [item for item in saved if isinstance(item, str)]:
        own = [name for name in draft.tensors if _is_of(name, module)]
        if not own or not all(_same(draft, setting, own).values()):
            continue
        kept = [name for name in draft.config["modules_to_save"] if name != module]
        draft = draft.with_config(modules_to_save=kept or None)
        draft = draft.with_tensors({name: blob for name, blob in draft.tensors.items() if name not in own})
        message = f"the weights of '{module}' were taken out, and its name out of modules_to_save"
        proof = "each of their values is the base model's: training did not change them"
        told.append(repaired("base-weights", None, len(own), message, proof))
    return draft, told


def _is_of(name: str, module: str) -> bool:
    key = parse_key(name)
    owner = key.path.rpartition(".")[0]
    return not key.part and (owner == module or owner.endswith(f".{module}"))
