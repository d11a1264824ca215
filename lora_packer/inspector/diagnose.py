"""The difference between expected and found tensors, explained: one cause, one finding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, layer_index, layer_of, parse_key, without_index
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.extra import Extras, extras
from lora_packer.inspector.matching import ADAPTER_NAME, Difference
from lora_packer.inspector.shapes import Context, counted, wrong_shapes
from lora_packer.peft.expected import Expectation, Shape
from lora_packer.redact import escape


def explain(difference: Difference, expectation: Expectation, context: Context) -> list[Finding]:
    """Return the findings, each cause once, in the order of the tensors it is about."""
    findings = list(_renamed(difference))
    shapes = list(wrong_shapes(difference, expectation, context))
    if not difference.missing and not difference.extra:
        return findings + shapes
    missing = _sort_missing(difference, expectation)
    extra = extras(difference, expectation, context)
    if shapes:
        extra.names.pop("misfits", None)  # as damaged as the others
    if any(item.code in (rules.SWAPPED.code, rules.TRANSPOSED.code) for item in shapes):
        extra.take("unknown", lambda name: name.endswith(".lora_A.bias"))  # lora_B's, swapped with it
    other_base = next((item for item in shapes if item.code == rules.WRONG_BASE.code), None)
    if other_base is not None and (extra.past or 2 * other_base.count >= len(difference.matched)):
        # Other layers, experts and modules of another base model have the same cause as its other sizes.
        message = other_base.message + _other_depth(missing, extra, context)
        shapes[shapes.index(other_base)] = replace(other_base, message=message)
        missing.lost, missing.untrained = [], []
        for cause in ("past", "lora"):
            extra.names.pop(cause, None)
    return findings + shapes + list(_unmatched(missing, extra, difference, expectation, context))


def _other_depth(missing: _Missing, extra: Extras, context: Context) -> str:
    """Say of another base model how many layers or experts it has, as far as the file shows it."""
    depth = max((i for path in context.modules if (i := layer_index(path)) is not None), default=-1) + 1
    found = max((i for name in context.tensors if (i := layer_index(parse_key(name).path)) is not None), default=-1) + 1
    if found > depth or (found < depth and (missing.lost or missing.untrained)):
        return f", {found} layer{'' if found == 1 else 's'} instead of {depth}"
    if extra.past is not None:
        what, last = extra.past
        return f", and tensors for more than its {last + 1} {what}"
    return ""


def _renamed(difference: Difference) -> Iterator[Finding]:
    """Names to change; a wrapper or a lost prefix may show in several ways, and is one cause."""
    changes = dict(difference.renamed)
    named = changes.pop(ADAPTER_NAME, [])
    if named:
        first, _ = named[0]
        kept = parse_key(first).adapter_name or ""
        message = f"the adapter's name '{escape(kept, 40)}' was left in the names of {counted(len(named))}"
        # Newer PEFT knows only the name under which it loads, and drops the others.
        severity = None if kept == "default" else "error"
        yield rules.ADAPTER_NAME_LEFT.finding(message, severity=severity, **_names_of(named))
    if changes:
        names = [pair for pairs in changes.values() for pair in pairs]
        told = "; ".join(escape(change, 300) for change in list(changes)[:_CHANGES_TOLD])
        yield rules.RENAMED.finding(f"{counted(len(names))} would be dropped: {told}", **_names_of(names))


_CHANGES_TOLD = 2


def _names_of(names: list[tuple[str, str]]) -> dict[str, Any]:
    found, expected = names[0]
    shown = escape(found)
    return {"file": WEIGHTS_NAME, "tensor": shown, "count": len(names), "expected": expected, "actual": shown}


# --- missing ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Missing:
    """The missing tensors by what is missing.

    Attributes:
        half: part -> names of lost halves, whose other half is there.
        parts: part -> names of other tensors of a module whose pair is there.
        lost: lora_A of modules that are missing as a whole, of a kind that is there in other layers.
        untrained: the same, of a kind that the file has nowhere.
        anything_there: whether any module has its pair.
        layers_there: the paths of the layers that have tensors.
    """

    half: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    anything_there: bool = False
    layers_there: frozenset[str] = frozenset()


def _sort_missing(difference: Difference, expectation: Expectation) -> _Missing:
    result = _Missing()
    gone = set(difference.missing)
    whole, others = [], []
    for name in difference.missing:
        want = expectation.required[name]
        partner_part = PAIRED.get(want.part)
        if partner_part is None:
            others.append(name)
        elif name.removesuffix(want.part) + partner_part not in gone:
            result.half.setdefault(want.part, []).append(name)
        elif want.part in ("lora_A.weight", "lora_embedding_A"):
            whole.append(name)
    # A module that is missing as a whole is one cause; its magnitude vector is not a second one.
    lost = {expectation.required[name].path for name in whole}
    for name in others:
        want = expectation.required[name]
        if want.path not in lost:
            result.parts.setdefault(want.part or "weights", []).append(name)
    if whole:
        present = {without_index(want.path) for _, _, want in difference.matched.values() if want.part in PAIRED}
        result.anything_there = bool(present)
        result.layers_there = frozenset(layer_of(want.path) for _, _, want in difference.matched.values())
        for name in whole:
            known = without_index(expectation.required[name].path) in present
            (result.lost if known else result.untrained).append(name)
    return result


def _unmatched(
    missing: _Missing, extra: Extras, difference: Difference, expectation: Expectation, context: Context
) -> Iterator[Finding]:
    """What is missing and what is too much, where one cause made both as one finding."""
    other_names = _other_names(missing, extra, difference, expectation, context)
    if other_names is not None:
        yield other_names
        yield from extra.findings(context)
        return
    overlap = _saved_and_targeted(missing, extra, expectation)
    if overlap is not None:
        yield overlap
    elsewhere, modules_told = _elsewhere(missing, extra, expectation)
    losses = [_half_lost(part, names) for part, names in missing.half.items()]
    losses += [_part_lost(part, names) for part, names in missing.parts.items()]
    if not modules_told:
        losses += _modules_lost(missing, damaged=bool(losses), expectation=expectation)
        if missing.untrained:
            kinds = _kinds(missing.untrained, expectation)
            message = f"target_modules also names {kinds}, for which the file has no tensors"
            yield _missing_finding(rules.WIDER_CONFIG, missing.untrained, message, expectation)
    yield from _told_once(losses, expectation)
    yield from extra.findings(context, elsewhere)


def _elsewhere(missing: _Missing, extra: Extras, expectation: Expectation) -> tuple[str, bool]:
    """Where the missing modules' tensors lie instead, to be told with these; and whether the modules are told so."""
    whole = [*missing.lost, *missing.untrained]
    layers = _layers(whole, expectation)
    if extra.names.get("past") and whole:
        missing.parts.pop("weights", None)  # those of the same layers
        return f", and no tensors for {layers} of it" if layers else "", True
    if extra.names.get("untargeted") and whole:
        of_layers = f" of {layers}" if layers else ""
        return f", but {_kinds(whole, expectation)}{of_layers}, for which the file has no tensors", True
    # None of the file's modules is the base's: said once, of the tensors that are there.
    return "", bool(extra.names.get("lora")) and not missing.anything_there


