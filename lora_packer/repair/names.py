"""Names that a wrapper, a trainer or another release wrote, made into those that PEFT looks for."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.adapter.keys import PREFIX, canonical_name
from lora_packer.adapter.plain import plain_name
from lora_packer.base_model import TEXT_ONLY
from lora_packer.inspector.diagnosis import Diagnosis
from lora_packer.inspector.matching import ADAPTER_NAME
from lora_packer.inspector.narrowing import exact_change
from lora_packer.inspector.several import placed
from lora_packer.inspector.todays import todays_names
from lora_packer.redact import escape
from lora_packer.repair.draft import Draft
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting, found_by, is_better, judged

_RENAMED, _LEFT, _NOT_LOADED = "LP311", "LP312", "LP322"
_TWICE = "two tensors would have one name: which one is meant is not known. Save the adapter again."


def rename(draft: Draft, setting: Setting) -> Mended:
    """Give each tensor the name that the base model and the config call for, where it is sure which that is."""
    if isinstance(setting.base, str):
        return _by_names_alone(draft, setting)
    found = found_by(draft, setting, _RENAMED, _LEFT)
    if found is None:
        return _as_peft_writes(draft, setting)
    diagnosis, findings = found
    if diagnosis.case.sources:
        return _by_names_alone(draft, setting)
    told: list[Told] = [
        skipped("names", item.code, f"{item.message}. {item.hint or ''}") for item in findings if not item.fixable
    ]
    renamed = diagnosis.case.difference.renamed
    if not any(item.fixable for item in findings):
        placed, more = _under_another_error(draft, diagnosis)
        return (placed, more) if more else (draft, told)
    for change, pairs in renamed.items():
        names = dict(pairs)
        names |= _alike(names, [item.name for item in diagnosis.case.difference.extra])
        mended = draft.renamed(names)
        code = _LEFT if change == ADAPTER_NAME else _RENAMED
        if mended is None:
            told.append(skipped("names", code, _TWICE))
            continue
        draft = mended
        why = "the adapter's name was left in" if change == ADAPTER_NAME else change
        first = next(iter(names))
        message = f"{len(names)} tensors were renamed: {escape(why, 200)}"
        proof = f"'{escape(names[first], 120)}' and the others are names that the config calls for on this base model"
        told.append(repaired("adapter-name" if code == _LEFT else "names", code, len(names), message, proof))
    return draft, told


def _alike(names: Mapping[str, str], others: list[str]) -> dict[str, str]:
    """What the same change makes of other tensors, where it is one and the same in front of every name."""
    leads = {_leads(old, new) for old, new in names.items()}
    if len(leads) != 1:
        return {}
    (old, new), *_ = leads
    if not old:
        return {name: new + name for name in others if not name.startswith(new)}
    # Taken away altogether, it has to have stood before another one.
    fitting = (old,) if new else (old * 2, old + PREFIX)
    return {name: new + name.removeprefix(old) for name in others if name.startswith(fitting)}


def _leads(old: str, new: str) -> tuple[str, str]:
    """What stands in front of what two names end in alike."""
    before, after = old.split("."), new.split(".")
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return tuple("".join(f"{segment}." for segment in segments) for segments in (before, after))  # type: ignore[return-value]


def _as_peft_writes(draft: Draft, setting: Setting) -> Mended:
    """Names that today's PEFT alone reads, because it changes those of this model type at load, as PEFT writes them."""
    found = judged(draft, setting)
    if found is None or found.case.sources:
        return _by_names_alone(draft, setting) if found is not None else (draft, [])
    return _under_another_error(draft, found)


def _under_another_error(draft: Draft, before: Diagnosis) -> Mended:
    """Names that are wrong where the config is wrong, too, so that some tensors are not looked for at all."""
    names = None if all(item.severity == "info" for item in before.findings) else placed(before.case, draft.tensors)
    mended = draft.renamed(names) if names is not None else None
    if mended is None or names is None:
        return draft, []
    count = sum(old != new for old, new in names.items())
    message = f"{count} tensors were renamed to what PEFT calls the modules that they name"
    proof = "each has the name of a module of this base model now, and no two names are alike"
    return mended, [repaired("names", _RENAMED, count, message, proof)]


def _by_names_alone(draft: Draft, setting: Setting) -> Mended:
    """What is sure without a base model: segments of wrappers, a prefix that stands twice, an adapter's name."""
    names = {name: plain for name in draft.tensors if (plain := plain_name(name)) != name}
    if not names:
        return draft, []
    mended = draft.renamed(names)
    if mended is None:
        return draft, [skipped("names", _RENAMED, _TWICE)]
    before, after = judged(draft, setting), judged(mended, setting)
    if before is not None and not is_better(before, after, "", setting.base):
        return draft, []
    left = all(canonical_name(name) == plain for name, plain in names.items())
    message = f"{len(names)} tensors were renamed: what wrappers and PEFT itself put into a name was taken out"
    proof = "no two names are alike, and nothing but such segments was taken out" + (
        "; the base model was not asked" if before is None else ""
    )
    name, code = ("adapter-name", _LEFT) if left else ("names", _RENAMED)
    return mended, [repaired(name, code, len(names), message, proof)]


# --- the names of another release or class ---------------------------------------------------------------------------


def to_todays_names(draft: Draft, setting: Setting) -> Mended:
    """Names of an older transformers or of the text-only class, where today's PEFT would drop them."""
    found = found_by(draft, setting, _NOT_LOADED)
    if found is None or isinstance(setting.base, str):
        return draft, []
    diagnosis, findings = found
    case = diagnosis.case
    reason = f"{findings[0].message}. {findings[0].hint or ''}"
    names = todays_names(case, draft.tensors)
    mended = draft.renamed(names) if names else None
    if mended is None or not names:
        return draft, [skipped("older-names", _NOT_LOADED, reason)]
    result = _retargeted(mended, diagnosis, setting)
    if result is None:
        return draft, [skipped("older-names", _NOT_LOADED, reason)]
    of = "the text-only class" if case.dialect == TEXT_ONLY else case.dialect
    message = f"{len(names)} tensors had the names of {of}, and have those of {next(iter(case.base.dialects))} now"
    proof = "each name is that of the one module of this kind and size at the same place in the same layer"
    return result, [repaired("older-names", _NOT_LOADED, len(names), message, proof)]


def _retargeted(draft: Draft, before: Diagnosis, setting: Setting) -> Draft | None:
    """The draft with targets that reach its modules under their new names, or None where none do."""
    after = judged(draft, setting)
    if is_better(before, after, _NOT_LOADED, setting.base):
        return draft
    change = exact_change(after.case) if after is not None else None
    if change is None:
        return None
    again = draft.with_config(**change.written())
    return again if is_better(before, judged(again, setting), _NOT_LOADED, setting.base) else None
