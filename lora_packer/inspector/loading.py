"""What today's PEFT makes of a file: it renames, merges and drops before anything is compared.

``diagnose`` finds the reading of a base model that a file was made for, whichever release and class that was. Here the
file is read as PEFT loads it now, into the class that the base config names: where all of it lands its names are
right, whatever they are; where something does not, that is said, however well another release would load it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel
from lora_packer.base_model.architecture import IMAGE_CLASSIFIER, TRANSFORMERS_5, TRANSFORMERS_5_23
from lora_packer.base_model.tasks import has_class
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case
from lora_packer.inspector.diagnosis import Diagnosis, diagnose, explain
from lora_packer.inspector.matching import ADAPTER_NAME
from lora_packer.inspector.narrowing import exact_change
from lora_packer.inspector.reading import as_loaded, is_exact
from lora_packer.inspector.rules.extra import DROPPED_BY_CONFIG
from lora_packer.inspector.rules.loading import NOT_LOADED, Outcome, converted_names, not_loaded
from lora_packer.inspector.rules.names import OLDER_NAMES
from lora_packer.inspector.todays import in_todays_form
from lora_packer.peft.conversions import conversion, experts_pattern
from lora_packer.peft.loading import convert_config, convert_tensors
from lora_packer.peft.merging import MergeError
from lora_packer.peft.refusals import Refusal, refused_modules
from lora_packer.redact import escape

Tensors = Mapping[str, TensorInfo]

# What the release before today's writes and loads: until that one is old, its names are no reason to warn. The class
# without the towers is not the one that the base config names in that release either.
_IN_USE_TOO = (TRANSFORMERS_5_23,)


@frozen
class Converted:
    """A config and a file as PEFT has them before it looks for each tensor's place.

    Attributes:
        config, tensors: what PEFT makes of them.
        sources: the new name of a tensor -> the names that it had in the file.
        refusal: why PEFT refuses the config, or "".
        changed: whether they are not what they were.
    """

    config: LoraConfig
    tensors: Tensors
    sources: Mapping[str, tuple[str, ...]]
    refusal: Refusal | str = ""
    changed: bool = False


def as_peft_loads(found: Diagnosis, config: LoraConfig, base: BaseModel, tensors: Tensors, target: str) -> Diagnosis:
    """Return the diagnosis with what today's PEFT makes of the file. Raises PatternError.

    ``target`` is the name of the place that will load it: for PEFT itself, what it does not load is an error.
    """
    told = _as_peft_loads(found, config, base, tensors, target)
    if not any(item.code == NOT_LOADED.code for item in told.findings):
        return told
    form = in_todays_form(told.case, tensors)
    if form is None or not _loads(form, config, base, target):
        return told
    findings = (replace(item, fixable=True) if item.code == NOT_LOADED.code else item for item in told.findings)
    return replace(told, findings=tuple(findings))


def _loads(tensors: Tensors, config: LoraConfig, base: BaseModel, target: str) -> bool:
    """Whether PEFT loads a file whole, with its config or with the one change to it that reaches all tensors."""
    found = _as_peft_loads(diagnose(config, base, tensors), config, base, tensors, target)
    if _is_whole(found):
        return True
    change = exact_change(found.case)
    if change is None:
        return False
    config = replace(config, **change.fields())
    return _is_whole(_as_peft_loads(diagnose(config, base, tensors), config, base, tensors, target))


def _is_whole(found: Diagnosis) -> bool:
    return not found.errors and all(item.code != NOT_LOADED.code for item in found.findings)


def _as_peft_loads(found: Diagnosis, config: LoraConfig, base: BaseModel, tensors: Tensors, target: str) -> Diagnosis:
    if TRANSFORMERS_5 not in base.dialects or found.only is not None:
        return found
    if found.case.dialect in _IN_USE_TOO and not found.errors and target != "peft":
        return found
    head = found.case.base.head
    if head == "none" and (config.task_type is None or not has_class(base.model_type, "none")):
        head = base.head
    loaded_into = base.with_head(head)
    converted = _converted(config, loaded_into, tensors)
    if not converted.changed and not converted.refusal and (found.errors or _is_todays(found.case, head)):
        return found
    if converted.refusal:
        outcome = Outcome(len(tensors), refusal=converted.refusal)
        return found if found.errors else _told(found, outcome, target)
    case = as_loaded(converted.config, loaded_into, converted.tensors)
    # A copy of the base's own weights, which PEFT saves beside the LoRA on an embedding, is no loss.
    matched = (item.name for item in found.case.difference.matched.values())
    known = {name for name in matched if ".lora_" not in name and not name.endswith(".base_layer.weight")}
    outcome = _outcome(case, converted, known, elsewhere=found.case.dialect != case.dialect)
    if outcome.complete:
        outcome = replace(outcome, refusal=_newly_refused(found.case, case) or "")
    if not found.errors:
        if outcome.complete:
            return found
        return _told(found, replace(outcome, refusal=outcome.refusal or _not_layers(case)), target)
    if not outcome.lands and all(item.fixable and item.code == DROPPED_BY_CONFIG.code for item in found.errors):
        return found  # the field to set says more than what PEFT makes of the wrong one
    nearer = converted.changed and case.difference.distance < found.case.difference.distance
    if outcome.lands or nearer:
        found = _as_converted(case, converted, base, found.case)
        return _told(found, outcome, target) if outcome.refusal else found
    return found


def is_exact_as_loaded(config: LoraConfig, base: BaseModel, tensors: Tensors) -> bool:
    """Whether a file that PEFT renames or merges first is then exactly what the base calls for. Raises PatternError."""
    converted = _converted(config, base, tensors)
    if converted.refusal or converted.tensors.keys() == tensors.keys():
        return False
    return is_exact(converted.config, base, converted.tensors, next(iter(base.dialects)))


def _newly_refused(given: Case, case: Case) -> Refusal | None:
    """What PEFT refuses of the config only once it has changed it: LoRA on a parameter takes fewer of its features."""
    model_type = case.base.model_type
    before = {
        item.field for item in refused_modules(given.config, model_type, given.modules, given.expectation.targeted)
    }
    after = refused_modules(case.config, model_type, case.modules, case.expectation.targeted)
    return next((item for item in after if item.severity == "error" and item.field not in before), None)


def _is_todays(case: Case, head: str) -> bool:
    """Whether the file is what today's PEFT writes for the class that the base config names."""
    return case.dialect == next(iter(case.base.dialects)) and case.base.head == head and not case.era.swapped_experts


