"""What PEFT 0.21.2 refuses in a config, whatever the base model: one row for each ``raise``.

Each row names the line of https://github.com/huggingface/peft/tree/v0.21.2/src/peft that raises. What a field's type
has to be is not said here: that is ``lora_packer.adapter.config``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora_packer.adapter.config import LoraConfig, shown
from lora_packer.peft.refusals.refusal import Refusal

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One ``raise``: the field, when it comes, what to say (``{}`` is the field's value), what PEFT takes, where."""

    field: str
    refused: Callable[[LoraConfig, Raw], bool]
    message: str
    expected: Any
    source: str
    hint: str | None = None


def refused_config(config: LoraConfig, raw: Mapping[str, Any]) -> Iterator[Refusal]:
    """Yield what PEFT refuses in the config alone, at most one refusal for a field.

    Args:
        config: the typed config.
        raw: the file's JSON object, which also has the fields that the typed config has not.
    """
    if str(raw.get("peft_type", "LORA")).upper() != "LORA":
        return  # another method's config, which has other fields
    told: set[str] = set()
    for row in ROWS:
        if row.field not in told and row.refused(config, raw):
            told.add(row.field)
            actual = shown(raw.get(row.field))
            yield Refusal(row.field, row.message.format(actual), row.expected, actual, row.hint, row.source)


_PLAIN_INIT = "Save with path_initial_model_for_weight_conversion, and set init_lora_weights to true."

ROWS: tuple[Row, ...] = (
    Row(
        "layers_to_transform",
        lambda config, raw: isinstance(config.target_modules, str) and raw.get("layers_to_transform") is not None,
        "layers_to_transform cannot be used when target_modules is a string",
        None,
        "tuners/lora/config.py:1041",
    ),
    Row(
        "layers_pattern",
        lambda config, raw: isinstance(config.target_modules, str) and raw.get("layers_pattern") is not None,
        "layers_pattern cannot be used when target_modules is a string",
        None,
        "tuners/lora/config.py:1045",
    ),
    Row(
        "layers_pattern",
        lambda config, raw: bool(config.layers_pattern) and raw.get("layers_to_transform") is None,
        "layers_pattern is set without layers_to_transform",
        None,
        "tuners/lora/config.py:1049",
    ),
    Row(
        "target_modules",
        lambda config, _: config.target_modules == () and not config.target_parameters,
        "target_modules is empty and target_parameters names nothing: no module is adapted",
        None,
        "tuners/tuners_utils.py:1059",
    ),
    Row(
        "lora_bias",
        lambda config, _: config.lora_bias and config.use_dora,
        "lora_bias and use_dora cannot be combined",
        None,
        "tuners/lora/config.py:1088",
    ),
    Row(
        "init_lora_weights",
        lambda config, _: str(config.init_lora_weights).startswith("corda"),
        "init_lora_weights is {}, which PEFT cannot load without its preprocessing",
        None,
        "tuners/lora/layer.py:519",
        _PLAIN_INIT,
    ),
    Row(
        "init_lora_weights",
        lambda config, _: config.init_lora_weights == "loftq",
        "init_lora_weights is {}, which PEFT would compute again at load",
        None,
        "tuners/lora/layer.py:586",
        _PLAIN_INIT,
    ),
)
