"""What the config targets, made to be what the file has tensors for."""

from __future__ import annotations

import json
from typing import Any

from lora_packer.adapter.keys import PAIRED, parse_key
from lora_packer.inspector.narrowing import exact_change, listed_targets, own_ranks
from lora_packer.redact import escape
from lora_packer.repair.draft import Draft
from lora_packer.repair.result import Told, repaired, skipped
from lora_packer.repair.setting import Mended, Setting, found_by, is_better, judged, not_taken_by_target

LISTED = "listed-targets"
_NO_LIST = frozenset({"targets_null", "targets_pattern", "targets_all_linear"})
_OF_TARGETS = ("LP206", "LP207", "LP309", "LP313", "LP301")
_SHOWN = 120


def retarget(draft: Draft, setting: Setting) -> Mended:
    """Change the config so that the config targets exactly the modules that the file has tensors for."""
    told: list[Told] = []
    for code in _OF_TARGETS:
        found = found_by(draft, setting, code)
        if found is None:
            continue
        diagnosis, findings = found
        change = exact_change(diagnosis.as_given or diagnosis.case)
        if change is None:
            continue
        mended = draft.with_config(**change.written())
        if not is_better(diagnosis, judged(mended, setting), code, setting.base):
            continue
        message = ", and ".join(_what_was_done(*item) for item in change.written().items())
        proof = "with it the config targets the modules that the file has tensors for, and no others"
        told.append(repaired("targets", code, findings[0].count, message, proof))
        draft = mended
    return draft, told


def _what_was_done(field: str, value: Any) -> str:
    return f"{field} was {'taken out' if value is ... else f'set to {escape(json.dumps(value), _SHOWN)}'}"


def as_list(draft: Draft, setting: Setting) -> Mended:
    """Write ``target_modules`` as a list of names, for a target that reads nothing else."""
    is_list = isinstance(draft.config.get("target_modules"), list)
    if is_list or not (LISTED in setting.allowed or not_taken_by_target(draft, setting) & _NO_LIST):
        return draft, []
    found = judged(draft, setting)
    names = listed_targets(found.as_given or found.case) if found is not None else None
    if names is None:
        reason = "which modules are meant is known only where the adapter fits the base model: write their names."
        return draft, [skipped(LISTED, None, reason)]
    before = escape(json.dumps(draft.config.get("target_modules")), _SHOWN)
    message = f"target_modules was {before}, and is a list of {len(names)} names"
    proof = "on this base model the list stands for the same modules, and no others"
    return draft.with_config(target_modules=list(names)), [repaired(LISTED, None, len(names), message, proof)]


def unsave(draft: Draft, setting: Setting) -> Mended:
    """Take modules out of ``modules_to_save`` that the file has LoRA for, and no weights."""
    saved = draft.config.get("modules_to_save")
    if not isinstance(saved, list):
        return draft, []
    adapted = {key.path for name in draft.tensors if (key := parse_key(name)).part in PAIRED}
    whole = {key.path.rpartition(".")[0] for name in draft.tensors if not (key := parse_key(name)).part}
    wrong = [
        name for name in saved if isinstance(name, str) and _any_ends(adapted, name) and not _any_ends(whole, name)
    ]
    for code in ("LP308", "LP313"):
        found = found_by(draft, setting, code) if wrong else None
        if found is None:
            continue
        kept = [name for name in saved if name not in wrong]
        mended = draft.with_config(modules_to_save=kept or None)
        if is_better(found[0], judged(mended, setting), code, setting.base):
            message = f"{escape(', '.join(wrong), 120)} was taken out of modules_to_save"
            proof = (
                "the file has LoRA tensors for it and not its weights, and with that the config calls for what is there"
            )
            return mended, [repaired("saved-modules", code, len(wrong), message, proof)]
    return draft, []


def _any_ends(paths: set[str], name: str) -> bool:
    return any(path == name or path.endswith(f".{name}") for path in paths)


def switch_on(draft: Draft, setting: Setting) -> Mended:
    """Switch a feature on whose tensors the file has for every module."""
    found = found_by(draft, setting, "LP314")
    if found is None:
        return draft, []
    diagnosis, findings = found
    told: list[Told] = []
    for finding in findings:
        name = finding.field or ""
        mended = draft.with_config(**{name: True}) if name in ("use_dora", "lora_bias") else None
        if mended is not None and is_better(diagnosis, judged(mended, setting), "LP314", setting.base):
            proof = "the file has its tensors for every module that gets LoRA, and training alone makes them"
            told.append(repaired("feature", "LP314", finding.count, f"{name} was set to true", proof))
            draft = mended
        else:
            told.append(skipped("feature", "LP314", f"{finding.message}. {finding.hint or ''}"))
    return draft, told


def one_pattern_each(draft: Draft, setting: Setting) -> Mended:
    """Write ``rank_pattern`` with a key for each module, where keys overlap and saving has changed which one wins.

    PEFT sorts the keys when it saves, and takes the first that matches when it loads (peft/utils/other.py).
    """
    found = found_by(draft, setting, "LP302")
    if found is None:
        return draft, []
    diagnosis, _ = found
    ranks = own_ranks(diagnosis.case)
    if ranks is None:
        return draft, []
    mended = draft.with_config(rank_pattern=ranks)
    if not is_better(diagnosis, judged(mended, setting), "LP302", setting.base):
        return draft, []
    message = f"rank_pattern has a key for each of {len(ranks)} modules now, instead of keys that overlap"
    proof = (
        "each module has the rank of its tensors, which one of the old keys gives it; no alpha depends on their order"
    )
    return mended, [repaired("overlapping-patterns", "LP302", len(ranks), message, proof)]