@dataclass(frozen=True, slots=True)
class _Loss:
    """Tensors that are missing in one way: the rule, a tensor of each place, and what it is, alone and in a list."""

    rule: rules.Rule
    names: list[str]
    message: str
    listed: str


def _told_once(losses: list[_Loss], expectation: Expectation) -> Iterator[Finding]:
    """A file that lost tensors in several ways was damaged once."""
    if len(losses) > 1:
        names = [name for loss in losses for name in loss.names]
        message = "tensors were lost: " + ", ".join(loss.listed for loss in losses)
        yield _missing_finding(losses[0].rule, names, message, expectation)
    elif losses:
        yield _missing_finding(losses[0].rule, losses[0].names, losses[0].message, expectation)


def _of_modules(names: list[str]) -> str:
    return f"{len(names)} module{'s' if len(names) > 1 else ''}"


def _half_lost(part: str, names: list[str]) -> _Loss:
    short = part.removesuffix(".weight")
    message = f"{short} is missing for {_of_modules(names)}, whose other half is in the file"
    return _Loss(rules.HALF_PAIR, names, message, f"{short} of {_of_modules(names)}")


_CALLED_FOR_BY = {
    "lora_magnitude_vector": "use_dora",
    "token_adapter.trainable_tokens_delta": "trainable_token_indices",
}


