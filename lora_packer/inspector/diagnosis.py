"""What differs between an adapter and a base model, sorted into causes: one cause, one finding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.keys import PREFIX, layer_index, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import CHECKPOINT, BaseModel
from lora_packer.base_model.tasks import has_class
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case, Difference, Tensor
from lora_packer.inspector.causes import one_cause_once
from lora_packer.inspector.leftovers import Leftovers, Why, leftovers
from lora_packer.inspector.reading import TASK_HEADS, closest, heads
from lora_packer.inspector.rules.config_on_base import (
    NO_TARGET,
    UNSUPPORTED_TARGET,
    bad_replication,
    no_target,
    refused_targets,
    unmatched_names,
    unsupported_targets,
    unused_patterns,
)
from lora_packer.inspector.rules.extra import UNKNOWN_TENSOR, unexpected
from lora_packer.inspector.rules.missing import (
    MISSING_PART,
    SAVED_WEIGHTS,
    Missing,
    kinds,
    layers,
    lost,
    missing_finding,
    sort_missing,
)
from lora_packer.inspector.rules.names import older_names, same_tensors_elsewhere, wrapped_again, wrong_names
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.rules.shapes import SWAPPED, TRANSPOSED, WRONG_BASE, wrong_shapes
from lora_packer.inspector.rules.vocabulary import RESIZED_VOCABULARY, TOKEN_OUT_OF_RANGE, tokens_out_of_range
from lora_packer.inspector.words import counted
from lora_packer.peft.replicate import layers_of
from lora_packer.peft.targets import HEADS_OF_TASKS
from lora_packer.redact import escape

_OF_THE_BASE: tuple[Why, ...] = ("base", "misshapen", "embeddings")

# What can be said where nothing is targeted.
_OF_THE_CONFIG = (NO_TARGET, UNSUPPORTED_TARGET, TOKEN_OUT_OF_RANGE, RESIZED_VOCABULARY)


@frozen
class Diagnosis:
    """How an adapter stands against a base model.

    Attributes:
        case: the adapter under the closest reading of the base model.
        findings: what is off.
        only: the rules by which it was judged, where these are not all that need the base model.
        why: why not by the others.
        as_given: the reading of the config as the file has it, where ``case`` is one of what PEFT makes of it.
    """

    case: Case
    findings: tuple[Finding, ...]
    only: tuple[Rule, ...] | None = None
    why: str = ""
    as_given: Case | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the adapter from working on this base model."""
        return tuple(item for item in self.findings if item.severity == "error")


def diagnose(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo]) -> Diagnosis:
    """Compare an adapter with a base model. Raises PatternError where a pattern of the config is not evaluated."""
    problem = _replication_problem(config, base)
    if problem is not None:
        case = closest(replace(config, layer_replication=()), base, tensors)
        return Diagnosis(case, (problem,), (), "layer_replication has to be corrected first")
    case = closest(config, base, tensors)
    result = explain(case, base)
    return (_other_task(result, base) if result.errors else None) or result


def explain(case: Case, base: BaseModel) -> Diagnosis:
    """Say what is off about an adapter under a reading of the base model."""
    before = (*case.assumed, *_on_this_dialect(case, base), *tokens_out_of_range(case), *_without_the_task(case))
    if not case.expectation.targeted and not case.expectation.unsupported:
        findings = one_cause_once((*before, *_nothing_targeted(case)))
        return Diagnosis(case, findings, _OF_THE_CONFIG, f"{CONFIG_NAME} targets nothing of the base model")
    explained = tuple(_explained(case))
    told = (*before, *older_names(case, base), *_unused(case, base, explained), *explained)
    return Diagnosis(case, one_cause_once(told))


def refused_on(result: Diagnosis, base: BaseModel, *, exact: bool) -> Iterator[Finding]:
    """What PEFT refuses of the config on this base model; nothing where the adapter is another base model's.

    ``exact``: today's PEFT is what will load it, so that what older releases load is refused too.
    """
    if not any(item.code in (WRONG_BASE.code, UNKNOWN_TENSOR.code) for item in result.errors):
        yield from refused_targets(result.as_given or result.case, base, exact=exact)


def _on_this_dialect(case: Case, base: BaseModel) -> Iterator[Finding]:
    """What older names may have as a layer need not be one under the newer ones, which are sure."""
    if case.dialect == next(iter(base.dialects)):
        yield from unsupported_targets(case)


def _nothing_targeted(case: Case) -> Iterator[Finding]:
    extra = leftovers(case)
    if extra.by_cause().keys() == {"past"}:  # all targets lie behind the base's last layer
        yield from unexpected(extra, case)
    else:
        yield no_target(case)


