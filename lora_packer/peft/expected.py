"""The kernel: the tensors that PEFT would create for a config on a base model.

The rules are those of PEFT 0.21.2 (``peft/tuners/lora/layer.py``, ``peft/utils/save_and_load.py``,
https://github.com/huggingface/peft/tree/v0.21.2/src/peft), with what older releases wrote differently as an ``Era``.
One general function over a module tree; nothing here knows an architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import key_name
from lora_packer.base_model import Module, Modules
from lora_packer.peft.targets import PatternLookup, Targeting, containers, output_head, targeting

Shape = tuple[int, ...]

# part -> the axis that has the size of the rank (times the number of experts, for fused ones).
RANK_AXIS = {
    "lora_A.weight": 0,
    "lora_B.weight": 1,
    "lora_embedding_A": 0,
    "lora_embedding_B": 1,
    "lora_diag": 0,
    "lora_monteclora_sampler.std_prior": 0,
}


class Want(NamedTuple):
    """One expected tensor: its shape, the module it belongs to, and what it is of that module."""

    shape: Shape
    path: str
    part: str


@dataclass(frozen=True, slots=True)
class Era:
    """What PEFT releases did differently on disk, and what a module's shape does not say.

    Attributes:
        swapped_experts: how 3-D parameters of (experts, out, in) are adapted: before 0.19, lora_A had the size of the
            second axis and lora_B that of the third; since 0.19 it is the other way round
            (peft/tuners/lora/layer.py::ParamWrapper).
        depthwise_convs: whether a convolution whose kernels see one channel is one over a single channel, or has a
            kernel for each of its channels: lora_A then sees them all (peft/tuners/lora/layer.py::_ConvNd).
        last_index: which number of a path ``layers_to_transform`` means: before 0.20 the last one, an expert's, since
            then the first one (peft/tuners/tuners_utils.py::check_target_module_exists).
    """

    swapped_experts: bool = False
    depthwise_convs: bool = False
    last_index: bool = False


@dataclass(slots=True)
class Expectation:
    """What a config calls for on a base model.

    Attributes:
        required: name -> Want; without one of these the adapter does not act as it was trained.
        optional: name -> Want; what PEFT may write besides.
        targeted: the paths of the modules that get LoRA, with their rank and alpha.
        unsupported: paths that the config targets and PEFT cannot adapt.
        bad_tokens: module path -> the trainable token ids that lie outside its vocabulary.
        experts: path in the file -> (full name of the adapted parameter, its number of experts), for fused parameters.
        unused_patterns: the keys of ``rank_pattern`` and ``alpha_pattern`` that decide nothing: [(field, key)].
    """

    required: dict[str, Want] = field(default_factory=dict)
    optional: dict[str, Want] = field(default_factory=dict)
    targeted: dict[str, tuple[int, float]] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)
    bad_tokens: dict[str, list[int]] = field(default_factory=dict)
    experts: dict[str, tuple[str, int]] = field(default_factory=dict)
    unused_patterns: list[tuple[str, str]] = field(default_factory=list)

    def want(self, path: str, part: str, shape: Shape) -> None:
        """Add a required tensor."""
        self.required[key_name(path, part)] = Want(shape, path, part)

    def allow(self, path: str, part: str, shape: Shape) -> None:
        """Add an optional tensor."""
        self.optional[key_name(path, part)] = Want(shape, path, part)

    def allow_wrapped(self, modules: Modules, path: str, wrapper: str) -> None:
        """Add copies of all that the module at ``path`` holds, under the name of what PEFT wrapped it in."""
        for name, _, part, module in _parameters(modules):
            if name.startswith(f"{path}."):
                self.allow(path, f"{wrapper}.{name.removeprefix(f'{path}.')}", _parameter_shape(part, module))

    def allow_whole(self, modules: Modules, wanted: Callable[[str], bool]) -> None:
        """Add the base model's own parameters whose full name is wanted, as optional tensors."""
        for name, owner, part, module in _parameters(modules):
            if wanted(name):
                shape = _parameter_shape(part, module)
                self.allow(owner, f"base_layer.{part}" if owner in self.targeted else part, shape)


