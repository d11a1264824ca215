"""Tensor names of other frameworks, recognised by their shape alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Framework(NamedTuple):
    """A framework whose names PEFT drops, and how to leave it."""

    name: str
    pattern: re.Pattern[str]
    way_out: str


FRAMEWORKS = (
    # github.com/ml-explore/mlx-lm mlx_lm/tuner/lora.py: lora_a (in, r), lora_b (r, out), no ".weight".
    Framework("MLX", re.compile(r"\.lora_[ab]$"), "Transpose and rename the tensors into PEFT's format."),
    # github.com/pytorch/torchtune torchtune/models/convert_weights.py
    Framework(
        "torchtune",
        re.compile(r"^layers\.\d+\.(?:attn|mlp)\.\w+\.lora_[ab]\.weight$"),
        "Save with torchtune's adapter checkpoint in PEFT format (tune_to_peft_adapter_weights).",
    ),
    # github.com/kohya-ss/sd-scripts networks/lora.py; diffusers' older attention processors.
    Framework(
        "kohya or diffusers",
        re.compile(r"^lora_(?:unet|te\d?)_|\.lora_(?:up|down)\.weight$|\.lora\.(?:up|down)\.weight$"),
        "This adapter is for an image model; it cannot be served as a language model's.",
    ),
    # github.com/NVIDIA-NeMo/Megatron-Bridge: linear_in and linear_out below adapter.
    Framework(
        "Megatron",
        re.compile(r"\.adapter\.linear_(?:in|out)\.weight$|\.linear_(?:qkv|fc[12])\."),
        "Export it with Megatron-Bridge's save_hf_adapter.",
    ),
)


def foreign_framework(names: Iterable[str]) -> Framework | None:
    """Return the framework that most of these names come from, else None."""
    names = list(names)
    for framework in FRAMEWORKS:
        if 2 * sum(framework.pattern.search(name) is not None for name in names) > len(names):
            return framework
    return None