def _unused(case: Case, base: BaseModel, explained: tuple[Finding, ...]) -> Iterator[Finding]:
    """What the config names in vain; what an error leaves without an effect is not a second cause."""
    if any(finding.severity == "error" for finding in explained):
        return
    yield from unused_patterns(case)
    if case.dialect != CHECKPOINT:  # whose names need not be the running model's
        yield from unmatched_names(case, (case.modules, *base.dialects.values()))


def _without_the_task(case: Case) -> Iterator[Finding]:
    """A reading without the head of the task, where transformers has no class with one."""
    if case.base.head != TASK_HEADS.get(case.config.task_type or "", case.base.head):
        yield from _no_such_class(case.config.task_type, case.base)


def _no_such_class(task: str | None, base: BaseModel) -> Iterator[Finding]:
    """A task for which transformers has no class of this type: PEFT loads the adapter on the one it was trained on."""
    if task is None or has_class(base.model_type, TASK_HEADS[task]):
        return
    message = f"task_type is {task}, and transformers has no such class of {escape(base.model_type, 60)}"
    hint = "Load it on the class it was trained on, and set task_type to what it was trained for, such as CAUSAL_LM."
    details = {"file": CONFIG_NAME, "field": "task_type", "actual": task, "severity": "warning"}
    yield MISSING_PART.finding(f"{message}: the tensors fit a class without that head", hint=hint, **details)


def _other_task(result: Diagnosis, base: BaseModel) -> Diagnosis | None:
    """A task type under which tensors are missing or have no place, while without it they all fit."""
    config, tensors, difference = result.case.config, result.case.tensors, result.case.difference
    if config.task_type not in HEADS_OF_TASKS or not (difference.missing or difference.extra):
        return None
    if 2 * sum(match.fits for match in difference.matched.values()) < len(tensors):
        return None  # another base model's, whatever the task
    other = diagnose(replace(config, task_type=None), base, tensors)
    if other.errors:
        return None
    told = tuple(_no_such_class(config.task_type, base))
    if told and other.case.base.head != TASK_HEADS.get(config.task_type or ""):
        return replace(other, findings=(*told, *other.findings))
    lacks = "for which tensors are missing or have no place"
    message = f"task_type is {config.task_type}, {lacks}; without that task type, all of them fit"
    tensor = escape([*difference.missing, *(item.name for item in difference.extra)][0])
    details = {"file": CONFIG_NAME, "field": "task_type", "tensor": tensor, "actual": config.task_type}
    hint = 'Set task_type to what it was trained for, such as "CAUSAL_LM"; or save the adapter with its classifier.'
    return replace(other, findings=(MISSING_PART.finding(message, hint=hint, **details), *other.findings))


def _replication_problem(config: LoraConfig, base: BaseModel) -> Finding | None:
    if not config.layer_replication:
        return None
    trees = [modules for head in heads(config, base) for modules in base.with_head(head).dialects.values()]
    depths = [found[1] for modules in trees if (found := layers_of(modules)) is not None]
    return bad_replication(config, base, depths)


# --- the causes of what differs --------------------------------------------------------------------------------------


def _explained(case: Case) -> Iterator[Finding]:
    """Sort what differs into causes, and tell each. A cause takes its tensors; the next sees only what is left."""
    # Copies of the base's embeddings are of no adapter of their own.
    wrapped = tuple(item for item in case.difference.extra if item.name.startswith(2 * PREFIX) and item.key.part)
    if wrapped:  # what its own config would make of each of them is not known
        yield wrapped_again(wrapped, case)
        case = replace(case, difference=_without(wrapped, case.difference))
    else:
        yield from wrong_names(case)
    shapes = tuple(wrong_shapes(case))
    if not case.difference.missing and not case.difference.extra:
        yield from shapes
        return
    missing, extra = sort_missing(case), leftovers(case)
    if shapes:
        shapes, missing, extra = _with_their_consequences(shapes, missing, extra, case)
    yield from shapes
    whys: list[Why] = ["lora", "unknown"]
    if missing.half or missing.parts:  # a whole module elsewhere is told as such; a part of one was renamed
        whys += ["past", *_OF_THE_BASE]
    own = bool(extra.of(*_OF_THE_BASE))  # what the base model has under that name was meant, unless the sizes say no
    renamed = same_tensors_elsewhere(extra.of(*whys), case.difference.missing, case, by_shape=own)
    if renamed is not None:
        yield renamed
        yield from unexpected(extra.without(*whys), case)
        return
    both, missing, extra = _saved_and_targeted(missing, extra, case)
    yield from both
    elsewhere, missing = _elsewhere(missing, extra, case)
    yield from lost(missing, case)
    yield from unexpected(extra, case, elsewhere)


