"""Pairs whose halves stand under each other's name, and tensors that lie transposed."""

from __future__ import annotations

from lora_packer.adapter.keys import PAIRED, parse_key
from lora_packer.inspector.case import Match
from lora_packer.inspector.diagnosis import Diagnosis
from lora_packer.repair.draft import Draft, transposed
from lora_packer.repair.result import repaired, skipped
from lora_packer.repair.setting import Mended, Setting, found_by, is_better, judged

_TRANSPOSED, _SWAPPED = "LP303", "LP304"
_EITHER = (
    "every layer is square, so that its pair looks the same transposed and exchanged. Look at how it was saved, and "
    "save it again with save_pretrained."
)


def turn_round(draft: Draft, setting: Setting) -> Mended:
    """Exchange names, or transpose, where the sizes leave no doubt which it is."""
    found = found_by(draft, setting, _TRANSPOSED, _SWAPPED)
    if found is None:
        return draft, []
    diagnosis, findings = found
    code = findings[0].code
    wrong = {name: match for name, match in diagnosis.case.difference.matched.items() if not match.fits}
    turned = {name for name, match in wrong.items() if match.info.shape == match.want.shape[::-1]}
    swapped = {name for name in wrong if _is_swapped(name, wrong)}
    if not (turned ^ swapped):
        return draft, [skipped("halves", code, _EITHER)]
    if diagnosis.case.sources or (turned - swapped and swapped - turned):
        tried = _all_alike(draft, diagnosis, setting)
        if tried is not None:
            return tried
        reason = "some tensors lie transposed and others under the wrong name. Save the adapter again."
        return draft, [skipped("halves", code, reason)]
    if swapped - turned:
        return _exchanged(draft, swapped, diagnosis, setting)
    tensors = dict(draft.tensors)
    for name in turned:
        own = wrong[name].name
        tensors[own] = transposed(tensors[own])
    proof = "with its two axes exchanged each has the shape that the base model calls for, and as it lay it had not"
    message = f"{len(turned)} tensors were transposed"
    mended = draft.with_tensors(tensors)
    if not is_better(diagnosis, judged(mended, setting), _TRANSPOSED, setting.base):
        return draft, [skipped("transposed", _TRANSPOSED, f"{findings[0].message}. {findings[0].hint or ''}")]
    return mended, [repaired("transposed", _TRANSPOSED, len(turned), message, proof)]


def _all_alike(draft: Draft, before: Diagnosis, setting: Setting) -> Mended | None:
    """Where PEFT merges tensors first, single sizes say little: what fits when every pair is turned the same way."""
    halves = [name for name in draft.tensors if parse_key(name).part in ("lora_A.weight", "lora_B.weight")]
    if not all(len(draft.tensors[name].shape) == 2 for name in halves):
        return None
    turned = draft.with_tensors(
        {name: transposed(blob) if name in halves else blob for name, blob in draft.tensors.items()}
    )
    other = {"lora_A.weight": "lora_B.weight", "lora_B.weight": "lora_A.weight"}
    swapped = draft.renamed({n: n.removesuffix(parse_key(n).part) + other[parse_key(n).part] for n in halves})
    found = {
        code: mended
        for code, mended in ((_TRANSPOSED, turned), (_SWAPPED, swapped))
        if mended is not None and (after := judged(mended, setting)) is not None and not after.errors
    }
    if len(found) != 1 or not before.errors:
        return None
    (code, mended), *_ = found.items()
    name, done = ("transposed", "transposed") if code == _TRANSPOSED else ("swapped-names", "exchanged in name")
    proof = "so all of them fit the base model, and with the other of these two changes they do not"
    return mended, [repaired(name, code, len(halves), f"{len(halves)} tensors were {done}", proof)]


def _is_swapped(name: str, wrong: dict[str, Match]) -> bool:
    match = wrong[name]
    partner_part = PAIRED.get(match.want.part)
    partner = wrong.get(name.removesuffix(match.want.part) + partner_part) if partner_part else None
    return partner is not None and match.info.shape == partner.want.shape and partner.info.shape == match.want.shape


def _exchanged(draft: Draft, swapped: set[str], diagnosis: Diagnosis, setting: Setting) -> Mended:
    matched = diagnosis.case.difference.matched
    names = {}
    for name in swapped:
        part = matched[name].want.part
        names[matched[name].name] = matched[name.removesuffix(part) + PAIRED[part]].name
    mended = draft.renamed(names)
    if mended is None or not is_better(diagnosis, judged(mended, setting), _SWAPPED, setting.base):
        return draft, [skipped("swapped-names", _SWAPPED, "the exchanged names fit no better. Save the adapter again.")]
    message = f"the names of lora_A and lora_B were exchanged in {len(names)} tensors"
    proof = "under the other name each has the shape that the base model calls for, and under its own it had not"
    return mended, [repaired("swapped-names", _SWAPPED, len(names), message, proof)]
