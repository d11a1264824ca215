"""The difference between expected and found tensors, explained: one cause, one finding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, layer_index, parse_key, without_index
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.inspector.compare import ADAPTER_NAME, Difference
from lora_packer.inspector.expected import Expectation, Shape
from lora_packer.inspector.extra import Extras, extras
from lora_packer.inspector.shapes import Context, counted, wrong_shapes
from lora_packer.redact import escape


def explain(difference: Difference, expectation: Expectation, context: Context) -> list[Finding]:
    """Return the findings, each cause once, in the order of the tensors it is about."""
    findings = list(_renamed(difference))
    shapes = list(wrong_shapes(difference, context))
    if not difference.missing and not difference.extra:
        return findings + shapes
    missing = _sort_missing(difference, expectation)
    extra = extras(difference, expectation, context)
    other_base = next((item for item in shapes if item.code == rules.WRONG_BASE.code), None)
    if other_base is not None and 2 * other_base.count >= len(difference.matched):
        # Hardly a tensor fits: other layers and modules of another base model have the same cause.
        layers = _layer_counts(context)
        if layers[0] != layers[1]:
            message = f"{other_base.message}, {layers[1]} layers instead of {layers[0]}"
            shapes[shapes.index(other_base)] = replace(other_base, message=message)
        missing.lost, missing.untrained = [], []
        for cause in ("layer", "lora"):
            extra.names.pop(cause, None)
    return findings + shapes + list(_unmatched(missing, extra, difference, expectation, context))


def _layer_counts(context: Context) -> tuple[int, int]:
    """How many layers the base model has, and how many the file has tensors for."""
    expected = max((i for path in context.modules if (i := layer_index(path)) is not None), default=-1)
    found = max((i for name in context.tensors if (i := layer_index(parse_key(name).path)) is not None), default=-1)
    return expected + 1, found + 1


def _renamed(difference: Difference) -> Iterable[Finding]:
    for change, names in difference.renamed.items():
        first, expected = names[0]
        details: dict[str, Any] = {"file": WEIGHTS_NAME, "tensor": escape(first), "count": len(names)}
        details |= {"expected": expected, "actual": escape(first)}
        if change == ADAPTER_NAME:
            kept = parse_key(first).adapter_name or ""
            message = f"the adapter's name '{escape(kept, 40)}' was left in the names of {counted(len(names))}"
            if kept != "default":  # newer PEFT knows only the name under which it loads, and drops the others
                details["severity"] = "error"
            yield rules.ADAPTER_NAME_LEFT.finding(message, **details)
        else:
            message = f"{counted(len(names))} would be dropped: {escape(change, 300)}"
            yield rules.RENAMED.finding(message, **details)


# --- missing ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Missing:
    """The missing tensors by what is missing.

    Attributes:
        half: part -> names of lost halves, whose other half is there.
        parts: part -> names of other tensors of a module whose pair is there.
        lost: lora_A of modules that are missing as a whole, of a kind that is there in other layers.
        untrained: the same, of a kind that the file has nowhere.
    """

    half: dict[str, list[str]] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    untrained: list[str] = field(default_factory=list)
    anything_there: bool = False


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
        for name in whole:
            known = without_index(expectation.required[name].path) in present
            (result.lost if known else result.untrained).append(name)
    return result


def _unmatched(
    missing: _Missing, extra: Extras, difference: Difference, expectation: Expectation, context: Context
) -> Iterator[Finding]:
    """What is missing and what is too much, where one cause made both as one finding."""
    other_names = _other_names(extra, difference, expectation, context)
    if other_names is not None:
        yield other_names
        return
    overlap = _saved_and_targeted(missing, extra, expectation)
    if overlap is not None:
        yield overlap
    for part, names in missing.half.items():
        message = f"{_missing_count(part, names)}, whose other half is in the file"
        yield _missing_finding(rules.HALF_PAIR, names, message, expectation)
    for part, names in missing.parts.items():
        yield _missing_finding(rules.MISSING_PART, names, _part_message(part, names), expectation)
    elsewhere = ""
    if extra.names.get("layer") and (missing.lost or not missing.anything_there):
        layers = _layers(missing.lost or missing.untrained, expectation)
        elsewhere = f", and no tensors for {layers} of it" if layers else ""
    elif extra.names.get("untargeted") and (missing.lost or missing.untrained):
        targeted = [*missing.lost, *missing.untrained]
        kinds, layers = _kinds(targeted, expectation), _layers(targeted, expectation)
        elsewhere = f", but {kinds}{' of ' + layers if layers else ''}, for which the file has no tensors"
    elif extra.names.get("lora") and not missing.anything_there:
        pass  # none of the file's modules is the base's: said once, of the tensors that are there
    else:
        yield from _missing_modules(missing, expectation)
    yield from extra.findings(context, elsewhere)


def _have(names: list[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _missing_count(part: str, names: list[str]) -> str:
    short = part.removesuffix(".weight")
    return f"{short} is missing for {len(names)} module{'s' if len(names) > 1 else ''}"


def _part_message(part: str, names: list[str]) -> str:
    field = {"lora_magnitude_vector": "use_dora", "token_adapter.trainable_tokens_delta": "trainable_token_indices"}
    if part == "weights":
        return f"the weights of modules_to_save are missing ({counted(len(names))})"
    why = f", which {field[part]} calls for" if part in field else ""
    return f"{_missing_count(part, names)}{why}"


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


def _missing_modules(missing: _Missing, expectation: Expectation) -> Iterator[Finding]:
    """Whole modules without tensors: a kind that has none anywhere is a wider config, else layers were lost."""
    if missing.lost:
        names = missing.lost
        layers = _layers(names, expectation)
        message = f"{len(names)} targeted module{'s' if len(names) > 1 else ''} {_have(names)} no tensors"
        yield _missing_finding(rules.MISSING_MODULES, names, message + (f" ({layers})" if layers else ""), expectation)
    if missing.untrained and missing.anything_there:
        message = (
            f"target_modules also names {_kinds(missing.untrained, expectation)}, for which the file has no tensors"
        )
        yield _missing_finding(rules.WIDER_CONFIG, missing.untrained, message, expectation)
    elif missing.untrained:
        message = f"no tensor of the file belongs to any of the {len(missing.untrained)} targeted modules"
        yield _missing_finding(rules.MISSING_MODULES, missing.untrained, message, expectation)


def _layers(names: list[str], expectation: Expectation) -> str:
    layers = sorted({i for name in names if (i := layer_index(expectation.required[name].path)) is not None})
    shown = ", ".join(map(str, layers[:6])) + (", ..." if len(layers) > 6 else "")
    return f"layer{'s' if len(layers) > 1 else ''} {shown}" if layers else ""


def _kinds(names: list[str], expectation: Expectation) -> str:
    return escape(", ".join(sorted({expectation.required[name].path.rpartition(".")[2] for name in names})), 120)


# --- one cause that makes tensors missing and others too much ---------------------------------------------------------


def _other_names(extra: Extras, difference: Difference, expectation: Expectation, context: Context) -> Finding | None:
    """The same tensors under other names: as many unknown ones as missing ones, with the same shapes."""
    unknown = [*extra.names.get("lora", ()), *extra.names.get("unknown", ())]
    if not unknown or len(unknown) != len(difference.missing):
        return None
    wanted = Counter(expectation.required[name].shape for name in difference.missing)
    if wanted != Counter(context.tensors[name].shape for name in unknown):
        return None
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
    rest = [name for name in weights if _owner(expectation.required[name].path, adapted) not in owners]
    missing.parts.pop("weights")
    if rest:
        missing.parts["weights"] = rest
    extra.names["untargeted"] = [name for name in dropped if parse_key(name).path not in owners]
    if not extra.names["untargeted"]:
        extra.names.pop("untargeted")
    kinds = escape(", ".join(sorted({owner.rpartition(".")[2] for owner in owners})), 120)
    message = f"modules_to_save names {kinds}, and the file has LoRA tensors for it instead of its weights"
    hint = "Remove the name from modules_to_save."
    finding = _missing_finding(rules.MISSING_PART, both, message, expectation)
    return replace(finding, field="modules_to_save", hint=hint)


def _owner(path: str, adapted: Iterable[str]) -> str:
    return path if path in adapted else re.sub(r"\.[^.]+$", "", path)
