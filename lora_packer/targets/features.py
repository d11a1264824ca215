"""Which features an adapter uses: what a target may do something of its own with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from lora_packer.adapter.config import LoraConfig
from lora_packer.adapter.keys import EXPERTS, TensorKey, around_expert, kept, parse_key
from lora_packer.adapter.safetensors_header import TensorInfo
from lora_packer.frozen import frozen

# Feature -> what to call it in a sentence.
FEATURES: Mapping[str, str] = MappingProxyType(
    {
        "use_dora": "DoRA",
        "use_rslora": "rsLoRA's scale",
        "rank_pattern": "ranks of single modules",
        "alpha_pattern": "scales of single modules",
        "bias": "trained biases",
        "lora_bias": "biases on lora_B",
        "modules_to_save": "fully trained modules",
        "classification_head": "a fully trained classification head",
        "embeddings": "LoRA on the input embedding",
        "lm_head": "LoRA on the output head",
        "whole_weights": "whole weights of an embedding or output head",
        "base_layer": "weights of the base model",
        "trainable_token_indices": "trained token rows",
        "changed_base": "an init that changes the base model's weights",
        "layer_replication": "replicated layers",
        "alora_invocation_tokens": "activated LoRA",
        "use_bdlora": "block-diagonal LoRA",
        "use_qalora": "QALoRA",
        "kasa_config": "KaSA",
        "target_parameters": "LoRA on fused expert parameters",
        "per_expert": "LoRA on single experts",
        "targets_null": "target_modules without a value",
        "targets_pattern": "target_modules as a pattern",
        "targets_all_linear": "target_modules as 'all-linear'",
        "resized_vocabulary": "a resized vocabulary",
        "partial_layers": "LoRA on some of the layers",
        "stray_weights": "other files of weights beside it",
        "added_tokens": "added_tokens.json beside it",
        "odd_dtype": "a dtype other than BF16, F16 and F32",
        "velora_or_monteclora": "tensors of VeLoRA or MonteCLoRA",
        "peft_format": "PEFT's format",
    }
)

# The inits after which PEFT takes the start out of the base model's weights when it loads the adapter
# (peft/tuners/lora/layer.py::update_layer, 0.21.2).
_CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq")
_CLASSIFIERS = frozenset({"classifier", "score"})
_ONE_EXPERT = re.compile(r"\.experts\.\d+\.")
_ALL_EXPERTS = re.compile(r"\.experts(\.base_layer)*$")
_OUTPUT_HEADS = frozenset({"lm_head", "embed_out", "output"})
# What LoRA on a module of this name is, and what a tensor shows whose part begins so.
_OF_A_LEAF: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_OUTPUT_HEADS, ("lm_head",)),
    **dict.fromkeys(("embed_tokens", "wte", "word_embeddings"), ("embeddings",)),
}
_OF_A_PART: Mapping[str, str] = {
    "lora_magnitude_vector": "use_dora",
    "lora_B.bias": "lora_bias",
    "lora_diag": "kasa_config",
    "lora_velora": "velora_or_monteclora",
    "lora_monteclora": "velora_or_monteclora",
    "token_adapter.": "trainable_token_indices",
}
_FIELD = {
    "changed_base": "init_lora_weights",
    "classification_head": "modules_to_save",
    "partial_layers": "layers_to_transform",
    "per_expert": None,
    "embeddings": None,
    "lm_head": None,
    "whole_weights": None,
    "base_layer": None,
    "resized_vocabulary": None,
    "stray_weights": None,
    "added_tokens": None,
    "odd_dtype": None,
    "velora_or_monteclora": None,
    "peft_format": None,
    "targets_null": "target_modules",
    "targets_pattern": "target_modules",
    "targets_all_linear": "target_modules",
}


@frozen
class Use:
    """A feature that an adapter uses.

    Attributes:
        of: the feature.
        config: whether the config says so.
        tensors: the names of the tensors that show it.
        files: the files that show it.
    """

    of: str
    config: bool = False
    tensors: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def field(self) -> str | None:
        """The field of the config that it is about."""
        return _FIELD.get(self.of, self.of)

    def counts(self, by: str) -> bool:
        """Whether it is used for a target that looks at the config, at the tensors, or at both."""
        if by == "tensors":
            return bool(self.tensors)
        return bool(self.config or self.tensors or self.files) if by != "config" else self.config


def used_features(config: LoraConfig, tensors: Mapping[str, TensorInfo], files: Iterable[str] = ()) -> dict[str, Use]:
    """Return the features that an adapter uses, in the order of ``FEATURES``."""
    of_config = {feature: says(config) for feature, says in _BY_CONFIG.items()}
    shown: dict[str, list[str]] = {}
    of_experts: dict[tuple[str, str], tuple[str, ...]] = {}
    for name, info in tensors.items():
        if EXPERTS in name:
            before, expert, part = around_expert(name)
            if not expert or (features := of_experts.get((before, part))) is None:
                features = of_experts[before, part] = _shown_by(parse_key(name))
        else:
            features = _shown_by_name(name)
        for feature in features:
            shown.setdefault(feature, []).append(name)
        if info.dtype not in ("BF16", "F16", "F32"):
            shown.setdefault("odd_dtype", []).append(name)
    beside = _beside(files)
    found = {}
    for feature in FEATURES:
        use = Use(feature, of_config.get(feature, False), tuple(shown.get(feature, ())), beside.get(feature, ()))
        if use.config or use.tensors or use.files:
            found[feature] = use
    return found


@kept
def _shown_by_name(name: str) -> tuple[str, ...]:
    """The features that a tensor of this name shows."""
    return _shown_by(parse_key(name))


def _shown_by(key: TensorKey) -> tuple[str, ...]:
    """The features that one tensor shows."""
    part = key.part
    leaf = key.path.rpartition(".")[2]
    if part in ("lora_A.weight", "lora_B.weight"):
        return _OF_A_LEAF.get(leaf, ()) + (_of_experts(key.path, leaf) if ".experts" in key.path else ())
    if part.startswith("lora_embedding_"):
        return ("lm_head",) if leaf in _OUTPUT_HEADS else ("embeddings",)
    if part.startswith("base_layer."):
        return ("bias",) if part.endswith(".bias") else ("base_layer",)
    if not part:
        return (_shown_by_a_weight(key.path),)
    return next(((feature,) for begin, feature in _OF_A_PART.items() if part.startswith(begin)), ())


def _of_experts(path: str, leaf: str) -> tuple[str, ...]:
    single = ("per_expert",) if _ONE_EXPERT.search(path) else ()
    fused = ("target_parameters",) if leaf in ("experts", "base_layer") and _ALL_EXPERTS.search(path) else ()
    return single + fused


def _shown_by_a_weight(path: str) -> str:
    owner, _, kind = path.rpartition(".")
    leaf = owner.rpartition(".")[2]
    if leaf in _CLASSIFIERS or owner.endswith(("classifier.out_proj", "classifier.dense")):
        return "classification_head"
    if leaf in _OUTPUT_HEADS or "embed" in leaf or leaf == "wte":
        return "whole_weights"
    return "bias" if kind == "bias" else "modules_to_save"


def _beside(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The features that files at the adapter's root show."""
    root = [name for name in files if "/" not in name]
    weights = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
    strays = [name for name in root if name.endswith(weights) and name != "adapter_model.safetensors"]
    strays = [name for name in strays if name.endswith(".safetensors") or name == "adapter_model.bin"]
    return {
        "stray_weights": tuple(sorted(strays)),
        "added_tokens": ("added_tokens.json",) if "added_tokens.json" in root else (),
    }