def _converted(config: LoraConfig, base: BaseModel, tensors: Tensors) -> Converted:
    own_class = IMAGE_CLASSIFIER if next(iter(base.dialects)) == IMAGE_CLASSIFIER else base.head
    names = conversion(base.model_type, own_class, base.nested_types)
    pattern = experts_pattern(base.model_type) if names is not None else None
    if names is None:
        return Converted(config, tensors, {})
    changed = convert_config(config, pattern, base.modules) if pattern is not None else config
    if isinstance(changed, Refusal):
        return Converted(config, tensors, {}, changed, changed=True)
    try:
        loaded = convert_tensors(names, {name: info.shape for name, info in tensors.items()})
    except MergeError as error:
        return Converted(config, tensors, {}, str(error), changed=True)
    if changed == config and loaded.keys() == tensors.keys():
        return Converted(config, tensors, {})
    sources = {name: item.sources for name, item in loaded.items()}
    infos = {name: tensors[item.sources[0]]._replace(shape=item.shape) for name, item in loaded.items()}
    return Converted(changed, infos, sources, changed=True)


def _not_layers(case: Case) -> str:
    """Why PEFT raises where a target is the name of something around layers, which it was not for the file's writer."""
    paths = case.expectation.unsupported
    return (
        f"target_modules matches '{escape(paths[0], 80)}', which is not a layer that LoRA can be put on"
        if paths
        else ""
    )


def _outcome(case: Case, converted: Converted, known: Set[str], *, elsewhere: bool) -> Outcome:
    """What PEFT does with the tensors of the file that are LoRA's, and with those that are ``known`` to be meant.

    ``elsewhere`` is whether the file has the names of another release or class.
    """

    def own(name: str) -> tuple[str, ...]:
        return tuple(item for item in converted.sources.get(name, (name,)) if ".lora_" in item or item in known)

    difference = case.difference
    pairs = ((change, name) for change, own_pairs in difference.renamed.items() for name, _ in own_pairs)
    # PEFT looks for the name under which it loads the adapter, which is "default".
    lost = [name for change, name in pairs if change != ADAPTER_NAME or parse_key(name).adapter_name != "default"]
    lost += [tensor.name for tensor in difference.extra]
    dropped = tuple(name for key in lost for name in own(key))
    result = Outcome(sum(len(own(name)) for name in case.tensors), dropped)
    if not case.expectation.targeted:
        return replace(result, nothing_targeted=True)
    misfit = next((item for item in difference.matched.values() if not item.fits), None)
    if misfit is not None:
        return replace(
            result, misfit=(converted.sources.get(misfit.name, (misfit.name,))[0], misfit.info.shape, misfit.want.shape)
        )
    # What modules_to_save and the trainable tokens call for is looked up under the class's own names, or KeyError.
    keys = (name for name in case.expectation.required if ".lora_" not in name and name not in case.tensors)
    absent = next(keys, None) if dropped or elsewhere else None
    return result if absent is None else replace(result, absent=absent)


def _as_converted(case: Case, converted: Converted, base: BaseModel, given: Case) -> Diagnosis:
    """The file judged as PEFT has it, told by the names that it has."""
    found = explain(case, base)
    names = {escape(name): tuple(map(escape, own)) for name, own in converted.sources.items()}
    findings = tuple(_by_own_names(item, names) for item in found.findings if item.code != OLDER_NAMES.code)
    case = replace(case, sources=converted.sources)
    return Diagnosis(case, (*findings, *converted_names(case, converted.sources, given)), as_given=given)


def _by_own_names(finding: Finding, sources: Mapping[str, tuple[str, ...]]) -> Finding:
    """The finding with the names that its tensors have in the file; ``sources`` is escaped."""
    first = sources.get(finding.tensor or "", (finding.tensor,))[0]
    every = tuple(own for name in finding.tensors for own in sources.get(name, (name,)))
    return replace(finding, tensor=first, tensors=every, count=finding.count + len(every) - len(finding.tensors))


def _told(found: Diagnosis, outcome: Outcome, target: str) -> Diagnosis:
    """The diagnosis with what PEFT does not load; the older names that it has are no second finding."""
    kept = tuple(item for item in found.findings if item.code != OLDER_NAMES.code)
    return replace(found, findings=(not_loaded(found.case, outcome, exact=target == "peft"), *kept))
