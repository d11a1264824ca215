"""Tensors that the config calls for and the file does not have (LP306 to LP309)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lora_packer.adapter.keys import PAIRED, WEIGHTS_NAME, layer_index, layer_of, without_index
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case, Tensor, halves
from lora_packer.inspector.narrowing import exact_change, towers, trained_modules
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.words import counted
from lora_packer.redact import escape

HALF_PAIR = Rule(
    "LP306",
    "half-pair",
    "error",
    "A module has only one of lora_A and lora_B.",
    "PEFT loads it with a warning: without lora_B the module is the base model's, without lora_A the output is random.",
    "Save the adapter again; half of it was lost.",
)
MISSING_MODULES = Rule(
    "LP307",
    "missing-modules",
    "error",
    "Modules that the config targets have no tensors.",
    "PEFT loads it with a warning, and those layers act as the base model's.",
    "Save the adapter again; if these layers were not trained, name those that were in layers_to_transform.",
    needs="base",
    retold="; {message}",
)
MISSING_PART = Rule(
    "LP308",
    "missing-part",
    "error",
    "A tensor that the config calls for is missing.",
    "PEFT raises KeyError (modules_to_save, trainable tokens), or applies DoRA with magnitudes of its own.",
    "Save the adapter again from training: what the config calls for is not in the file.",
    needs="base",
)
WIDER_CONFIG = Rule(
    "LP309",
    "wider-config",
    "warning",
    "target_modules or target_parameters reaches what the file has no tensors for at all.",
    "PEFT adds an untrained pair there, which changes nothing, and warns.",
    "Narrow target_modules to the modules that the file has tensors for. Leave untrained parameters: they do no harm.",
    needs="base",
    retold="; {message}",
)

_HINT_WIDER = "Leave it, which does no harm; or write the paths of the trained modules into target_modules."
_HINT_FUSED = "If the parameters were not trained, leave them: they do no harm. If they were, save the adapter again."
_PARTS_TOLD = 4

SAVED_WEIGHTS = "weights"  # the part of what modules_to_save calls for

_CALLED_FOR_BY = {
    "lora_magnitude_vector": "use_dora",
    "token_adapter.trainable_tokens_delta": "trainable_token_indices",
}

Names = tuple[str, ...]


@frozen
class Missing:
    """The missing tensors by what is missing.

    Attributes:
        half: part -> names of lost halves, whose other half is there.
        parts: part -> names of other tensors of a module whose pair is there.
        lost: lora_A of modules that are missing as a whole, of a kind that is there in other layers.
        untrained: the same, of a kind that the file has nowhere.
        anything_there: whether any module has its pair.
        layers_there: the paths of the layers that have tensors.
    """

    half: Mapping[str, Names]
    parts: Mapping[str, Names]
    lost: Names
    untrained: Names
    anything_there: bool
    layers_there: frozenset[str]

    @property
    def modules(self) -> Names:
        """A tensor of each module that is missing as a whole."""
        return self.lost + self.untrained

    def without_modules(self) -> Missing:
        """The same but for the modules that are missing as a whole: another finding tells of them."""
        return replace(self, lost=(), untrained=())

    def with_part(self, part: str, names: Names) -> Missing:
        """The same with these names of a part: another finding tells of the others."""
        others = {other: own for other, own in self.parts.items() if other != part}
        return replace(self, parts={**others, part: names} if names else others)


def sort_missing(case: Case) -> Missing:
    """Sort the missing tensors."""
    missing = case.difference.missing
    gone = frozenset(missing)
    half: dict[str, list[str]] = {}
    whole, others = [], []
    for name in missing:
        part = case.want(name).part
        partner = PAIRED.get(part)
        if partner is None:
            others.append(name)
        elif name.removesuffix(part) + partner not in gone:
            half.setdefault(part, []).append(name)
        elif part in ("lora_A.weight", "lora_embedding_A"):
            whole.append(name)
    # A module that is missing as a whole is one cause; its magnitude vector is not a second one.
    without_a_pair = {case.want(name).path for name in whole}
    parts: dict[str, list[str]] = {}
    for name in others:
        want = case.want(name)
        if want.path not in without_a_pair:
            parts.setdefault(want.part or SAVED_WEIGHTS, []).append(name)
    there = [match.want for match in case.difference.matched.values()] if whole else []
    kinds_there = frozenset(without_index(want.path) for want in there if want.part in PAIRED)
    known = {name: without_index(case.want(name).path) in kinds_there for name in whole}
    return Missing(
        {part: tuple(names) for part, names in half.items()},
        {part: tuple(names) for part, names in parts.items()},
        tuple(name for name in whole if known[name]),
        tuple(name for name in whole if not known[name]),
        bool(kinds_there),
        frozenset(layer_of(want.path) for want in there),
    )


def lost_halves(tensors: Sequence[Tensor]) -> Iterator[Finding]:
    """What names alone say: modules with only one half of their pair."""
    modules = halves(tensors)
    alone = [next(iter(pair.values())) for pair in modules.values() if len(pair) == 1]
    if alone:
        first = alone[0]
        partner = PAIRED[first.key.part]
        message = f"{partner.removesuffix('.weight')} is missing for {len(alone)} of {len(modules)} modules"
        lost = [half.name.replace(half.key.part, PAIRED[half.key.part]) for half in alone]
        details = {"tensors": lost, "expected": partner, "actual": "missing"}
        yield HALF_PAIR.finding(message, file=WEIGHTS_NAME, **details)


class _Loss(NamedTuple):
    """Tensors that are missing in one way: the rule, a tensor of each place, and what it is, alone and in a list."""

    rule: Rule
    names: Names
    message: str
    listed: str


def lost(missing: Missing, case: Case) -> Iterator[Finding]:
    """What was lost, as one finding, and what only the config is wider by."""
    losses = [_half_lost(part, names) for part, names in missing.half.items()]
    losses += [_part_lost(part, names) for part, names in missing.parts.items()]
    gone, wider = _modules_lost(missing, damaged=bool(losses), case=case)
    if wider:
        yield _wider(wider, case)
    losses += [gone] if gone else []
    if len(losses) > 1:  # a file that lost tensors in several ways was damaged once
        names = tuple(name for loss in losses for name in loss.names)
        message = "tensors were lost: " + ", ".join(loss.listed for loss in losses)
        yield missing_finding(losses[0].rule, names, message, case)
    elif losses:
        yield missing_finding(losses[0].rule, losses[0].names, losses[0].message, case)


def _wider(names: Names, case: Case) -> Finding:
    """A config that targets more than was trained: other layers, or the same names in another part of the model."""
    fused = tuple(name for name in names if case.want(name).path in case.expectation.experts)
    paths = {path: name for name in names if (path := case.want(name).path) not in case.expectation.experts}
    parts, others = towers(paths, trained_modules(case))
    told = []
    if parts:
        told.append(f"also reaches {escape(', '.join(parts[:_PARTS_TOLD]), 200)}, in which nothing was trained")
    if others:
        told.append(
            f"also names {kinds(tuple(paths[path] for path in others), case)}, for which the file has no tensors"
        )
    if told:
        field = "target_modules" if case.config.target_modules is not None else "PEFT's default for target_modules"
        told[0] = f"{field} {told[0]}"
    if fused:
        told.append(f"target_parameters also names {_parameters(fused, case)}, for which the file has no tensors")
    # Of parameters nothing is proposed: without one of two in a module the other's tensors would have other names.
    change = exact_change(case) if paths else None
    hint = f"{change} It changes nothing that was trained." if change else _HINT_WIDER
    if fused:
        hint = f"{hint} {_HINT_FUSED}" if paths else _HINT_FUSED
    finding = missing_finding(WIDER_CONFIG, names, ", and ".join(told), case, hint=hint)
    return replace(finding, fixable=change is not None)


def _parameters(names: Names, case: Case) -> str:
    """Name the parameters that these tensors are of, as ``target_parameters`` names them."""
    full = [case.expectation.experts[case.want(name).path][0] for name in names]
    meant = [
        given for given in case.config.target_parameters or () if any(f".{it}".endswith(f".{given}") for it in full)
    ]
    return escape(", ".join(meant), 120)


def _half_lost(part: str, names: Names) -> _Loss:
    short, modules = part.removesuffix(".weight"), counted(len(names), noun="module")
    message = f"{short} is missing for {modules}, whose other half is in the file"
    return _Loss(HALF_PAIR, names, message, f"{short} of {modules}")


def _part_lost(part: str, names: Names) -> _Loss:
    if part == SAVED_WEIGHTS:
        message = f"the weights of modules_to_save are missing ({counted(len(names))})"
        return _Loss(MISSING_PART, names, message, f"{counted(len(names))} of modules_to_save")
    modules = counted(len(names), noun="module")
    why = f", which {_CALLED_FOR_BY[part]} calls for" if part in _CALLED_FOR_BY else ""
    return _Loss(MISSING_PART, names, f"{part} is missing for {modules}{why}", f"{part} of {modules}")


def _modules_lost(missing: Missing, *, damaged: bool, case: Case) -> tuple[_Loss | None, Names]:
    """Whole modules without tensors, and those that a wider config names besides.

    A kind that has none anywhere is a wider config, unless whole layers are gone or the file lost other tensors too.
    """
    modules = counted(len(missing.untrained), noun="module")
    if missing.untrained and not missing.anything_there:
        message = f"no tensor of the file belongs to any of the {len(missing.untrained)} targeted modules"
        return _Loss(MISSING_MODULES, missing.untrained, message, f"all of {modules}"), ()
    wider: Names = ()
    if not damaged:
        layers_gone = _gone_layers(missing, case)
        wider = tuple(n for n in missing.untrained if layer_of(case.want(n).path) not in layers_gone)
    told = frozenset(wider)
    names = missing.lost + tuple(name for name in missing.untrained if name not in told)
    if not names:
        return None, wider
    where = f" ({listed})" if (listed := layers(names, case)) else ""
    modules = counted(len(names), noun="module")
    has = "has" if len(names) == 1 else "have"
    message = f"{counted(len(names), noun='targeted module')} {has} no tensors{where}"
    return _Loss(MISSING_MODULES, names, message, f"all of {modules}{where}"), wider


def _gone_layers(missing: Missing, case: Case) -> set[str]:
    """The layers in which several modules have no tensors and no other one has, while the layers beside them do."""
    beside = {layer.rpartition(".")[0] for layer in missing.layers_there} - {""}
    without = Counter(layer_of(case.want(name).path) for name in missing.modules)
    return {
        layer
        for layer, count in without.items()
        if count > 1 and layer not in missing.layers_there and layer.rpartition(".")[0] in beside
    }


def missing_finding(rule: Rule, names: Names, message: str, case: Case, hint: str | None = None) -> Finding:
    """Return a finding about missing tensors."""
    details = {"tensors": names, "actual": "missing", "hint": hint}
    return rule.finding(message, file=WEIGHTS_NAME, expected=list(case.want(names[0]).shape), **details)


def layers(names: Names, case: Case) -> str:
    """Name the layers of these tensors; "" where they have none."""
    found = sorted({index for name in names if (index := layer_index(case.want(name).path)) is not None})
    shown = ", ".join(map(str, found[:6])) + (", ..." if len(found) > 6 else "")
    return f"layer{'s' if len(found) > 1 else ''} {shown}" if found else ""


def kinds(names: Names, case: Case) -> str:
    """Name the kinds of modules that these tensors belong to."""
    return escape(", ".join(sorted({case.want(name).path.rpartition(".")[2] for name in names})), 120)
