"""What a config calls for on a base model: tensors by name, and the layers that get LoRA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from lora_packer.adapter.keys import PREFIX, key_name
from lora_packer.base_model import Module, Modules
from lora_packer.frozen import frozen

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


@frozen
class Era:
    """What PEFT releases did differently on disk, and what a module's shape does not say.

    Attributes:
        swapped_experts: how 3-D parameters of (experts, out, in) are adapted: before 0.19, lora_A had the size of the
            second axis and lora_B that of the third; since 0.19 it is the other way round
            (peft/tuners/lora/layer.py::ParamWrapper).
        ungrouped_convs: whether lora_B of a grouped convolution has no groups: before 0.16 it had none
            (peft/tuners/lora/layer.py::_ConvNd).
        depthwise_convs: whether a convolution of unknown groups, whose kernels see one channel, has a kernel for each
            of its channels: lora_A then sees them all.
        last_index: which number of a path ``layers_to_transform`` means: before 0.20 the last one, an expert's, since
            then the first one (peft/tuners/tuners_utils.py::check_target_module_exists).
    """

    swapped_experts: bool = False
    ungrouped_convs: bool = False
    depthwise_convs: bool = False
    last_index: bool = False


class Parts(NamedTuple):
    """The tensors of one module by what they are of it, with their shapes; see ``Expectation``."""

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape]


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
        saved_with_tokens: the paths of modules that are saved whole and have trained tokens too.
        unused_patterns: the keys of ``rank_pattern`` and ``alpha_pattern`` that decide nothing: [(field, key)].
    """

    required: dict[str, Want] = field(default_factory=dict)
    optional: dict[str, Want] = field(default_factory=dict)
    targeted: dict[str, tuple[int, float]] = field(default_factory=dict)
    unsupported: list[str] = field(default_factory=list)
    bad_tokens: dict[str, list[int]] = field(default_factory=dict)
    experts: dict[str, tuple[str, int]] = field(default_factory=dict)
    saved_with_tokens: list[str] = field(default_factory=list)
    unused_patterns: list[tuple[str, str]] = field(default_factory=list)

    def want(self, path: str, part: str, shape: Shape) -> None:
        """Add a required tensor."""
        self.required[key_name(path, part)] = Want(shape, path, part)

    def add(self, path: str, parts: Parts) -> None:
        """Add the tensors of a module."""
        for part, shape in parts.required.items():
            self.required[f"{PREFIX}{path}.{part}"] = Want(shape, path, part)
        for part, shape in parts.optional.items():
            self.optional[key_name(path, part)] = Want(shape, path, part)

    def allow(self, path: str, part: str, shape: Shape) -> None:
        """Add an optional tensor."""
        self.optional[key_name(path, part)] = Want(shape, path, part)

    def allow_wrapped(self, modules: Modules, path: str, wrapper: str) -> None:
        """Add copies of all that the module at ``path`` holds, under the name of what PEFT wrapped it in."""
        for name, _, part, module in parameters(modules):
            if name.startswith(f"{path}."):
                self.allow(path, f"{wrapper}.{name.removeprefix(f'{path}.')}", parameter_shape(part, module))

    def allow_whole(self, modules: Modules, wanted: Callable[[str], bool]) -> None:
        """Add the base model's own parameters whose full name is wanted, as optional tensors."""
        for name, owner, part, module in parameters(modules):
            if wanted(name):
                shape = parameter_shape(part, module)
                self.allow(owner, f"base_layer.{part}" if owner in self.targeted else part, shape)


def parameters(modules: Modules) -> Iterator[tuple[str, str, str, Module]]:
    """Yield every parameter: (full name, the path of the module that owns it, its name there, the module)."""
    for path, module in modules.items():
        if module.kind == "parameter":
            owner, _, part = path.rpartition(".")
            yield path, owner, part, module
        else:
            yield f"{path}.weight", path, "weight", module
            if module.bias:
                yield f"{path}.bias", path, "bias", module


def parameter_shape(part: str, module: Module) -> Shape:
    """Return the shape of what ``parameters`` calls ``part`` of the module."""
    return (module.out_features,) if part == "bias" and module.kind != "parameter" else module.weight_shape
