"""What today's PEFT does not load, or loads otherwise, though another release or class would (LP322, LP323)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lora_packer.adapter.config import CONFIG_NAME
from lora_packer.adapter.keys import PREFIX, WEIGHTS_NAME, parse_key
from lora_packer.base_model import TEXT_ONLY, Module
from lora_packer.base_model.architecture import (
    IMAGE_CLASSIFIER,
    MULTIMODAL,
    TEXT_ONLY_5_23,
    TRANSFORMERS_4,
    TRANSFORMERS_4_51,
    TRANSFORMERS_5_23,
)
from lora_packer.base_model.tasks import has_class
from lora_packer.finding import Finding
from lora_packer.frozen import frozen
from lora_packer.inspector.case import Case
from lora_packer.inspector.rules.names import OLDER_NAMES
from lora_packer.inspector.rules.rule import Rule
from lora_packer.inspector.words import counted
from lora_packer.peft.expected import Shape, named_parameters
from lora_packer.peft.refusals import Refusal
from lora_packer.redact import escape

NOT_LOADED = Rule(
    "LP322",
    "not-loaded-today",
    "warning",
    "Today's PEFT does not load the file into the class that the base config names; another release or class would.",
    "PEFT drops a tensor without a place in silence, so the base model answers; it raises where a shape does not fit.",
    "Load it with the release or class that it was saved with, and save it again from the class that will be served.",
    needs="base",
)

OTHER_LAYOUT = Rule(
    "LP323",
    "experts-of-older-peft",
    "warning",
    "An older PEFT wrote LoRA on square experts, or may have: today's takes their layout the other way round.",
    "It loads without a word, and the transpose of the update is applied: every output is wrong.",
    "Load it with PEFT 0.18 and merge it, or train again with PEFT 0.19 or newer.",
    needs="base",
)

_TODAY = "PEFT 0.21 with transformers 5.24"


@frozen
class Outcome:
    """What PEFT does with the LoRA tensors of a file.

    Attributes:
        tensors: how many there are.
        dropped: the names of those that it drops.
        misfit: of the first that does not fit: its name, its shape, and that of its place.
        absent: the first name that it looks up for modules_to_save or trainable tokens, and that is not there.
        refusal: why PEFT raises before it comes to the tensors.
        nothing_targeted: whether ``target_modules`` matches nothing.
    """

    tensors: int
    dropped: tuple[str, ...] = ()
    misfit: tuple[str, Shape, Shape] | None = None
    absent: str | None = None
    refusal: Refusal | str = ""
    nothing_targeted: bool = False

    @property
    def lands(self) -> bool:
        """Whether every tensor has its place."""
        return not (self.dropped or self.misfit or self.absent or self.nothing_targeted)

    @property
    def complete(self) -> bool:
        """Whether PEFT loads every tensor."""
        return self.lands and not self.refusal


def not_loaded(case: Case, outcome: Outcome, *, exact: bool) -> Finding:
    """Return what PEFT does not load: an error where PEFT is what will load it (``exact``)."""
    details: dict[str, Any] = {"file": WEIGHTS_NAME, "severity": "error" if exact else None}
    message = f"{_what_happens(case, outcome, details)}; {_who_loads(case, outcome)}"
    return NOT_LOADED.finding(message, hint=_way_out(case, outcome), **details)


def _what_happens(case: Case, outcome: Outcome, details: dict[str, Any]) -> str:
    if isinstance(outcome.refusal, Refusal):
        details |= {"field": outcome.refusal.field, "file": CONFIG_NAME, "actual": outcome.refusal.actual}
        return f"{_TODAY} refuses it: {outcome.refusal.message}"
    if outcome.refusal:
        return f"{_TODAY} raises: {outcome.refusal}"
    if outcome.nothing_targeted:
        details |= {"field": "target_modules", "count": outcome.tensors}
        return f"{_TODAY} raises: target_modules matches no module of {case.base_name}"
    if outcome.misfit is not None:
        name, found, wanted = outcome.misfit
        details |= {"tensors": [name], "expected": list(wanted), "actual": list(found)}
        return f"{_TODAY} raises a size mismatch"
    if outcome.absent is not None:
        details |= {"tensors": [outcome.absent], "actual": "missing"}
        return f"{_TODAY} raises KeyError: what modules_to_save calls for is not there under this name"
    details["tensors"] = outcome.dropped
    if len(outcome.dropped) == outcome.tensors:
        return f"{_TODAY} drops all {counted(outcome.tensors)} in silence, and the base model answers"
    return f"{_TODAY} drops {len(outcome.dropped)} of {counted(outcome.tensors)} in silence"


def _who_loads(case: Case, outcome: Outcome) -> str:
    if case.era.swapped_experts:
        return "LoRA on the experts is in the layout of PEFT 0.18 and older, which these load"
    match case.dialect:
        case dialect if dialect == TEXT_ONLY:
            return "the names are those of the text-only class of this base model, which loads them"
        case dialect if dialect == IMAGE_CLASSIFIER:
            return "the names are those of its class that classifies images, which loads them"
        case dialect if dialect == MULTIMODAL:
            return "the names are those of the multimodal class, which PEFT 0.18 with transformers 4.57 renames"
        case dialect if dialect == TEXT_ONLY_5_23:
            return "the names are those of the text-only class of transformers 5.23, which loads them"
        case dialect if dialect == TRANSFORMERS_5_23:
            return "the names and sizes are those of transformers 5.23, which loads them"
        case dialect if dialect == TRANSFORMERS_4:
            return "the names are those of transformers 4, which loads them"
        case dialect if dialect == TRANSFORMERS_4_51:
            return "the names are those of transformers before 4.52, which loads them"
    if isinstance(outcome.refusal, Refusal):
        return "transformers 4, where each expert is a module of its own, loads it"
    if case.base.head == "none":
        how = " (AutoModel)" if has_class(case.base.model_type, "none") else ""
        return f"the names are those of the bare model{how}, which loads them"
    return "PEFT itself wrote such files"


def _way_out(case: Case, outcome: Outcome) -> str | None:
    if isinstance(outcome.refusal, Refusal) and outcome.refusal.field == "lora_dropout":
        return "Set lora_dropout to 0 in adapter_config.json: it acts in training alone."
    if case.era.swapped_experts:
        return "Load it with PEFT 0.18 and merge it, or train again with PEFT 0.19 or newer."
    if case.dialect in (TEXT_ONLY, TEXT_ONLY_5_23):
        return "Load it into the text-only class, or save it again from the class that will be served."
    return None


def converted_names(case: Case, sources: Mapping[str, tuple[str, ...]], given: Case) -> Iterator[Finding]:
    """Return that PEFT renames what is in the file, and loads it; ``given`` is the file with the config as it is."""
    changed = {name: own for name, own in sources.items() if own != (name,)}
    if not changed:
        return
    names = [name for own in changed.values() for name in own]
    message = (
        f"{counted(len(names))} with the names of another release or of the model's own code: {_TODAY} renames them"
    )
    # Of a lost prefix alone, which PEFT adds to these model types' names, nothing is left once it is written.
    is_lost = all(own == (name.removeprefix(PREFIX),) for name, own in changed.items())
    is_lost = is_lost and given.dialect == next(iter(given.base.dialects))
    yield OLDER_NAMES.finding(message, tensors=names, actual=case.dialect, fixable=is_lost)


# PEFT writes its version since 0.18, and turned the halves round in 0.19 (tuners/lora/layer.py:2437 of 0.21.2).
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})(?!\d)")
_TURNED_IN = (0, 19)


def other_layout(case: Case) -> Iterator[Finding]:
    """Return that an older PEFT may have written LoRA on experts, and that no size shows in which layout it is.

    PEFT before 0.19 on transformers 4 may have had them in another layout again, so that this is no error.
    """
    shown = case.config.peft_version or ""
    version = _VERSION.match(shown)
    if version is not None and (int(version[1]), int(version[2])) >= _TURNED_IN:
        return
    sizes = [module.weight_shape[1:] for module in _turned(case)]
    paths = case.expectation.experts
    if not sizes or not paths:
        return
    own = [case.sources.get(name, (name,)) for name in case.tensors if parse_key(name).path in paths]
    names = [files[0] for files in own if len(files) == 1]  # what PEFT merges itself, it merges right
    if not names or any(rows != columns for rows, columns in sizes):
        return
    on_experts = f"LoRA on experts of {' x '.join(map(str, sizes[0]))}"
    details = {"file": CONFIG_NAME, "tensors": names, "actual": escape(shown, 40) or "missing"}
    if version is None:
        message = f"peft_version does not say which PEFT wrote {on_experts}: {_EITHER_WAY}"
        yield OTHER_LAYOUT.finding(message, field="peft_version", hint=_SAY_WHICH, **details)
        return
    message = f"PEFT {details['actual']} wrote {on_experts}: {_OTHER_WAY}"
    yield OTHER_LAYOUT.finding(message, field="target_parameters", **details)


_NOT_SHOWN = "the sizes do not show which is meant"
_OTHER_WAY = f"today's PEFT takes its two halves the other way round, and {_NOT_SHOWN}"
_EITHER_WAY = f"PEFT before 0.19 has its two halves the other way round, and {_NOT_SHOWN}"
_SAY_WHICH = (
    "Make sure that PEFT 0.19 or newer wrote it, and write its release into peft_version; else load it with PEFT 0.18 "
    "and merge it."
)


def _turned(case: Case) -> Iterator[Module]:
    """The adapted parameters whose halves lay the other way round before."""
    for _, _, module in named_parameters(case.config, case.modules):
        if len(module.weight_shape) == 3 and not module.transposed:
            yield module
