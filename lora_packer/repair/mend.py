"""The order of the repairs, on one screen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lora_packer.adapter import AdapterSource
from lora_packer.errors import InputError
from lora_packer.redact import escape
from lora_packer.repair import container, fields, lossy, names, shapes, targets, values
from lora_packer.repair.draft import Draft
from lora_packer.repair.find import find
from lora_packer.repair.lossy import LOSSY
from lora_packer.repair.result import Told
from lora_packer.repair.setting import Repair, Setting

REPAIRS: tuple[Repair, ...] = (
    fields.known_fields,
    fields.values,
    names.rename,
    shapes.turn_round,
    targets.one_pattern_each,
    targets.unsave,
    targets.retarget,
    names.rename,  # with other targets other names are called for
    targets.switch_on,
    names.to_todays_names,
    fields.base_id,
    values.without_base_weights,
    lossy.rank_from_tensors,
    lossy.lower_rank,
    values.halve,
    lossy.bfloat16,
    container.metadata,
)


@dataclass(frozen=True, slots=True)
class Mending:
    """An adapter before and after.

    Attributes:
        source: its files.
        before, after: what was found, and what became of it; None where it could not be read.
        told: what each repair says.
    """

    source: AdapterSource
    before: Draft | None
    after: Draft | None
    told: tuple[Told, ...]


def mend(setting: Setting, extras: tuple[str, ...]) -> Mending:
    """Find the adapter, and let every repair go over it. What one repair cannot do is told, and stops no other."""
    found = find(setting.source, extras)
    if found.draft is None:
        return Mending(found.source, None, None, found.told)
    setting = replace(setting, source=found.source)
    draft, told = found.draft, list(found.told)
    for repair in REPAIRS:
        draft, more = repair(draft, setting)
        told += [item for item in more if item not in told]
    return Mending(found.source, found.draft, draft, tuple(told))


def allowed(words: tuple[str, ...]) -> dict[str, str]:
    """Return the lossy repairs that were asked for, each with its value. Raises InputError."""
    chosen = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in LOSSY:
            known = ", ".join(LOSSY)
            raise InputError(f"there is no lossy repair '{escape(word, 40)}'.", hint=f"--allow takes: {known}.")
        chosen[name] = value
    return chosen


__all__ = ["LOSSY", "REPAIRS", "Mending", "allowed", "mend"]