def _part_lost(part: str, names: list[str]) -> _Loss:
    if part == "weights":
        message = f"the weights of modules_to_save are missing ({counted(len(names))})"
        return _Loss(rules.MISSING_PART, names, message, f"{counted(len(names))} of modules_to_save")
    why = f", which {_CALLED_FOR_BY[part]} calls for" if part in _CALLED_FOR_BY else ""
    message = f"{part} is missing for {_of_modules(names)}{why}"
    return _Loss(rules.MISSING_PART, names, message, f"{part} of {_of_modules(names)}")


def _modules_lost(missing: _Missing, *, damaged: bool, expectation: Expectation) -> list[_Loss]:
    """Whole modules without tensors; those that a wider config names besides are left in ``missing.untrained``.

    A kind that has none anywhere is a wider config, unless whole layers are gone or the file lost other tensors too.
    """
    untrained, missing.untrained = missing.untrained, []
    if untrained and not missing.anything_there:
        message = f"no tensor of the file belongs to any of the {len(untrained)} targeted modules"
        return [_Loss(rules.MISSING_MODULES, untrained, message, f"all of {_of_modules(untrained)}")]
    if not damaged:
        gone = _gone_layers(missing, untrained, expectation)
        with_layers = [name for name in untrained if layer_of(expectation.required[name].path) in gone]
        missing.untrained = [name for name in untrained if layer_of(expectation.required[name].path) not in gone]
        untrained = with_layers
    lost = missing.lost + untrained
    if not lost:
        return []
    layers = _layers(lost, expectation)
    where = f" ({layers})" if layers else ""
    has = "has" if len(lost) == 1 else "have"
    message = f"{len(lost)} targeted module{'s' if len(lost) > 1 else ''} {has} no tensors{where}"
    return [_Loss(rules.MISSING_MODULES, lost, message, f"all of {_of_modules(lost)}{where}")]


def _gone_layers(missing: _Missing, untrained: list[str], expectation: Expectation) -> set[str]:
    """The layers in which several modules have no tensors and no other one has, while the layers beside them do."""
    beside = {layer.rpartition(".")[0] for layer in missing.layers_there} - {""}
    without = Counter(layer_of(expectation.required[name].path) for name in [*missing.lost, *untrained])
    return {
        layer
        for layer, count in without.items()
        if count > 1 and layer not in missing.layers_there and layer.rpartition(".")[0] in beside
    }


def _missing_finding(rule: rules.Rule, names: list[str], message: str, expectation: Expectation) -> Finding:
    want = expectation.required[names[0]]
    return rule.finding(
        message,
        file=WEIGHTS_NAME,
        tensor=escape(names[0]),
        count=len(names),
        expected=list(want.shape),
        actual="missing",
    )


def _layers(names: list[str], expectation: Expectation) -> str:
    layers = sorted({i for name in names if (i := layer_index(expectation.required[name].path)) is not None})
    shown = ", ".join(map(str, layers[:6])) + (", ..." if len(layers) > 6 else "")
    return f"layer{'s' if len(layers) > 1 else ''} {shown}" if layers else ""


def _kinds(names: list[str], expectation: Expectation) -> str:
    return escape(", ".join(sorted({expectation.required[name].path.rpartition(".")[2] for name in names})), 120)


