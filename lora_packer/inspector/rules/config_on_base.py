"""What the config names on this base model: targets (LP206, LP207), patterns (LP310), and what PEFT refuses there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.keys import parse_key
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel, Modules
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case
from lora_packer.inspector.narrowing import exact_change
from lora_packer.inspector.nearest import is_pattern, nearest, nearest_parameters
from lora_packer.inspector.rules.config import INVALID_FIELD, OF_REFUSAL, refused
from lora_packer.inspector.rules.rule import Rule
from lora_packer.peft.refusals import refused_class, refused_modules
from lora_packer.peft.unmatched import unmatched
from lora_packer.redact import escape

_TOLD = 8
_LOOKED_UP = 50  # names for which the nearest one is looked for

NO_TARGET = Rule(
    "LP206",
    "no-target",
    "error",
    "target_modules matches no module of the base model.",
    "PEFT refuses to load the adapter.",
    "Check the base model, and target_modules: entries of a list are suffixes, a string is a regular expression.",
    needs="base",
)
UNSUPPORTED_TARGET = Rule(
    "LP207",
    "unsupported-target",
    "error",
    "target_modules matches a module that PEFT cannot adapt.",
    "PEFT raises ValueError at load: only linear, embedding and convolution layers can be adapted.",
    "Name the layers inside it.",
    needs="base",
)
UNMATCHED_NAME = Rule(
    "LP211",
    "unmatched-name",
    "warning",
    "A name in target_modules or target_parameters matches nothing of the base model.",
    "PEFT says nothing of it where other names match: the layers that were meant were not trained.",
    "Remove the name, which loses nothing; to train those layers, train again with their names.",
    needs="base",
)
UNUSED_PATTERN = Rule(
    "LP310",
    "unused-pattern",
    "warning",
    "A key of rank_pattern or alpha_pattern decides nothing.",
    "PEFT ignores it with a warning: a module may have another scale than in training.",
    "Correct the key if it was to decide something; to remove it changes nothing.",
    needs="base",
)


def unsupported_targets(case: Case) -> Iterator[Finding]:
    """Containers, norms and routers among the targets."""
    paths = case.expectation.unsupported
    if paths:
        message = f"target_modules matches '{escape(paths[0], 80)}', which is not a layer that LoRA can be put on"
        details = {"field": "target_modules", "count": len(paths), "hint": _inside(paths[0], case)}
        is_fixable = exact_change(case) is not None
        yield UNSUPPORTED_TARGET.finding(message, file=CONFIG_NAME, fixable=is_fixable, **details)


def _inside(path: str, case: Case) -> str | None:
    """What to name instead of something that is no layer: what the file has, else the layers in it."""
    change = exact_change(case)
    if change is not None:
        return str(change)
    layers = [name for name, module in case.modules.items() if module.kind == "linear" and name.startswith(f"{path}.")]
    leaves = list(dict.fromkeys(name.rpartition(".")[2] for name in layers))
    if not leaves:
        return "Take it out of target_modules: there is no layer in it."
    return f"Name the layers inside it: {escape(', '.join(leaves[:_TOLD]), 200)}."


def refused_targets(case: Case, base: BaseModel, *, exact: bool) -> Iterator[Finding]:
    """What PEFT refuses of the config on this base model; ``exact``: PEFT of today is what will load it."""
    of_class = refused_class(case.config.task_type, base.model_type, base.named_class)
    wanted = case.expectation
    of_modules = refused_modules(case.config, base.model_type, case.modules, wanted.targeted, wanted.saved_with_tokens)
    for refusal in (*of_class, *of_modules):
        finding = refused(refusal, {**OF_REFUSAL, "target": UNSUPPORTED_TARGET})
        yield replace(finding, severity="warning") if refusal.only_today and not exact else finding


def no_target(case: Case) -> Finding:
    """Return that nothing of the base model is targeted."""
    config = case.config
    by_module = config.target_modules or not config.target_parameters
    shown = config.target_modules if by_module else config.target_parameters
    field = "target_modules" if by_module else "target_parameters"
    listed = shown if isinstance(shown, str) else list(shown or ())
    message = f"{field} {escape(str(listed), 100)} matches no module of {case.base_name}"
    if config.layers_to_transform is not None:
        message += f" in the layers {list(config.layers_to_transform)[:8]} of layers_to_transform"
    hint = _what_it_has(case, by_module=bool(by_module))
    is_fixable = exact_change(case) is not None
    return NO_TARGET.finding(message, file=CONFIG_NAME, field=field, hint=hint, fixable=is_fixable)


def _what_it_has(case: Case, *, by_module: bool) -> str | None:
    """What to name instead: what the file has tensors for, else what is nearest."""
    change = exact_change(case)
    if change is not None:
        return f"{change} The file has tensors for exactly that."
    targets = case.config.target_modules
    names = case.config.target_parameters if not by_module else () if isinstance(targets, str) else targets
    meant, how = probably_meant(names or (), case)
    if meant:
        return f"This base model has {escape(', '.join(meant), 200)}{how}: check that it is the right one."
    return None


def unused_patterns(case: Case) -> Iterator[Finding]:
    """Keys of rank_pattern and alpha_pattern that give no module its value."""
    unused = case.expectation.unused_patterns
    if unused:
        field, key = unused[0]
        decides = "1 key decides" if len(unused) == 1 else f"{len(unused)} keys decide"
        message = f"{decides} nothing in {field}, first '{escape(key, 80)}': no targeted module takes its value from it"
        yield UNUSED_PATTERN.finding(message, file=CONFIG_NAME, field=field, count=len(unused))


def unmatched_names(case: Case, trees: Sequence[Modules]) -> Iterator[Finding]:
    """Names that match nothing in any of ``trees``, and that no tensor of the file has: one finding for each field."""
    found = list(unmatched(case.config, trees))
    if not found:
        return
    in_file = _in_file(case)
    found = [item for item in found if not in_file(item.name)]
    for field, items in groupby(found, key=lambda item: item.field):
        yield _unmatched(field, [item.name for item in items], case)


def _in_file(case: Case) -> Callable[[str], bool]:
    """Whether the file has tensors of a module of this name, or of one in it, whatever the base model has."""
    paths = dict.fromkeys(parse_key(name).path for name in case.tensors)
    segments = {segment for path in paths for segment in path.split(".")}
    text = "".join(f".{path}.\n" for path in paths)
    return lambda name: name.rpartition(".")[2] in segments and f".{name}." in text


def _unmatched(field: str, names: Sequence[str], case: Case) -> Finding:
    details = {"file": CONFIG_NAME, "field": field, "count": len(names), "actual": escape(names[0], 80)}
    listed = escape(", ".join(map(_shown, names[:_TOLD])) + (", ..." if len(names) > _TOLD else ""), 300)
    if field == "layers_to_transform":
        message = f"layers_to_transform names {listed}, and {case.base_name} has no such layer"
        hint = "Remove the number, which loses nothing; or check that the base model is the right one."
        return UNMATCHED_NAME.finding(message, hint=hint, **details)
    message = f"{field} names {listed}, which {case.base_name} does not have: nothing was trained under {_it(names)}"
    meant, how = probably_meant(names, case)
    if meant:
        message += f" (nearest: {escape(', '.join(meant), 200)}{how})"
    again = f" with {escape(', '.join(meant), 200)}{how}" if meant else " with the names that it has"
    hint = f"Remove {_it(names)}, which loses nothing; to train those layers, train again{again}."
    return UNMATCHED_NAME.finding(message, hint=hint, **details)


def probably_meant(names: Sequence[str], case: Case) -> tuple[list[str], str]:
    """What the base model has that was probably meant by these names, and in which field it has to stand."""
    names = names[:_LOOKED_UP]
    fused = [other for name in names for other in nearest_parameters(name, case.modules)]
    if fused:
        return list(dict.fromkeys(fused)), " in target_parameters"
    if any(map(is_pattern, names)):
        return [], ""
    targets = case.config.target_modules
    known = () if targets is None or isinstance(targets, str) else targets
    meant = dict.fromkeys(other for name in names for other in nearest(name, case.modules))
    return [name for name in meant if name not in known][:_TOLD], ""


def _shown(name: str) -> str:
    """The name as it reads among others: one with blanks or commas between quotes."""
    return name if not {*" \t\n,"} & {*name} else f"'{name}'"


def _it(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def bad_pattern(error: PatternError) -> Finding:
    """Return that a pattern of the config is none."""
    return INVALID_FIELD.finding(f"a pattern in {CONFIG_NAME} cannot be used: {escape(str(error))}", file=CONFIG_NAME)


def bad_replication(config: LoraConfig, base: BaseModel, depths: list[int]) -> Finding | None:
    """What PEFT raises at ``layer_replication``: ValueError where it finds no layers, IndexError past their end.

    ``depths`` is how many layers it finds in each class of the base model that it may be loaded with.
    """
    last = max(end for _, end in config.layer_replication) - 1
    if not depths:
        message = f"layer_replication cannot be used with this base model ({base.model_type}): PEFT finds no layers"
    elif last >= max(depths):
        message = f"layer_replication names layer {last}, and the last of this base model is {max(depths) - 1}"
    else:
        return None
    return INVALID_FIELD.finding(message, file=CONFIG_NAME, field="layer_replication", actual=last)
