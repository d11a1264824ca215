"""What PEFT 0.21.2 refuses of a config on a base model: one row for each ``raise``.

Each names the line of https://github.com/huggingface/peft/tree/v0.21.2/src/peft that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Module, Modules
from lora_packer.frozen import frozen
from lora_packer.peft.refusals.blocks import unfit_blocks
from lora_packer.peft.refusals.kernels import past_their_forward
from lora_packer.peft.refusals.named import refused_parameters, refused_saved, refused_tokens
from lora_packer.peft.refusals.refusal import Refusal
from lora_packer.peft.refusals.task import refused_task
from lora_packer.peft.refusals.variants import kind_of, taken_by, variants
from lora_packer.redact import escape

_KINDS = {
    "linear": "a linear layer",
    "conv1d": "a Conv1D",
    "conv": "a convolution",
    "embedding": "an embedding",
    "parameter": "a parameter",
    "attention": "a torch.nn.MultiheadAttention",
}


class _Target(NamedTuple):
    """A layer, or a parameter that is named itself, with what it gets."""

    path: str
    module: Module | None
    kind: str
    rank: int


@frozen
class _Row:
    """One ``raise``: when the config can bring it about, on which layer it comes, what to say of ``{layer}``."""

    field: str
    asked: Callable[[LoraConfig], bool]
    refused: Callable[[LoraConfig, _Target], bool]
    message: str
    source: str
    kind: Literal["field", "target"] = "field"
    severity: Literal["error", "warning"] = "error"


def refused_modules(
    config: LoraConfig,
    base_model_type: str,
    modules: Modules,
    targeted: Mapping[str, tuple[int, float]],
    saved_with_tokens: Sequence[str] = (),
) -> Iterator[Refusal]:
    """Yield what PEFT refuses of the config on this base model, at most one refusal for a field.

    Args:
        config: the typed config, in which ``refused_config`` found nothing.
        base_model_type: ``model_type`` of the base model's own config.
        modules: the base model's modules, by path.
        targeted: the paths that get LoRA, with their rank and alpha.
        saved_with_tokens: the paths of modules that are saved whole and have trained tokens too.
    """
    yield from refused_task(config.task_type, base_model_type)
    uncalled = list(past_their_forward(base_model_type, modules, targeted))
    yield from uncalled
    told: set[str] = set()
    rows = [row for row in _ROWS if row.asked(config)]
    if rows:
        targets = [_Target(path, modules.get(path), kind_of(path, modules), targeted[path][0]) for path in targeted]
        for row in rows:
            refused = [target for target in targets if row.refused(config, target)]
            if refused and row.field not in told:
                told.add(row.field)
                yield _told(config, row, refused[0])
    if not any(item.severity == "error" for item in uncalled):  # PEFT comes to the rank where it takes the layer
        yield from _undivided(modules, targeted)
    if config.alpha_pattern:
        yield from _zero_scale(targeted)
    yield from unfit_blocks(config, modules, targeted)
    yield from refused_tokens(config, modules, targeted, saved_with_tokens)
    yield from refused_parameters(config, modules, targeted)
    yield from refused_saved(config, modules, targeted)


def _told(config: LoraConfig, row: _Row, target: _Target) -> Refusal:
    layer = f"{_KINDS[target.kind]} ('{escape(target.path, 80)}')"
    value = getattr(config, row.field)
    message = row.message.format(layer=layer, value=value, rank=target.rank)
    actual: Any = value if isinstance(value, int | float | str) else escape(target.path)
    return Refusal(row.field, message, None, actual, None, row.source, row.kind, row.severity)


def _variant_row(field: str, source: str) -> _Row:
    return _Row(
        field,
        lambda config: field in variants(config),
        lambda _, target: not taken_by(target.kind, field),
        field + " cannot be used on {layer}, which the config targets",
        source,
    )


def _named_init(config: LoraConfig) -> bool:
    return isinstance(config.init_lora_weights, str)


def _init_of_matrices(config: LoraConfig) -> bool:
    name = config.init_lora_weights
    return isinstance(name, str) and (
        name.startswith("pissa") or name.lower() == "olora" or name in ("orthogonal", "lora_ga")
    )


def _smaller_side(target: _Target) -> int:
    return min(target.module.weight_shape[:2]) if target.module else 0


def _square(module: Module) -> bool:
    return module.in_features == module.out_features


_ROWS = (
    _variant_row("use_dora", "tuners/lora/layer.py:213"),
    _variant_row("velora_config", "tuners/lora/layer.py:1561"),
    _variant_row("kasa_config", "tuners/lora/variants.py:1450"),
    _variant_row("alora_invocation_tokens", "tuners/lora/layer.py:213"),
    _variant_row("monteclora_config", "tuners/lora/layer.py:213"),
    _variant_row("use_bdlora", "tuners/lora/layer.py:213"),
    _variant_row("init_lora_weights", "tuners/lora/layer.py:213"),
    _Row(
        "lora_bias",
        lambda config: config.lora_bias,
        lambda _, target: target.kind in ("embedding", "parameter"),
        "lora_bias cannot be used on {layer}, which the config targets",
        "tuners/lora/layer.py:1223",
    ),
    _Row(
        "lora_dropout",
        lambda config: bool(config.lora_dropout),
        lambda _, target: target.kind == "parameter",
        "lora_dropout is {value}; it has to be 0 for {layer}, which target_parameters names",
        "tuners/lora/layer.py:2366",
    ),
    _Row(
        "fan_in_fan_out",
        lambda config: config.fan_in_fan_out and not config.target_modules,
        lambda _, target: target.kind == "parameter",
        "fan_in_fan_out cannot be used on {layer}, which target_parameters names",
        "tuners/lora/layer.py:2368",
    ),
    _Row(
        "init_lora_weights",
        _named_init,
        lambda config, target: (
            target.kind == "conv"
            and config.init_lora_weights != "lora_ga"
            and str(config.init_lora_weights).lower() not in ("gaussian", "")
        ),
        "init_lora_weights is '{value}', which PEFT does not know for {layer}",
        "tuners/lora/layer.py:342",
    ),
    _Row(
        "init_lora_weights",
        _init_of_matrices,
        lambda _, target: target.kind in ("parameter", "attention") and not target.path.endswith(".weight"),
        "init_lora_weights is '{value}', for which PEFT looks for a weight beside {layer}",
        "tuners/lora/layer.py:2470",
    ),
    _Row(
        "init_lora_weights",
        lambda config: config.init_lora_weights == "orthogonal",
        lambda _, target: target.rank % 2 == 1 and target.kind in ("linear", "conv1d"),
        "init_lora_weights is 'orthogonal', which needs an even rank, and {layer} has {rank}",
        "tuners/lora/layer.py:607",
    ),
    _Row(
        "init_lora_weights",
        lambda config: str(config.init_lora_weights).lower() == "mica",
        lambda _, target: target.rank > _smaller_side(target) and target.kind in ("linear", "conv1d", "embedding"),
        "init_lora_weights is '{value}', and the rank of {layer}, {rank}, is above its smaller side",
        "tuners/lora/layer.py:489",
    ),
    _Row(
        "init_lora_weights",
        lambda config: str(config.init_lora_weights).lower() == "olora",
        lambda _, target: target.kind == "conv1d" and target.module is not None and not _square(target.module),
        # PEFT writes and loads such an adapter without a word; only a prompt shows it.
        "init_lora_weights is 'olora', whose halves do not fit {layer}: PEFT loads them, and the first prompt raises",
        "tuners/lora/layer.py:1102",
        severity="warning",
    ),
    _Row(
        "kasa_config",
        lambda config: config.kasa_config is not None,
        lambda _, target: target.kind == "linear" and target.rank >= _smaller_side(target),
        "kasa_config needs a rank below the smaller side of {layer}, which has rank {rank}",
        "tuners/lora/variants.py:1394",
    ),
)


def _undivided(modules: Modules, targeted: Mapping[str, tuple[int, float]]) -> Iterator[Refusal]:
    """Yield the first grouped convolution whose rank its groups do not divide; PEFT before 0.16 took any."""
    for path, (rank, _) in targeted.items():
        groups = modules[path].groups if path in modules else 1
        if groups > 1 and rank % groups:
            layer = f"a convolution of {groups} groups ('{escape(path, 80)}')"
            message = f"{layer} has rank {rank}, and PEFT takes there only multiples of the groups (before 0.16: any)"
            hint = "Take the convolution out of target_modules, and train again without it."
            yield Refusal("r", message, groups, rank, hint, "tuners/lora/layer.py:1565", only_today=True)
            return


def _zero_scale(targeted: Mapping[str, tuple[int, float]]) -> Iterator[Refusal]:
    """An alpha of 0 is not refused: the layer's update is multiplied by it."""
    idle = [path for path, (_, alpha) in targeted.items() if alpha == 0]
    if not idle:
        return
    every = len(idle) == len(targeted)
    what = "every layer" if every else f"{len(idle)} of {len(targeted)} layers, first '{escape(idle[0], 80)}'"
    effect = "it would serve the base model" if every else "there the base model answers"
    message = f"alpha_pattern is 0 for {what}, so the update is multiplied by 0: {effect}"
    hint = "Write the alpha that training used."
    yield Refusal(
        "alpha_pattern",
        message,
        "a number other than 0",
        0,
        hint,
        "tuners/lora/layer.py:281",
        "no-effect",
        "error" if every else "warning",
    )
