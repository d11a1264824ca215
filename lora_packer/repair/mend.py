"""The order of the repairs, on one screen."""

from __future__ import annotations

from dataclasses import replace

from lora_packer.adapter import WEIGHTS_NAME, AdapterSource
from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.misplaced import MLX_WEIGHTS
from lora_packer.redact import escape
from lora_packer.repair import container, fields, lossy, names, scale, shapes, targets, values
from lora_packer.repair.draft import Draft
from lora_packer.repair.find import Found
from lora_packer.repair.layouts import experts, kohya, megatron, megatron_out, mlx, torchtune, turned
from lora_packer.repair.lossy import LOSSY
from lora_packer.repair.result import Repaired, Skipped, Told
from lora_packer.repair.setting import Repair, Setting

FIRST: tuple[Repair, ...] = (
    mlx.from_mlx,
    torchtune.from_torchtune,
    megatron.from_megatron,
    kohya.from_kohya,
    fields.known_fields,
    fields.values,
)
# Until nothing changes any more: names show what is targeted, and what is targeted shows which names are wrong.
AGAIN: tuple[Repair, ...] = (
    names.rename,
    shapes.turn_round,
    targets.one_pattern_each,
    targets.unsave,
    targets.retarget,
    targets.switch_on,
    turned.turn_round,
    names.to_todays_names,
)
LAST: tuple[Repair, ...] = (
    fields.base_id,
    experts.fuse,
    experts.unfuse,
    scale.fold,
    targets.as_list,
    values.without_base_weights,
    lossy.rank_from_tensors,
    lossy.lower_rank,
    values.halve,
    lossy.bfloat16,
    container.metadata,
)
_MOST_ROUNDS = 5

# What loses nothing either, and is another form that only some loaders want: done where it is asked for.
FORMS = {
    scale.PLAIN: "rsLoRA, rank_pattern and alpha_pattern folded into one r and one lora_alpha",
    targets.LISTED: "target_modules as a list, where it is a pattern, 'all-linear' or missing",
    experts.FUSED: "LoRA on single experts put onto the fused parameters of transformers 5",
    experts.PER_EXPERT: "LoRA on fused experts cut into that of single ones",
    mlx.MLX: "MLX-LM's own layout: adapters.safetensors and its config",
    kohya.KOHYA: "kohya's own layout: kohya=lora_te says what its names begin with",
    torchtune.TORCHTUNE: "torchtune's own names and order of rows",
    megatron.MEGATRON: "the names of Megatron-Bridge's CanonicalLoRA; megatron=fused: one A for q, k and v; "
    "megatron=nemo1, megatron=nemo1-fused: those of NeMo 1",
}
BY_NAME = {**LOSSY, **FORMS}


@frozen
class Mending:
    """An adapter before and after.

    Attributes:
        source: its files.
        before, after: what was found, and what became of it; None where it could not be read.
        told: what each repair says.
        form: what is written where that is not PEFT's layout, and under which name its weights are.
    """

    source: AdapterSource
    before: Draft | None
    after: Draft | None
    told: tuple[Told, ...]
    form: tuple[Draft, str] | None = None


def mend(found: Found, setting: Setting) -> Mending:
    """Let every repair go over what was found. What one repair cannot do is told, and stops no other."""
    if found.draft is None:
        return Mending(found.source, None, None, found.told)
    setting = replace(setting, source=found.source)
    draft, told = _by_all(FIRST, found.draft, setting)
    left: list[Told] = []
    for _ in range(_MOST_ROUNDS):
        before = draft
        draft, more = _by_all(AGAIN, draft, setting)
        # What was left by one round may be done by the next.
        told = [*(item for item in told if isinstance(item, Repaired) or item not in left), *more]
        left = [item for item in more if isinstance(item, Skipped)]
        if draft is before:
            break
    draft, more = _by_all(LAST, draft, setting)
    told = [*found.told, *told, *(item for item in more if item not in told)]
    if not draft.config:  # of a layout that has none, and that was not converted
        return Mending(found.source, None, None, tuple(told))
    form, more = _other_layout(draft, setting)
    return Mending(found.source, found.draft, draft, (*told, *more), form)


def _by_all(repairs: tuple[Repair, ...], draft: Draft, setting: Setting) -> tuple[Draft, list[Told]]:
    told: list[Told] = []
    for repair in repairs:
        draft, more = repair(draft, setting)
        told += [item for item in more if item not in told]
    return draft, told


def _other_layout(draft: Draft, setting: Setting) -> tuple[tuple[Draft, str] | None, list[Told]]:
    """Return what is written in another layout than PEFT's, where one is wanted, and the name of its weights."""
    if mlx.is_wanted(setting):
        form, told = mlx.to_mlx(draft, setting)
        return (None if form is None else (replace(form, metadata={}), MLX_WEIGHTS)), told
    if kohya.KOHYA in setting.allowed:
        form, told = kohya.to_kohya(draft, setting)
        return (None if form is None else (form, kohya.KOHYA_WEIGHTS)), told
    for name, write in ((torchtune.TORCHTUNE, torchtune.to_torchtune), (megatron.MEGATRON, megatron_out.to_megatron)):
        if name in setting.allowed:
            form, told = write(draft, setting)
            return (None if form is None else (form, WEIGHTS_NAME)), told
    return None, []


def allowed(words: tuple[str, ...]) -> dict[str, str]:
    """Return the repairs that were asked for by name, each with its value. Raises InputError."""
    chosen = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in BY_NAME:
            known = ", ".join(BY_NAME)
            raise InputError(f"there is no repair to allow '{escape(word, 40)}'.", hint=f"--allow takes: {known}.")
        chosen[name] = value
    return chosen


__all__ = ["BY_NAME", "Mending", "allowed", "mend"]
