"""``identify``: which known base models do an adapter's tensors fit?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lora_packer.adapter import LoraConfig, TensorInfo, read_adapter
from lora_packer.adapter.patterns import PatternError
from lora_packer.arguments import require_path
from lora_packer.base_model import ARCHITECTURES, BaseModel
from lora_packer.base_model.catalogue import catalogue
from lora_packer.errors import InconclusiveError, InputError
from lora_packer.frozen import frozen
from lora_packer.inspector.diagnosis import diagnose
from lora_packer.inspector.loading import as_peft_loads, is_exact_as_loaded
from lora_packer.inspector.opening import open_adapter
from lora_packer.inspector.reading import is_exact
from lora_packer.peft.refusals import refused_config
from lora_packer.redact import escape
from lora_packer.targets import DEFAULT_TARGET

# What configs call the width of the stream that nearly every adapted layer reads from or writes to.
_WIDTHS = frozenset({"hidden_size", "n_embd", "d_model", "hidden_dim", "dim"})


@frozen
class Candidate:
    """One known base model.

    Attributes:
        id: its name in the catalogue.
        model_type: its architecture.
        fits: whether config and tensors are those that this base model calls for.
        mismatches: how many tensors are missing, too many or of another shape.
        first_mismatch: what is off, in a sentence; None where it fits.
    """

    id: str
    model_type: str
    fits: bool
    mismatches: int
    first_mismatch: str | None


def identify(adapter: str | Path) -> tuple[Candidate, ...]:
    """Compare an adapter with every base model of the catalogue; the best fit comes first.

    Models that no tensor could belong to (no dimension is their width) are left out.

    Raises:
        InputError: the adapter cannot be read, or its config has to be corrected first.
        InconclusiveError: a pattern of its config is not evaluated.
    """
    require_path(adapter, "adapter")
    with open_adapter(adapter) as source:
        read = read_adapter(source)
    if read.defects:
        raise InputError(f"{read.defects[0].message}.", hint="`lora-packer check` says what is wrong with the adapter.")
    wrong = [problem.message for problem in read.config_problems if problem.kind in ("invalid", "not-lora")]
    if read.config is not None:
        refusals = refused_config(read.config, read.raw_config)
        wrong += [refusal.message for refusal in refusals if refusal.kind == "field"]
    if read.config is None or wrong:
        raise InputError(
            f"adapter_config.json has to be corrected first: {wrong[0]}.",
            hint="`lora-packer check` says what is wrong with the adapter.",
        )
    if not read.tensors:
        raise InputError("the weights file holds no tensors.")
    try:
        found = list(candidates(read.config, read.tensors))
    except PatternError as error:
        raise InconclusiveError(f"a pattern in adapter_config.json was not evaluated: {escape(str(error))}.") from None
    return tuple(sorted(found, key=lambda item: (not item.fits, item.mismatches, item.id)))


def candidates(config: LoraConfig, tensors: Mapping[str, TensorInfo]) -> Iterator[Candidate]:
    """Yield every base model of the catalogue that a tensor could belong to. Raises PatternError."""
    for names, base in _possible(tensors):
        compared = _compared(config, base, tensors)
        yield from (Candidate(name, base.model_type, *compared) for name in names)


def _possible(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[list[str], BaseModel]]:
    """The base models of the catalogue that have a width of the tensors', each with all its names."""
    sizes = {size for info in tensors.values() for size in info.shape}
    alike: dict[str, list[str]] = {}
    for name, config in catalogue().items():
        if config.get("model_type") in ARCHITECTURES and sizes.intersection(_widths(config)):
            alike.setdefault(json.dumps(config, sort_keys=True), []).append(name)
    for names in alike.values():
        yield names, BaseModel.load(catalogue()[names[0]])


def _widths(config: Mapping[str, Any]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _widths(value)
        elif name in _WIDTHS and isinstance(value, int):
            yield value


def _compared(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo]) -> tuple[bool, int, str | None]:
    """(fits, mismatches, the first of them)"""
    # What today's PEFT does not load of another release's file says nothing about whose it is.
    found = as_peft_loads(diagnose(config, base, tensors), config, base, tensors, DEFAULT_TARGET)
    if not found.errors:
        return True, 0, None
    return False, max(1, found.case.difference.distance), found.errors[0].message


def fitting(config: LoraConfig, tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Return the ids of the known base models that call for exactly these tensors. Raises PatternError."""
    return [name for names, base in _possible(tensors) if _is_exact(config, base, tensors) for name in names]


def _is_exact(config: LoraConfig, base: BaseModel, tensors: Mapping[str, TensorInfo]) -> bool:
    return is_exact(config, base, tensors) or is_exact_as_loaded(config, base, tensors)
