"""Tensor names of other frameworks and tools, recognised by their form alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lora_packer.adapter.keys import PREFIX
from lora_packer.adapter.kohya import is_kohya
from lora_packer.base_model import BaseModel
from lora_packer.inspector.kohya import modules_named


class Framework(NamedTuple):
    """A framework whose names PEFT drops, and how to leave it."""

    name: str
    pattern: re.Pattern[str]
    way_out: str


_MERGE = "Merge it into the base model (merge_and_unload), or train a LoRA adapter."
_TRAIN = "Train a LoRA adapter: this method cannot be merged into a model."
_WAY_OUT = {"X-LoRA": _TRAIN, "a prompt method": _TRAIN}

# How torchtune keeps the rows of q_proj and k_proj, by model type: in Meta's order (torchtune/models/convert_weights.py
# and gemma2/_convert_weights.py, hf_to_tune), or as transformers has them (qwen2 and qwen3/_convert_weights.py).
TORCHTUNE_TURNS = ("llama", "mistral", "gemma", "gemma2")
TORCHTUNE_AS_IT_IS = ("qwen2", "qwen3")

# What rank and alpha are called: by PEFT, Megatron-Bridge (peft/lora.py), NeMo 1 (peft.lora_tuning of its config).
MEGATRON_NUMBERS = (("r", "lora_alpha"), ("dim", "alpha"), ("adapter_dim", "alpha"))

KOHYA = "kohya or diffusers"
RENAME_HALVES = (
    "Name the tensors base_model.model.<module path>.lora_A.weight and lora_B.weight: down is A, up is B, and an alpha "
    "beside them is lora_alpha."
)

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
        KOHYA,
        re.compile(
            r"^lora_(?:unet|te\d?)_|^(?:unet|text_encoder(?:_\d)?|diffusion_model)\."
            r"|^transformer\.(?:single_)?transformer_blocks\."
        ),
        "This adapter is for an image model; it cannot be served as a language model's.",
    ),
    Framework(KOHYA, re.compile(r"\.lora[._](?:up|down)\.weight$|\.dora_scale$"), RENAME_HALVES),
    # github.com/NVIDIA-NeMo/Megatron-Bridge: linear_in and linear_out below adapter.
    Framework(
        "Megatron",
        re.compile(
            r"\.adapter(?:_layer\.lora_\w+(?:\.\w+_adapter)?)?\.linear_(?:in|out)\.weight$|^(?!base_model\.).*\.linear_(?:qkv|proj|fc[12])\."
        ),
        "Export it with Megatron-Bridge's save_hf_adapter.",
    ),
    # github.com/huggingface/peft src/peft/tuners: what the other methods call their parameters.
    *(
        Framework(f"another PEFT method ({method})", re.compile(pattern), _WAY_OUT.get(method, _MERGE))
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
# Tools that write PEFT's names around modules of their own, which the base model has under another name.
TOOLS = (
    # github.com/thinking-machines-lab/tinker-cookbook issues 193 and 525, tinker_cookbook/weights/_adapter.py
    Framework(
        "Tinker",
        re.compile(r"(?:^|\.)unembed_tokens\.|\.in_proj_[qkv]\.lora_|\.experts\.w[123]\.lora_"),
        "Export it with tinker_cookbook.weights.build_lora_adapter, which gives them the base model's names "
        "(unembed_tokens is lm_head).",
    ),
    # github.com/unslothai/unsloth issues 3405 and 4193: the experts of its 4-bit gpt-oss are layers of their own.
    Framework(
        "Unsloth's unfused experts",
        re.compile(r"\.(?:gate_up|down|gate|up)_projs\.\d+\."),
        'Merge it with Unsloth\'s save_pretrained_merged(save_method="merged_16bit"), or train the experts through '
        "target_parameters.",
    ),
    # github.com/haotian-liu/LLaVA llava/model/multimodal_projector/builder.py, scripts/merge_lora_weights.py
    Framework(
        "LLaVA's own code",
        re.compile(r"(?:^|\.)mm_projector\.|\.vision_tower\.vision_tower\."),
        "Merge it with LLaVA's scripts/merge_lora_weights.py, or train it with the class of transformers.",
    ),
)
# github.com/unslothai/unsloth issue 3622 (Llama 4): of a base model that has its experts in one tensor.
_ONE_BY_ONE = Framework(
    "experts one by one, which the base model has in one tensor",
    re.compile(r"\.experts\.\d+\."),
    "Merge it with the tool that trained it, or train the experts through target_parameters.",
)
_PEFT_PARTS = (".lora_A.weight", ".lora_B.weight")


def tool_of(names: Iterable[str], *, fused: bool) -> Framework | None:
    """Return the tool or framework that one of these names is known of, else None.

    ``fused``: whether the base model has all experts of a layer in one tensor.
    """
    names = list(names)
    known = (*TOOLS, *((_ONE_BY_ONE,) if fused else ()), *FRAMEWORKS)
    return next((one for one in known if any(one.pattern.search(name) for name in names)), None)


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


def is_convertible(
    framework: Framework, names: Iterable[str], config: Mapping[str, Any], base: BaseModel | str
) -> bool:
    """Whether `fix` knows the framework's layout on this base model, and the config says rank and scale."""
    if framework.name == "MLX":
        return isinstance(config.get("lora_parameters"), dict)
    if isinstance(base, str):
        return False
    if framework.name == "torchtune":
        return {"r", "lora_alpha"} <= config.keys() and base.model_type in (*TORCHTUNE_TURNS, *TORCHTUNE_AS_IT_IS)
    if framework.name == "Megatron":
        return any(set(names) <= config.keys() for names in MEGATRON_NUMBERS)
    if framework.name == KOHYA:
        return is_kohya(names) and modules_named(names, base) is not None
    return False