def _changes_the_base(config: LoraConfig) -> bool:
    init = config.init_lora_weights
    return isinstance(init, str) and init.lower().startswith(_CHANGES_THE_BASE)


def _other_ranks(config: LoraConfig) -> bool:
    return any(rank != config.r for rank in config.rank_pattern.values())


def _other_alphas(config: LoraConfig) -> bool:
    return any(alpha != config.lora_alpha for alpha in config.alpha_pattern.values())


def _saved(config: LoraConfig) -> bool:
    return any(name not in _CLASSIFIERS for name in config.modules_to_save)


def _pattern(config: LoraConfig) -> bool:
    targets = config.target_modules
    return isinstance(targets, str) and targets.lower() != "all-linear"


_BY_CONFIG: Mapping[str, Callable[[LoraConfig], bool]] = MappingProxyType(
    {
        "use_dora": lambda config: config.use_dora,
        "use_rslora": lambda config: config.use_rslora and config.r > 1,
        "rank_pattern": _other_ranks,
        "alpha_pattern": _other_alphas,
        "bias": lambda config: config.bias != "none",
        "lora_bias": lambda config: config.lora_bias,
        "modules_to_save": _saved,
        "classification_head": lambda config: any(name in _CLASSIFIERS for name in config.modules_to_save),
        "trainable_token_indices": lambda config: bool(config.trainable_token_indices),
        "changed_base": _changes_the_base,
        "alora_invocation_tokens": lambda config: bool(config.alora_invocation_tokens),
        "layer_replication": lambda config: bool(config.layer_replication),
        "use_bdlora": lambda config: bool(config.use_bdlora),
        "use_qalora": lambda config: config.use_qalora,
        "kasa_config": lambda config: bool(config.kasa_config),
        "target_parameters": lambda config: bool(config.target_parameters),
        "targets_null": lambda config: config.target_modules is None,
        "targets_pattern": _pattern,
        "targets_all_linear": lambda config: (
            isinstance(config.target_modules, str) and config.target_modules.lower() == "all-linear"
        ),
        "partial_layers": lambda config: config.layers_to_transform is not None,
        "peft_format": lambda config: config.r > 0,
    }
)
