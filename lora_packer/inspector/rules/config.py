"""What ``adapter_config.json`` says by itself (LP2): fields that PEFT cannot use, does not know, or fills in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_packer.adapter import Adapter, LoraConfig
from lora_packer.adapter.config import CONFIG_NAME, ConfigProblem
from lora_packer.finding import Finding
from lora_packer.inspector.rules.rule import Rule
from lora_packer.peft.refusals import Refusal, refused_config
from lora_packer.redact import escape

NOT_LORA = Rule(
    "LP201",
    "not-lora",
    "error",
    "The adapter is of another method than LoRA.",
    "Services that host LoRA adapters cannot apply it.",
    "Merge it into the base model (merge_and_unload), or train a LoRA adapter.",
)
INVALID_FIELD = Rule(
    "LP202",
    "invalid-field",
    "error",
    "A field of adapter_config.json has a value that PEFT cannot use.",
    "PEFT raises at load, or computes NaN.",
    "Write a value that PEFT takes: the one that training used.",
)
UNKNOWN_FIELD = Rule(
    "LP203",
    "unknown-field",
    "warning",
    "adapter_config.json has a field that PEFT does not know.",
    "PEFT 0.14 and newer drop it with a warning; older releases refuse the whole config.",
    "Remove it if training did not use it; else load the adapter with a PEFT that knows it.",
    fixable=True,
)
NO_EFFECT = Rule(
    "LP204",
    "no-effect",
    "error",
    "The config makes the adapter's update zero.",
    "It loads everywhere and serves the base model.",
    "Set lora_alpha to what it was in training.",
)
BASE_CHANGING_INIT = Rule(
    "LP205",
    "base-changing-init",
    "warning",
    "init_lora_weights names a method that changes the base model at load.",
    "PEFT runs pissa and olora again at load and alters the base weights; engines that ignore the field give "
    "other output, and an adapter that was converted to plain LoRA is wrong in PEFT.",
    "Save it again with path_initial_model_for_weight_conversion, which makes it a plain LoRA; do not edit the field.",
)
DEFAULTED_FIELD = Rule(
    "LP208",
    "defaulted-field",
    "warning",
    "r or lora_alpha is missing, so the default of 8 applies.",
    "A default that training did not use changes the scale of the update without a word.",
    "Write the value that training used into adapter_config.json.",
    retold=": {message}",
)
UNCONFIRMED_SCALE = Rule(
    "LP210",
    "unconfirmed-scale",
    "info",
    "The update's scale rests on a field that no tensor confirms.",
    "A wrong use_rslora, alpha_pattern or lora_alpha loads everywhere and makes every output wrong.",
    "Compare use_rslora, lora_alpha and alpha_pattern with the training run's.",
)
_OF_PROBLEM = {
    "invalid": INVALID_FIELD,
    "odd": INVALID_FIELD,
    "not-lora": NOT_LORA,
    "foreign": INVALID_FIELD,
    "no-effect": NO_EFFECT,
}

OF_REFUSAL: Mapping[str, Rule] = {"field": INVALID_FIELD, "no-effect": NO_EFFECT}


def fields(adapter: Adapter) -> Iterator[Finding]:
    """What is wrong with single fields, and what PEFT makes of them without a word.

    Of a config that is no LoRA adapter's, that alone is told: its other fields have another meaning.
    """
    other = other_format(adapter)
    if other is not None:
        yield _problem(other)
        return
    yield from _unknown([problem for problem in adapter.config_problems if problem.kind == "unknown"])
    told = set()
    for problem in adapter.config_problems:
        if problem.kind != "unknown":
            yield _problem(problem)
            if problem.kind != "odd":
                told.add(problem.field)  # what PEFT makes of it with other fields is not known
    config = adapter.config
    if config is None:
        return
    yield from (refused(item) for item in refused_config(config, adapter.raw_config) if item.field not in told)
    for field, default in (("r", config.r), ("lora_alpha", config.lora_alpha)):
        if field not in adapter.raw_config:
            message = f"{field} is missing, so PEFT's default of {default} applies"
            yield DEFAULTED_FIELD.finding(message, file=CONFIG_NAME, field=field)
    init = config.init_lora_weights
    if isinstance(init, str) and init.lower().startswith(("pissa", "olora")):
        message = f"init_lora_weights is '{escape(init, 40)}': PEFT changes the base model's weights at load"
        details = {"field": "init_lora_weights", "expected": True, "actual": init}
        yield BASE_CHANGING_INIT.finding(message, file=CONFIG_NAME, **details)
    yield from _unconfirmed_scale(config)


def other_format(adapter: Adapter) -> ConfigProblem | None:
    """What says that the config is another method's or another trainer's, or None where it is a LoRA adapter's."""
    return next((problem for problem in adapter.config_problems if problem.kind in ("not-lora", "foreign")), None)


def is_usable(adapter: Adapter) -> bool:
    """Whether it is known what the config calls for: PEFT takes every field of it."""
    wrong = any(problem.kind in ("invalid", "not-lora", "foreign") for problem in adapter.config_problems)
    config = adapter.config
    return config is not None and not wrong and not _is_refused(config, adapter)


def _is_refused(config: LoraConfig, adapter: Adapter) -> bool:
    return any(refusal.kind == "field" for refusal in refused_config(config, adapter.raw_config))


def refused(refusal: Refusal, rules: Mapping[str, Rule] = OF_REFUSAL) -> Finding:
    """Return what PEFT refuses as a finding; ``rules`` has the rule of each kind of refusal."""
    details = {name: getattr(refusal, name) for name in ("field", "expected", "actual", "hint", "severity")}
    return rules[refusal.kind].finding(refusal.message, file=CONFIG_NAME, **details)


def _problem(problem: ConfigProblem) -> Finding:
    details = {name: getattr(problem, name) for name in ("field", "expected", "actual", "hint", "fixable")}
    severity = "warning" if problem.kind == "odd" else None
    return _OF_PROBLEM[problem.kind].finding(problem.message, severity=severity, file=CONFIG_NAME, **details)


def _unknown(problems: list[ConfigProblem]) -> Iterator[Finding]:
    """The fields that PEFT does not know, all in one."""
    if not problems:
        return
    message = problems[0].message
    if len(problems) > 1:
        ignored = "PEFT 0.14 and newer ignore them, older ones refuse"
        names = escape(", ".join(f"'{problem.field}'" for problem in problems), 240)
        message = f"{len(problems)} fields are not PEFT's: {names}; {ignored}"
    yield UNKNOWN_FIELD.finding(message, file=CONFIG_NAME, field=problems[0].field, count=len(problems))


def _unconfirmed_scale(config: LoraConfig) -> Iterator[Finding]:
    """Scale fields that no tensor confirms: a wrong one loads everywhere and changes every output."""
    details = {"file": CONFIG_NAME}
    if config.use_rslora:
        scale, plain = config.scale(config.r, config.lora_alpha), config.lora_alpha / config.r
        message = f"use_rslora scales the update by {scale:.4g} (alpha / sqrt(r)); without it, it would be {plain:.4g}"
        yield UNCONFIRMED_SCALE.finding(message, field="use_rslora", actual=True, **details)
    elif config.rank_pattern and not config.alpha_pattern:
        ranks = sorted({config.r, *config.rank_pattern.values()})
        if len(ranks) > 1:
            low, high = (config.scale(rank, config.lora_alpha) for rank in (ranks[-1], ranks[0]))
            message = f"rank_pattern without alpha_pattern scales modules differently, from {low:.4g} to {high:.4g}"
            yield UNCONFIRMED_SCALE.finding(message, field="alpha_pattern", **details)