# --- one cause that makes tensors missing and others too much ---------------------------------------------------------


def _other_names(
    missing: _Missing, extra: Extras, difference: Difference, expectation: Expectation, context: Context
) -> Finding | None:
    """The same tensors under other names: one unknown for one missing, or as many of the same shapes.

    A whole module or layer elsewhere is told as such; a part of one that lies elsewhere was renamed.
    """
    causes = ["lora", "unknown"]
    if missing.half or missing.parts:
        causes += ["past", "base", "embeddings"]
    unknown = [name for cause in causes for name in extra.names.get(cause, ())]
    if not unknown or len(unknown) != len(difference.missing):
        return None
    wanted = Counter(expectation.required[name].shape for name in difference.missing)
    if len(unknown) > 1 and wanted != Counter(context.tensors[name].shape for name in unknown):
        return None
    for cause in causes:
        extra.names.pop(cause, None)
    first = unknown[0]
    meant = _nearest(first, context.tensors[first].shape, difference.missing, expectation)
    message = f"{counted(len(unknown))} would be dropped: {_what_differs(first, meant)}"
    hint = "Rename the tensors, or save the adapter with PEFT's save_pretrained."
    return rules.RENAMED.finding(
        message,
        file=WEIGHTS_NAME,
        tensor=escape(first),
        count=len(unknown),
        expected=meant,
        actual=escape(first),
        hint=hint,
        fixable=False,
    )


_NEAREST_OF = 2000


def _nearest(name: str, shape: Shape, missing: list[str], expectation: Expectation) -> str:
    """The missing name of this shape that shares the most segments with ``name``."""
    segments = set(name.split("."))
    candidates = [other for other in missing[:_NEAREST_OF] if expectation.required[other].shape == shape]
    return max(candidates or missing[:1], key=lambda other: len(segments.intersection(other.split("."))))


def _what_differs(name: str, meant: str) -> str:
    found, wanted = name.split("."), meant.split(".")
    while found and wanted and found[0] == wanted[0]:
        del found[0], wanted[0]
    while found and wanted and found[-1] == wanted[-1]:
        del found[-1], wanted[-1]
    if not found or not wanted:
        return "their names are not those of the base model's modules"
    return f"'{escape('.'.join(found), 80)}' stands where '{'.'.join(wanted)}' belongs"


def _saved_and_targeted(missing: _Missing, extra: Extras, expectation: Expectation) -> Finding | None:
    """``modules_to_save`` takes a module away from ``target_modules``, so that its LoRA tensors have no place."""
    weights = missing.parts.get("weights", [])
    dropped = extra.names.get("untargeted", [])
    adapted = {parse_key(name).path for name in dropped}
    both = [name for name in weights if expectation.required[name].path.rpartition(".")[0] in adapted]
    both = both or [name for name in weights if expectation.required[name].path in adapted]
    if not both:
        return None
    owners = {_owner(expectation.required[name].path, adapted) for name in both}
    leaves = {owner.rpartition(".")[2] for owner in owners}
    # The name takes away the same module of every layer, also of those that have no LoRA.
    rest = [
        name for name in weights if _owner(expectation.required[name].path, adapted).rpartition(".")[2] not in leaves
    ]
    missing.parts.pop("weights")
    if rest:
        missing.parts["weights"] = rest
    extra.names["untargeted"] = [name for name in dropped if parse_key(name).path not in owners]
    if not extra.names["untargeted"]:
        extra.names.pop("untargeted")
    kinds = escape(", ".join(sorted(leaves)), 120)
    message = f"modules_to_save names {kinds}, and the file has LoRA tensors for it instead of its weights"
    hint = "Remove the name from modules_to_save."
    finding = _missing_finding(rules.MISSING_PART, both, message, expectation)
    return replace(finding, field="modules_to_save", hint=hint)


def _owner(path: str, adapted: Iterable[str]) -> str:
    return path if path in adapted else re.sub(r"\.[^.]+$", "", path)
