"""Tensor names of other frameworks, recognised by their shape alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from lora_packer.adapter.keys import PREFIX


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
        re.compile(r"^(?:layers\.\d+\.(?:attn|mlp)\.\w+|output|tok_embeddings)\.lora_[ab]\.weight$"),
        "Save with torchtune's adapter checkpoint in PEFT format (tune_to_peft_adapter_weights).",
    ),
    # github.com/kohya-ss/sd-scripts networks/lora.py; github.com/huggingface/diffusers loaders/lora_pipeline.py.
    Framework(
        "kohya or diffusers",
        re.compile(
            r"^lora_(?:unet|te\d?)_|\.lora_(?:up|down)\.weight$|\.lora\.(?:up|down)\.weight$|\.dora_scale$"
            r"|^(?:unet|text_encoder(?:_\d)?|diffusion_model)\.|^transformer\.(?:single_)?transformer_blocks\."
        ),
        "This adapter is for an image model; it cannot be served as a language model's.",
    ),
    # github.com/NVIDIA-NeMo/Megatron-Bridge: linear_in and linear_out below adapter.
    Framework(
        "Megatron",
        re.compile(r"\.adapter\.linear_(?:in|out)\.weight$|^(?!base_model\.).*\.linear_(?:qkv|proj|fc[12])\."),
        "Export it with Megatron-Bridge's save_hf_adapter.",
    ),
    # github.com/huggingface/peft src/peft/tuners: what the other methods call their parameters.
    *(
        Framework(f"another PEFT method ({method})", re.compile(pattern), "Train a LoRA adapter, or merge this one.")
        for method, pattern in {
            "AdaLoRA": r"\.lora_E$|\.ranknum$",
            "LoHa": r"\.hada_[wt]\d",
            "LoKr": r"\.lokr_[wt]\d",
            "IA3": r"\.ia3_l",
            "OFT": r"\.oft_[rR]",
            "BOFT": r"\.boft_[RsP]",
            "VeRA": r"\.vera_lambda_[bd]",
            "VB-LoRA": r"\.vblora_",
            "X-LoRA": r"internal_xlora_classifier",
            "a prompt method": r"^prompt_(?:embeddings|encoder)|\.prompt_(?:embeddings|encoder)",
        }.items()
    ),
)
_PEFT_PARTS = (".lora_A.weight", ".lora_B.weight")


def foreign_framework(names: Iterable[str]) -> Framework | None:
    """Return the framework that most of these names come from, else None."""
    names = list(names)
    doubtful = [name for name in names if not (name.endswith(_PEFT_PARTS) and name.startswith(PREFIX))]
    if 2 * len(doubtful) <= len(names):
        return None
    for framework in FRAMEWORKS:
        if 2 * sum(framework.pattern.search(name) is not None for name in doubtful) > len(names):
            return framework
    return None
