"""What PEFT 0.21.2 refuses in a config, whatever the base model: one row for each ``raise``.

Each row names the line of https://github.com/huggingface/peft/tree/v0.21.2/src/peft that raises. Where
``lora_packer.adapter.config`` has already found a field to be of a wrong type, its row is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.config_reader import shown
from lora_packer.frozen import frozen
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.peft.refusals.settings import refused_settings
from lora_packer.peft.refusals.variants import variants

Raw = Mapping[str, Any]


@frozen
class Row:
    """One ``raise``: the field, when it comes, what to say (``{}`` is the field's value), what PEFT takes, where."""

    field: str
    refused: Callable[[LoraConfig, Raw], bool]
    message: str
    expected: Any
    source: str
    hint: str | None = None
    kind: Literal["field", "no-effect"] = "field"


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
            message = row.message.format(actual)
            yield Refusal(row.field, message, row.expected, actual, row.hint, row.source, row.kind)
    asked = variants(config)
    if len(asked) > 1 and asked[1] not in told:
        told.add(asked[1])
        message = f"{asked[0]} and {asked[1]} cannot be combined: PEFT takes one variant of LoRA at a time"
        yield Refusal(asked[1], message, None, shown(raw[asked[1]]), None, "tuners/lora/layer.py:213")
    yield from (refusal for refusal in refused_settings(raw) if refusal.field not in told)


# To edit the field alone would put the update on weights that it was not trained on.
_OF_CORDA = "Save it again with path_initial_model_for_weight_conversion, which makes it a plain LoRA."
_OF_LOFTQ = "Make sure that the base model is the one that LoftQ saved; with that one, init_lora_weights is to be true."
_PARTS_OF_LORA = ("lora_dropout.default", "lora_dropout", "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B")
# Their start is overwritten by the file's tensors; but PEFT has to know how to make it.
_INIT_NAMES = (
    "true, false, 'gaussian', 'eva', 'olora', 'pissa', 'pissa_niter_[number]', 'orthogonal', 'mica', 'lora_ga'"
)


def _unknown_init(config: LoraConfig, _: Raw) -> bool:
    """Names are compared with case but for these four, and "" stands for false."""
    name = config.init_lora_weights
    if isinstance(name, bool) or not name or name.startswith(("pissa", "corda")):
        return False
    return name not in ("loftq", "eva", "orthogonal", "lora_ga") and name.lower() not in ("olora", "mica", "gaussian")


def _unknown_pissa(config: LoraConfig, _: Raw) -> bool:
    name = config.init_lora_weights
    if not isinstance(name, str) or not name.startswith("pissa") or name == "pissa":
        return False
    parts = name.split("_niter_")
    try:
        int(parts[1] if len(parts) == 2 else "no number")
    except ValueError:
        return True
    return False


def _part_of_lora(config: LoraConfig, _: Raw) -> bool:
    """PEFT wraps whatever module's name ends so, its own too."""
    return any(part.endswith(config.modules_to_save) for part in _PARTS_OF_LORA)


def _empty_tokens(config: LoraConfig, _: Raw) -> bool:
    return any(not tokens for tokens in config.trainable_token_indices.values())


def _megatron(_: LoraConfig, raw: Raw) -> bool:
    return bool(raw.get("megatron_config"))


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
        lambda config, raw: config.lora_bias and raw.get("init_lora_weights", True) not in (True, False),
        "lora_bias and an init_lora_weights other than true or false cannot be combined",
        None,
        "tuners/lora/config.py:1083",
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
        _OF_CORDA,
    ),
    Row(
        "init_lora_weights",
        lambda config, _: config.init_lora_weights == "loftq",
        "init_lora_weights is {}, which PEFT would compute again at load",
        None,
        "tuners/lora/layer.py:583",
        _OF_LOFTQ,
    ),
    Row(
        "init_lora_weights",
        _unknown_pissa,
        "init_lora_weights is {}; of PiSSA, PEFT knows 'pissa' and 'pissa_niter_[number]'",
        _INIT_NAMES,
        "tuners/lora/layer.py:452",
    ),
    Row(
        "init_lora_weights",
        _unknown_init,
        "init_lora_weights is {}, which PEFT does not know",
        _INIT_NAMES,
        "tuners/lora/layer.py:342",
        "Write one of PEFT's names as it is spelled, or true: the tensors in the file replace the start either way.",
    ),
    Row(
        "modules_to_save",
        lambda config, _: "" in config.modules_to_save,
        "modules_to_save holds an empty name, which is every module's, lists of layers too",
        None,
        "utils/other.py:352",
    ),
    Row(
        "modules_to_save",
        _part_of_lora,
        "modules_to_save is {}; a name in it ends the name of a part of LoRA itself",
        None,
        "utils/other.py:1099",
    ),
    Row(
        "trainable_token_indices",
        _empty_tokens,
        "trainable_token_indices lists no token, which PEFT cannot put into an embedding",
        "at least one token id, or null",
        "tuners/trainable_tokens/layer.py:225",
    ),
    Row(
        "arrow_config",
        lambda config, _: config.arrow_config is not None,
        "arrow_config is set: an Arrow router acts only beside the adapters between which it chooses",
        None,
        "tuners/lora/arrow.py:44",
    ),
    Row(
        "megatron_config",
        _megatron,
        "megatron_config is set: PEFT loads such an adapter only beside Megatron-LM",
        None,
        "tuners/lora/tp_layer.py:333",
        "Set megatron_config to null.",
    ),
    Row(
        "alora_invocation_tokens",
        lambda config, _: bool(config.alora_invocation_tokens) and config.task_type != "CAUSAL_LM",
        "alora_invocation_tokens acts only where task_type is CAUSAL_LM: it would serve the base model",
        None,
        "tuners/lora/variants.py:627",
        kind="no-effect",
    ),
)
