"""What a repair may ask: the base model, the target, what is allowed; and what is off about a draft."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field

from lora_packer.adapter import Adapter, AdapterSource
from lora_packer.adapter.config import parse_config
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.diagnosis import Diagnosis, diagnose, refused_on
from lora_packer.inspector.foreign import foreign_framework
from lora_packer.inspector.loading import as_peft_loads
from lora_packer.inspector.rules.config import is_usable
from lora_packer.repair.base_weights import BaseWeights
from lora_packer.repair.draft import Draft
from lora_packer.repair.result import Told
from lora_packer.targets import Target, chosen
from lora_packer.targets.features import used_features
from lora_packer.targets.needs import not_taken


@frozen
class Setting:
    """What does not change while an adapter is mended.

    Attributes:
        source: the adapter's files.
        base: the base model, or why there is none.
        target: the name of the place that will load it.
        hosted: the id under which the service hosts the base model.
        allowed: the lossy repairs that were asked for, each with its value where it has one.
        base_weights: the base model's own weights, where they were given.
    """

    source: AdapterSource
    base: BaseModel | str
    target: str
    hosted: str | None = None
    allowed: dict[str, str] = field(default_factory=dict)
    base_weights: BaseWeights | None = None


# A repair: takes a draft, and returns it mended with what there is to say.
Mended = tuple[Draft, list[Told]]
Repair = Callable[[Draft, Setting], Mended]


def judged(draft: Draft, setting: Setting) -> Diagnosis | None:
    """Return how a draft stands against the base model, or None where that cannot be said."""
    if "judged" not in draft.kept:
        draft.kept["judged"] = _judged(draft, setting)
    found: Diagnosis | None = draft.kept["judged"]
    return found


def _judged(draft: Draft, setting: Setting) -> Diagnosis | None:
    if isinstance(setting.base, str) or not draft.tensors or foreign_framework(draft.tensors) is not None:
        return None
    config, problems = parse_config(draft.config)
    adapter = Adapter(setting.source.name, (), config, None, draft.config, problems)
    if not is_usable(adapter):
        return None
    try:
        found = diagnose(config, setting.base, draft.infos)
        return as_peft_loads(found, config, setting.base, draft.infos, setting.target)
    except PatternError:
        return None


def found_by(draft: Draft, setting: Setting, *codes: str) -> tuple[Diagnosis, list[Finding]] | None:
    """Return the diagnosis and its findings of these rules, or None where there are none."""
    found = judged(draft, setting)
    if found is None:
        return None
    told = [item for item in found.findings if item.code in codes]
    return (found, told) if told else None


def is_better(before: Diagnosis, after: Diagnosis | None, code: str, base: BaseModel | str) -> bool:
    """Whether a change took the findings of a rule away, and brought nothing that was not there or cannot be mended."""
    if after is None:
        return False
    told = _told(after, base)
    new = {item.code for item in told if not item.fixable}
    return code not in {item.code for item in told} and new <= {item.code for item in _told(before, base)}


def _told(found: Diagnosis, base: BaseModel | str) -> list[Finding]:
    refused: Iterable[Finding] = () if isinstance(base, str) else refused_on(found, base, exact=True)
    return [item for item in (*found.findings, *refused) if item.severity != "info"]


def not_taken_by_target(draft: Draft, setting: Setting) -> frozenset[str]:
    """Return the features of an adapter that the target does not take as they are: another form may help."""
    return not_taken(targets_of(setting), used_features(draft.settings, draft.infos))


def targets_of(setting: Setting) -> tuple[Target, ...]:
    """Return the targets that decide."""
    asked = chosen(setting.target)
    return asked.targets[: asked.deciding]