def expect(
    config: LoraConfig,
    modules: Modules,
    default_targets: tuple[str, ...],
    era: Era = Era(),
    input_embedding: str | None = None,
) -> Expectation:
    """Return the tensors that PEFT would create. Raises PatternError where a pattern is not evaluated.

    ``input_embedding`` is the path of the input embedding; without it, the first embedding is taken.
    """
    result = Expectation()
    targets = targeting(config, modules, default_targets, last_index=era.last_index)
    rank_of = PatternLookup(config.rank_pattern, config.r)
    alpha_of = PatternLookup(config.alpha_pattern, config.lora_alpha)
    for path, module in modules.items():
        if module.kind == "parameter" or not targets(path):
            continue
        rank = rank_of(path)
        result.targeted[path] = (rank, alpha_of(path))
        _expect_lora(result, config, path, module, rank, era)
    _expect_parameters(result, config, modules, era, rank_of, alpha_of)
    _note_unsupported(result, config, modules, targets)
    _expect_saved_modules(result, targets.saved_modules, modules)
    _expect_tokens(result, config, modules, input_embedding)
    _allow_embeddings(result, config, modules)
    _allow_biases(result, config, modules)
    for name, lookup in (("rank_pattern", rank_of), ("alpha_pattern", alpha_of)):
        result.unused_patterns += [(name, key) for key in getattr(config, name) if key in lookup.unused]
    return result


