"""What the config names on this base model: targets (LP206, LP207), patterns (LP310), and what PEFT refuses there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.adapter.patterns import PatternError
from lora_packer.base_model import BaseModel
from lora_packer.finding import Finding
from lora_packer.inspector.case import Case
from lora_packer.inspector.rules.config import INVALID_FIELD, OF_REFUSAL, refused
from lora_packer.inspector.rules.rule import Rule
from lora_packer.peft.refusals import refused_modules
from lora_packer.redact import escape

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
UNUSED_PATTERN = Rule(
    "LP310",
    "unused-pattern",
    "warning",
    "A key of rank_pattern or alpha_pattern decides nothing.",
    "PEFT ignores it with a warning: a module may have another scale than in training.",
    "Correct the key, or remove it.",
    needs="base",
)


def unsupported_targets(case: Case) -> Iterator[Finding]:
    """Containers, norms and routers among the targets."""
    paths = case.expectation.unsupported
    if paths:
        message = f"target_modules matches '{escape(paths[0], 80)}', which is not a layer that LoRA can be put on"
        yield UNSUPPORTED_TARGET.finding(message, file=CONFIG_NAME, field="target_modules", count=len(paths))


def refused_targets(case: Case, base: BaseModel, *, exact: bool) -> Iterator[Finding]:
    """What PEFT refuses of the config on this base model; ``exact``: PEFT of today is what will load it."""
    for refusal in refused_modules(case.config, base.model_type, case.modules, case.expectation.targeted):
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
    return NO_TARGET.finding(message, file=CONFIG_NAME, field=field)


def unused_patterns(case: Case) -> Iterator[Finding]:
    """Keys of rank_pattern and alpha_pattern that give no module its value."""
    unused = case.expectation.unused_patterns
    if unused:
        field, key = unused[0]
        decides = "1 key decides" if len(unused) == 1 else f"{len(unused)} keys decide"
        message = f"{decides} nothing in {field}, first '{escape(key, 80)}': no targeted module takes its value from it"
        yield UNUSED_PATTERN.finding(message, file=CONFIG_NAME, field=field, count=len(unused))


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
