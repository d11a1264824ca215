"""LoRA on a whole ``torch.nn.MultiheadAttention``: PEFT wraps its two projections, and neither alone.

``peft/tuners/lora/layer.py::MultiheadAttention`` of PEFT 0.21.2: q, k and v lie in one parameter, and the output layer
is wrapped inside, whatever names it. On the output layer alone LoRA has no effect, which PEFT's docstring says.
"""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.adapter.config import LoraConfig
from lora_packer.base_model import Modules
from lora_packer.peft.expectation import Expectation
from lora_packer.peft.targets import ALL_LINEAR, PatternLookup, Targeting

IN_PROJ = "in_proj_weight"
OUT_PROJ = "out_proj"


def is_attention(path: str, modules: Modules) -> bool:
    """Whether the module that holds others at ``path`` is a torch.nn.MultiheadAttention."""
    return f"{path}.{IN_PROJ}" in modules and f"{path}.{OUT_PROJ}" in modules


def attentions(modules: Modules) -> Iterator[str]:
    """Yield the path of each torch.nn.MultiheadAttention."""
    owners = (path.removesuffix(f".{IN_PROJ}") for path in modules if path.endswith(f".{IN_PROJ}"))
    yield from (path for path in owners if is_attention(path, modules))


def expect_attentions(
    result: Expectation,
    config: LoraConfig,
    modules: Modules,
    targets: Targeting,
    ranks: tuple[PatternLookup[int], PatternLookup[float]],
) -> None:
    """The pairs of each attention that is targeted itself; ``ranks`` has what gives it its rank and its alpha."""
    every = isinstance(config.target_modules, str) and config.target_modules.lower() == ALL_LINEAR
    for path in () if every else attentions(modules):
        if not targets(path):
            continue
        rank, alpha = ranks[0](path), ranks[1](path)
        result.targeted[path] = (rank, alpha)
        projection, out = modules[f"{path}.{IN_PROJ}"], modules[f"{path}.{OUT_PROJ}"]
        inside = f"{path}.base_layer.{OUT_PROJ}"
        for owner, (outputs, inputs) in ((path, projection.weight_shape[:2]), (inside, out.weight_shape[:2])):
            result.want(owner, "lora_A.weight", (rank, inputs))
            result.want(owner, "lora_B.weight", (outputs, rank))
            if config.lora_bias:
                result.allow(owner, "lora_B.bias", (outputs,))
        if config.bias == "all":
            result.allow(inside, "base_layer.bias", (out.out_features,))
        if f"{path}.{OUT_PROJ}" in result.targeted:  # wrapped twice: the inner one is saved with its own weights
            result.allow(f"{path}.{OUT_PROJ}", "base_layer.weight", out.weight_shape)
            result.allow(f"{path}.{OUT_PROJ}", "base_layer.bias", (out.out_features,))