def _expect_lora(result: Expectation, config: LoraConfig, path: str, module: Module, rank: int, era: Era) -> None:
    """The pair, and what the variants add to it (peft/tuners/lora/layer.py, variants.py)."""
    out_features, in_features = module.out_features, module.in_features
    if module.kind in ("linear", "conv1d") and str(config.init_lora_weights).startswith(("pissa", "olora")):
        rank = min(rank, in_features, out_features)  # a matrix has no more singular values, and Q no more columns
    if module.kind == "embedding":
        result.want(path, "lora_embedding_A", (rank, in_features))
        result.want(path, "lora_embedding_B", (out_features, rank))
    elif module.kind == "conv":
        kernel = module.weight_shape[2:]
        inner = rank
        if era.depthwise_convs and in_features == 1:
            in_features = out_features
            if rank % out_features == 0:  # PEFT 0.16 and newer take no other ranks; before, lora_B had no groups
                inner = rank // out_features
        result.want(path, "lora_A.weight", (rank, in_features, *kernel))
        result.want(path, "lora_B.weight", (out_features, inner, *(1 for _ in kernel)))
    else:
        if module.kind == "conv1d" and config.init_lora_weights == "olora":
            # PEFT computes its start from the weight as it lies, which Conv1D keeps transposed.
            out_features, in_features = in_features, out_features
        blocks_a, blocks_b = _block_diagonal(config, path)
        result.want(path, "lora_A.weight", (rank, in_features // blocks_a))
        result.want(path, "lora_B.weight", (out_features, rank // blocks_b))
    if config.use_dora:
        ones = tuple(1 for _ in module.weight_shape[2:])
        result.want(path, "lora_magnitude_vector", (1, out_features, *ones) if ones else (out_features,))
    if config.kasa_config is not None and module.kind == "linear":
        result.want(path, "lora_diag", (rank,))
    if config.lora_bias:
        result.allow(path, "lora_B.bias", (out_features,))
    _allow_training_state(result, config, path, in_features, rank)


def _block_diagonal(config: LoraConfig, path: str) -> tuple[int, int]:
    """BD-LoRA: how many blocks A's columns and B's columns are divided into (a substring of the path decides)."""
    settings = config.use_bdlora
    if settings is None:
        return 1, 1
    blocks = _positive(settings.get("nblocks"), 1)

    def divided(half: str) -> bool:
        names = settings.get(half)
        return isinstance(names, list | str) and any(isinstance(name, str) and name in path for name in names)

    return blocks if divided("target_modules_bd_a") else 1, blocks if divided("target_modules_bd_b") else 1


def _allow_training_state(result: Expectation, config: LoraConfig, path: str, in_features: int, rank: int) -> None:
    """Buffers of VeLoRA and MonteCLoRA: saved, and of no effect on the output."""
    if config.velora_config is not None:
        groups = _positive(config.velora_config.get("num_groups"), 64)
        result.allow(path, "lora_velora_embed", (-(-in_features // groups),))
    if config.monteclora_config is not None:
        samples = _positive(config.monteclora_config.get("num_samples"), 8)
        for name, shape in {
            "expert_weights": (samples,),
            "expert_weights_prior": (samples,),
            "std_prior": (rank,),
            "gaussian_var_prior": (rank, rank),
        }.items():
            result.allow(path, f"lora_monteclora_sampler.{name}", shape)


def _positive(value: Any, default: int) -> int:
    return value if type(value) is int and value > 0 else default


def _parameters(modules: Modules) -> Iterator[tuple[str, str, str, Module]]:
    """Every parameter: (full name, the path of the module that owns it, its name there, the module)."""
    for path, module in modules.items():
        if module.kind == "parameter":
            owner, _, part = path.rpartition(".")
            yield path, owner, part, module
        else:
            yield f"{path}.weight", path, "weight", module
            if module.bias:
                yield f"{path}.bias", path, "bias", module


def _parameter_shape(part: str, module: Module) -> Shape:
    return (module.out_features,) if part == "bias" and module.kind != "parameter" else module.weight_shape


def named_parameters(config: LoraConfig, modules: Modules) -> Iterator[tuple[str, str, Module]]:
    """Yield what ``target_parameters`` names: (full name, the path of the module that owns it, the module)."""
    suffixes = tuple(f".{name}" for name in config.target_parameters or ())
    exact = frozenset(config.target_parameters or ())
    if suffixes:
        for name, owner, part, module in _parameters(modules):
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
    for owner, parameters in by_owner.items():
        for position, (name, module) in enumerate(parameters):
            rank = rank_of(name)
            result.targeted[name] = (rank, alpha_of(name))
            nested = owner + ".base_layer" * (len(parameters) - 1 - position)
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
    for path in sorted(owners | containers(modules)):
        if path and path not in modules and targets(path):
            result.unsupported.append(path)


def _expect_saved_modules(result: Expectation, names: tuple[str, ...], modules: Modules) -> None:
    """``modules_to_save``: every parameter of every module whose path ends with the name.

    Without a dot boundary: ``head`` also names ``lm_head`` (peft/utils/other.py::_set_trainable).
    """
    if not names:
        return
    saved: dict[str, bool] = {}

    def is_saved(path: str) -> bool:
        if not path:
            return False
        known = saved.get(path)
        if known is None:
            known = saved[path] = path.endswith(names) or is_saved(path.rpartition(".")[0])
        return known

    for name, owner, part, module in _parameters(modules):
        if is_saved(owner):
            result.want(name, "", _parameter_shape(part, module))


def _embeddings(modules: Modules) -> list[tuple[str, Module]]:
    return [(path, module) for path, module in modules.items() if module.kind == "embedding"]


def _output_head(modules: Modules) -> tuple[str, Module] | None:
    path = output_head(modules)
    return None if path is None else (path, modules[path])


def _expect_tokens(result: Expectation, config: LoraConfig, modules: Modules, input_embedding: str | None) -> None:
    """Trainable tokens: one row per token id; a tied output head may carry a copy."""
    for name, tokens in config.trainable_token_indices.items():
        if name is None:
            owners = [(input_embedding, modules[input_embedding])] if input_embedding else _embeddings(modules)[:1]
        else:
            # Without a dot boundary: "tokens" also names "embed_tokens" (peft/utils/other.py::_set_trainable).
            owners = [(path, m) for path, m in modules.items() if m.kind != "parameter" and path.endswith(name)]
        for path, module in owners:
            vocab, width = module.weight_shape[0], module.weight_shape[-1]
            result.want(path, "token_adapter.trainable_tokens_delta", (len(tokens), width))
            result.allow_wrapped(modules, path, "token_adapter.base_layer")
            outside = [token for token in tokens if token >= vocab]
            if outside:
                result.bad_tokens[path] = outside
            head = _output_head(modules)
            if head and head[0] != path:
                result.allow(head[0], "token_adapter.trainable_tokens_delta", (len(tokens), width))
                result.allow_wrapped(modules, head[0], "token_adapter.base_layer")


def _allow_embeddings(result: Expectation, config: LoraConfig, modules: Modules) -> None:
    """Copies of the base's own embeddings that PEFT saves beside LoRA on them, or for tied weights."""
    head = _output_head(modules)
    pairs = _embeddings(modules) + ([head] if head else [])
    for path, _ in pairs:
        if path in result.targeted:
            result.allow_wrapped(modules, path, "base_layer")
    if not config.ensure_weight_tying or head is None:
        return
    for path, module in pairs:
        vocab, width = module.weight_shape
        rank = next((result.targeted[other][0] for other, _ in pairs if other in result.targeted), config.r)
        a_part, b_part = (
            ("lora_A.weight", "lora_B.weight") if path == head[0] else ("lora_embedding_A", "lora_embedding_B")
        )
        a_shape, b_shape = ((rank, width), (vocab, rank)) if path == head[0] else ((rank, vocab), (width, rank))
        result.allow(path, a_part, a_shape)
        result.allow(path, b_part, b_shape)
        result.allow(path, "base_layer.weight", module.weight_shape)
        result.allow(path, "weight", module.weight_shape)


def _allow_biases(result: Expectation, config: LoraConfig, modules: Modules) -> None:
    """``bias``: "all" saves every bias of the model, "lora_only" those of the adapted modules (PEFT 0.21 and newer).

    PEFT before 0.21 takes any parameter with "bias" in its name for one (peft/utils/save_and_load.py).
    """
    if config.bias == "all":
        result.allow_whole(modules, lambda name: "bias" in name)
    elif config.bias == "lora_only":
        targeted = {f"{path}.bias" for path in result.targeted}
        result.allow_whole(modules, targeted.__contains__)