def _without(tensors: tuple[Tensor, ...], difference: Difference) -> Difference:
    """The same but for tensors of which another finding tells."""
    names = frozenset(item.name for item in tensors)
    return replace(difference, extra=tuple(item for item in difference.extra if item.name not in names))


def _with_their_consequences(
    shapes: tuple[Finding, ...], missing: Missing, extra: Leftovers, case: Case
) -> tuple[tuple[Finding, ...], Missing, Leftovers]:
    """The wrong shapes with what has the same cause, and what is left without it."""
    extra = extra.without("misfits")  # as damaged as the others
    if any(item.code in (SWAPPED.code, TRANSPOSED.code) for item in shapes):
        biases = frozenset(item.name for item in extra.of("unknown") if item.name.endswith(".lora_A.bias"))
        extra = extra.but(biases)  # lora_B's, swapped with it
    other_base = next((item for item in shapes if item.code == WRONG_BASE.code), None)
    if other_base is not None and (extra.past or 2 * other_base.count >= len(case.difference.matched)):
        # Other layers, experts and modules of another base model have the same cause as its other sizes.
        told = replace(other_base, message=other_base.message + _other_depth(missing, extra, case))
        shapes = tuple(told if item is other_base else item for item in shapes)
        return shapes, missing.without_modules(), extra.without("past", "lora")
    return shapes, missing, extra


def _other_depth(missing: Missing, extra: Leftovers, case: Case) -> str:
    """Say of another base model how many layers or experts it has, as far as the file shows it."""
    depth = max((i for path in case.modules if (i := layer_index(path)) is not None), default=-1) + 1
    found = max((i for name in case.tensors if (i := layer_index(parse_key(name).path)) is not None), default=-1) + 1
    if found > depth or (found < depth and missing.modules):
        return f", {counted(found, noun='layer')} instead of {depth}"
    if extra.past is not None:
        what, last = extra.past
        return f", and tensors for more than its {last + 1} {what}"
    return ""


def _saved_and_targeted(
    missing: Missing, extra: Leftovers, case: Case
) -> tuple[tuple[Finding, ...], Missing, Leftovers]:
    """``modules_to_save`` takes a module away from ``target_modules``, so that its LoRA tensors have no place."""
    weights = missing.parts.get(SAVED_WEIGHTS, ())
    adapted = {tensor.key.path for tensor in extra.of("untargeted")}
    owner = {name: case.want(name).path.rpartition(".")[0] for name in weights}
    both = tuple(name for name in weights if owner[name] in adapted)
    if not both:
        return (), missing, extra
    owners = {owner[name] for name in both}
    leaves = {path.rpartition(".")[2] for path in owners}
    # The name takes away the same module of every layer, also of those that have no LoRA.
    rest = tuple(name for name in weights if owner[name].rpartition(".")[2] not in leaves)
    told = frozenset(item.name for item in extra.of("untargeted") if item.key.path in owners)
    listed = escape(", ".join(sorted(leaves)), 120)
    message = f"modules_to_save names {listed}, and the file has LoRA tensors for it instead of its weights"
    finding = missing_finding(MISSING_PART, both, message, case)
    hint = f"Remove {listed} from modules_to_save."
    finding = replace(finding, field="modules_to_save", hint=hint, fixable=True)
    return (finding,), missing.with_part(SAVED_WEIGHTS, rest), extra.but(told)


def _elsewhere(missing: Missing, extra: Leftovers, case: Case) -> tuple[str, Missing]:
    """Where the missing modules' tensors lie instead, to be told with these; and what is then still missing."""
    names = missing.modules
    listed = layers(names, case)
    if names and extra.of("past"):
        told = f", and no tensors for {listed} of it" if listed else ""
        return told, missing.with_part(SAVED_WEIGHTS, ()).without_modules()  # the weights are of the same layers
    if names and extra.of("untargeted"):
        of_layers = f" of {listed}" if listed else ""
        told = f", but {kinds(names, case)}{of_layers}, for which the file has no tensors"
        return told, missing.without_modules()
    if names and extra.of("surplus"):
        return ", and the file has not those that it has", missing.without_modules()
    if extra.of("lora") and not missing.anything_there:
        return "", missing.without_modules()  # none of the file's modules is the base's: said of what is there
    return "", missing
