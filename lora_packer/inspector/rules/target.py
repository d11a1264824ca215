"""What the place that will load the adapter makes of it (LP5)."""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.adapter.config import CONFIG_NAME, LoraConfig
from lora_packer.base_model.names import same_base
from lora_packer.finding import Finding
from lora_packer.inspector.rules.rule import Rule
from lora_packer.redact import escape

OTHER_BASE_NAMED = Rule(
    "LP501",
    "other-base-named",
    "warning",
    "adapter_config.json names another base model than --base-model.",
    "A different base gives different output even where every shape fits.",
    "Make sure that the hosted base is the one the adapter was trained on.",
)


HOSTED_BASE_UNKNOWN = Rule(
    "LP503",
    "hosted-base-unknown",
    "warning",
    "The config of the hosted base could not be had, and --base-config stood in for it.",
    "The adapter fits the config that was given; whether that is the hosted base's was not checked.",
    "Make sure that --base-config is the config of the base model that the service hosts.",
)


def other_base_named(config: LoraConfig, hosted: str | None) -> Iterator[Finding]:
    """The config names another base model than the one that is hosted, as far as their names tell."""
    named = config.base_model_name_or_path
    if hosted and named and not same_base(named, hosted):
        message = f"adapter_config.json names the base model '{escape(named, 80)}', not '{escape(hosted, 80)}'"
        details = {"field": "base_model_name_or_path", "expected": hosted, "actual": escape(named)}
        yield OTHER_BASE_NAMED.finding(message, file=CONFIG_NAME, **details)


def hosted_base_unknown(hosted: str, why: str, given: str) -> Finding:
    """Return that ``given`` stood in for the hosted base, and why."""
    return HOSTED_BASE_UNKNOWN.finding(
        f"the config of '{escape(hosted, 80)}' could not be had, so {escape(given, 160)} stood in for it: {why}"
    )
