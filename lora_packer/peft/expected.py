"""The kernel: the tensors that PEFT would create for a config on a base model.

The rules are those of PEFT 0.21.2 (``peft/tuners/lora/layer.py``, ``peft/utils/save_and_load.py``,
https://github.com/huggingface/peft/tree/v0.21.2/src/peft), with what older releases wrote differently as an ``Era``.
One general function over a module tree; nothing here knows an architecture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Module, Modules
from lora_packer.peft.attention import expect_attentions, is_attention
from lora_packer.peft.expectation import RANK_AXIS, Era, Expectation, Parts, Shape, Want, parameters
from lora_packer.peft.saved import (
    allow_biases,
    allow_embeddings,
    expect_saved_modules,
    expect_tokens,
    first_embedding,
    tied_saved,
    wrap_saved_tokens,
)
from lora_packer.peft.targets import PatternLookup, Targeting, containers, targeting

__all__ = ["RANK_AXIS", "Era", "Expectation", "Shape", "Want", "expect", "named_parameters"]


_TODAY = Era()


def expect(
    config: LoraConfig,
    modules: Modules,
    default_targets: tuple[str, ...] | str,
    era: Era = _TODAY,
    input_embedding: str | None = None,
    *,
    tied: bool = False,
) -> Expectation:
    """Return the tensors that PEFT would create. Raises PatternError where a pattern is not evaluated.

    ``input_embedding`` is the path of the input embedding; without it, the first embedding is taken. ``tied`` is
    whether the output head is that embedding.
    """
    result = Expectation()
    targets = targeting(config, modules, default_targets, last_index=era.last_index)
    rank_of = PatternLookup(config.rank_pattern, config.r)
    alpha_of = PatternLookup(config.alpha_pattern, config.lora_alpha)
    known: dict[tuple[Module, int, tuple[int, int]], Parts] = {}
    for path, module in modules.items():
        if module.kind == "parameter" or not targets(path):
            continue
        rank = rank_of(path)
        result.targeted[path] = (rank, alpha_of(path))
        blocks = _WHOLE if config.use_bdlora is None else _block_diagonal(config.use_bdlora, path)
        # Layers and experts are alike: by the hundred thousand.
        if (parts := known.get((module, rank, blocks))) is None:
            parts = known[module, rank, blocks] = _lora(config, module, rank, blocks, era)
        result.add(path, parts)
    expect_attentions(result, config, modules, targets, (rank_of, alpha_of))
    _expect_parameters(result, config, modules, era, rank_of, alpha_of)
    _note_unsupported(result, config, modules, targets)
    embedding = input_embedding or first_embedding(modules)
    saved = (*targets.saved_modules, *tied_saved(config, modules, embedding, tied=tied))
    expect_saved_modules(result, saved, modules)
    expect_tokens(result, config, modules, embedding)
    wrap_saved_tokens(result, modules, embedding, tied=tied)
    allow_embeddings(result, config, modules)
    allow_biases(result, config, modules)
    for name, lookup in (("rank_pattern", rank_of), ("alpha_pattern", alpha_of)):
        result.unused_patterns += [(name, key) for key in getattr(config, name) if key in lookup.unused]
    return result


def _lora(config: LoraConfig, module: Module, rank: int, blocks: tuple[int, int], era: Era) -> Parts:
    """The pair, and what the variants add to it (peft/tuners/lora/layer.py, variants.py)."""
    required: dict[str, Shape] = {}
    out_features, in_features = module.out_features, module.in_features
    if module.kind in ("linear", "conv1d") and str(config.init_lora_weights).startswith(("pissa", "olora")):
        rank = min(rank, in_features, out_features)  # a matrix has no more singular values, and Q no more columns
    if module.kind == "embedding":
        required = {"lora_embedding_A": (rank, in_features), "lora_embedding_B": (out_features, rank)}
    elif module.kind == "conv":
        kernel = module.weight_shape[2:]
        groups = module.groups
        if not groups and era.depthwise_convs and in_features == 1:
            in_features = groups = out_features
        divided = groups > 1 and not era.ungrouped_convs and rank % groups == 0  # no other ranks are taken
        required["lora_A.weight"] = (rank, in_features, *kernel)
        required["lora_B.weight"] = (out_features, rank // groups if divided else rank, *(1 for _ in kernel))
    else:
        if module.kind == "conv1d" and config.init_lora_weights == "olora":
            # PEFT computes its start from the weight as it lies, which Conv1D keeps transposed.
            out_features, in_features = in_features, out_features
        required["lora_A.weight"] = (rank, in_features // blocks[0])
        required["lora_B.weight"] = (out_features, rank // blocks[1])
    if config.use_dora:
        ones = tuple(1 for _ in module.weight_shape[2:])
        required["lora_magnitude_vector"] = (1, out_features, *ones) if ones else (out_features,)
    if config.kasa_config is not None and module.kind == "linear":
        required["lora_diag"] = (rank,)
    bias = {"lora_B.bias": (out_features,)} if config.lora_bias else {}
    return Parts(required, {**bias, **_training_state(config, in_features, rank)})


_WHOLE = (1, 1)


def _block_diagonal(settings: Mapping[str, Any], path: str) -> tuple[int, int]:
    """BD-LoRA: how many blocks A's columns and B's columns are divided into (a substring of the path decides)."""
    blocks = _positive(settings.get("nblocks"), 1)

    def divided(half: str) -> bool:
        names = settings.get(half)
        return isinstance(names, list | str) and any(isinstance(name, str) and name in path for name in names)

    return blocks if divided("target_modules_bd_a") else 1, blocks if divided("target_modules_bd_b") else 1


def _training_state(config: LoraConfig, in_features: int, rank: int) -> dict[str, Shape]:
    """Buffers of VeLoRA and MonteCLoRA: saved, and of no effect on the output."""
    found: dict[str, Shape] = {}
    if config.velora_config is not None:
        groups = _positive(config.velora_config.get("num_groups"), 64)
        found["lora_velora_embed"] = (-(-in_features // groups),)
    if config.monteclora_config is not None:
        samples = _positive(config.monteclora_config.get("num_samples"), 8)
        sampler = {
            "expert_weights": (samples,),
            "expert_weights_prior": (samples,),
            "std_prior": (rank,),
            "gaussian_var_prior": (rank, rank),
        }
        found |= {f"lora_monteclora_sampler.{name}": shape for name, shape in sampler.items()}
    return found


def _positive(value: Any, default: int) -> int:
    return value if type(value) is int and value > 0 else default


def named_parameters(config: LoraConfig, modules: Modules) -> Iterator[tuple[str, str, Module]]:
    """Yield what ``target_parameters`` names: (full name, the path of the module that owns it, the module)."""
    suffixes = tuple(f".{name}" for name in config.target_parameters or ())
    exact = frozenset(config.target_parameters or ())
    if suffixes:
        for name, owner, part, module in parameters(modules):
            if (name in exact or name.endswith(suffixes)) and (part != "bias" or module.kind == "parameter"):
                yield name, owner, module


def _expect_parameters(
    result: Expectation,
    config: LoraConfig,
    modules: Modules,
    era: Era,
    rank_of: PatternLookup[int],
    alpha_of: PatternLookup[float],
) -> None:
    """``target_parameters`` (peft/tuners/tuners_utils.py::_inject_parameters): no regular expressions.

    The parameters of one module are wrapped in the order of their definition, the last one outermost; a name only says
    how deep it lies.
    """
    by_owner: dict[str, list[tuple[str, Module]]] = {}
    for name, owner, module in named_parameters(config, modules):
        if len(module.weight_shape) in (2, 3):
            by_owner.setdefault(owner, []).append((name, module))
    for owner, wrapped in by_owner.items():
        for position, (name, module) in enumerate(wrapped):
            rank = rank_of(name)
            result.targeted[name] = (rank, alpha_of(name))
            nested = owner + ".base_layer" * (len(wrapped) - 1 - position)
            experts, out_features, in_features = _parameter_sizes(module, era)
            result.experts[nested] = (name, experts)
            result.want(nested, "lora_A.weight", (rank * experts, in_features))
            result.want(nested, "lora_B.weight", (out_features, rank * experts))


def _parameter_sizes(module: Module, era: Era) -> tuple[int, int, int]:
    """(experts, out, in) of a 2-D or 3-D parameter, as PEFT takes them."""
    if len(module.weight_shape) == 2:
        return 1, module.weight_shape[0], module.weight_shape[1]
    experts, first, second = module.weight_shape
    return (experts, second, first) if module.transposed or era.swapped_experts else (experts, first, second)


def _note_unsupported(result: Expectation, config: LoraConfig, modules: Modules, targets: Targeting) -> None:
    """Containers, norms and routers that the config targets: PEFT raises ValueError for them."""
    if isinstance(config.target_modules, str) and config.target_modules.lower() == "all-linear":
        return
    owners = {path.rpartition(".")[0] for path, module in modules.items() if module.kind == "parameter"}
    named = (path for path in owners | containers(modules) if path and path not in modules and targets(path))
    result.unsupported += sorted(path for path in named if not is_attention(path, modules))
