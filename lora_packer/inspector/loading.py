"""What today's PEFT makes of a file: it renames, merges and drops before anything is compared.

``diagnose`` finds the reading of a base model that a file was made for, whichever release and class that was. Here the
file is read as PEFT loads it now, into the class that the base config names: where all of it lands its names are
right, whatever they are; where something does not, that is said, however well another release would load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.base_model import BaseModel
from lora_packer.base_model.architecture import TRANSFORMERS_5
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case
from lora_packer.inspector.diagnosis import Diagnosis, explain
from lora_packer.inspector.matching import ADAPTER_NAME
from lora_packer.inspector.reading import as_loaded
from lora_packer.inspector.rules.loading import Outcome, converted_names, not_loaded
from lora_packer.inspector.rules.names import OLDER_NAMES
from lora_packer.peft.conversions import conversion, experts_pattern
from lora_packer.peft.loading import convert_config, convert_tensors
from lora_packer.peft.merging import MergeError
from lora_packer.peft.refusals import Refusal
from lora_packer.redact import escape

Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
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
    if TRANSFORMERS_5 not in base.dialects or found.only is not None:
        return found
    head = base.head if found.case.base.head == "none" and config.task_type is None else found.case.base.head
    loaded_into = base.with_head(head)
    converted = _converted(config, loaded_into, tensors)
    if not converted.changed and not converted.refusal and (found.errors or _is_todays(found.case, head)):
        return found
    if converted.refusal:
        outcome = Outcome(len(tensors), refusal=converted.refusal)
        return found if found.errors else _told(found, outcome, target)
    case = as_loaded(converted.config, loaded_into, converted.tensors)
    outcome = _outcome(case, converted)
    if outcome.complete:
        return _as_converted(case, converted, base) if found.errors else found
    if not found.errors:
        return _told(found, outcome, target)
    if converted.changed and case.difference.distance < found.case.difference.distance:
        return _as_converted(case, converted, base)
    return found


def _is_todays(case: Case, head: str) -> bool:
    """Whether the file is what today's PEFT writes for the class that the base config names."""
    return case.dialect == TRANSFORMERS_5 and case.base.head == head and not case.era.swapped_experts


def _converted(config: LoraConfig, base: BaseModel, tensors: Tensors) -> Converted:
    names = conversion(base.model_type, base.head, base.nested_types)
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


def _outcome(case: Case, converted: Converted) -> Outcome:
    """What PEFT does with the LoRA tensors of the file."""

    def own(name: str) -> tuple[str, ...]:
        return converted.sources.get(name, (name,))

    difference = case.difference
    pairs = ((change, name) for change, own_pairs in difference.renamed.items() for name, _ in own_pairs)
    # PEFT looks for the name under which it loads the adapter, which is "default".
    lost = [name for change, name in pairs if change != ADAPTER_NAME or parse_key(name).adapter_name != "default"]
    lost += [tensor.name for tensor in difference.extra if ".lora_" in tensor.name]
    dropped = tuple(name for key in lost if ".lora_" in key for name in own(key))
    misfit = next((item for item in difference.matched.values() if not item.fits), None)
    every = sum(len(own(name)) for name in case.tensors if ".lora_" in name)
    if not case.expectation.targeted:
        return Outcome(every, dropped, nothing_targeted=True)
    if misfit is None:
        return Outcome(every, dropped)
    return Outcome(every, dropped, (own(misfit.name)[0], misfit.info.shape, misfit.want.shape))


def _as_converted(case: Case, converted: Converted, base: BaseModel) -> Diagnosis:
    """The file judged as PEFT has it, told by the names that it has."""
    found = explain(case, base)
    findings = tuple(_by_own_names(item, converted) for item in found.findings if item.code != OLDER_NAMES.code)
    return Diagnosis(case, (*findings, *converted_names(case, converted.sources)))


def _by_own_names(finding: Finding, converted: Converted) -> Finding:
    sources = {escape(name): own for name, own in converted.sources.items()}
    own = sources.get(finding.tensor or "")
    return finding if own is None else replace(finding, tensor=escape(own[0]))


def _told(found: Diagnosis, outcome: Outcome, target: str) -> Diagnosis:
    """The diagnosis with what PEFT does not load; the older names that it has are no second finding."""
    kept = tuple(item for item in found.findings if item.code != OLDER_NAMES.code)
    return replace(found, findings=(not_loaded(found.case, outcome, exact=target == "peft"), *kept))
