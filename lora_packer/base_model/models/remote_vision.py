"""Models that see, whose code is in their own repositories, each around a whole language model."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architectures,
    Build,
    Head,
    Proof,
    remote,
)
from lora_packer.base_model.blocks.composite import Part, Tower, below, fixed, whole_language_model
from lora_packer.base_model.blocks.layers import chain, layer_norm
from lora_packer.base_model.blocks.towers import intern_vit
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture

_INTERN_VIT = fixed("vision_config", Tower("intern_vit_6b", intern_vit))


def _internvl_chat(dialect: str) -> Build:
    """InternVL 1.2 to 3.5 before their transfer to transformers: the tower, two linears, and the language model."""
    language = Part("llm_config", "llama", partial(whole_language_model, dialect=dialect))

    def build(s: Settings, _head: Head) -> Named:
        if s.count("use_backbone_lora") or s.count("use_llm_lora"):
            raise UnknownArchitecture(
                "there is no proven definition for an InternVL with LoRA in itself (use_llm_lora, use_backbone_lora).",
                hint="Give the config of the base model before training, in which both are 0.",
            )
        vision, visual = _INTERN_VIT.of(s)
        text, decoder = language.of(s)
        yield from below("vision_model", visual(vision))
        merged = vision.hidden * int(1 / s.ratio("downsample_ratio")) ** 2
        yield from layer_norm("mlp1.0", merged)
        yield from chain("mlp1", (merged, text.hidden, text.hidden), "1", "3", bias=True)
        yield from below("language_model", decoder(text))

    return build


ARCHITECTURES: Architectures = {
    "internvl_chat": remote(
        _internvl_chat(TRANSFORMERS_5),
        Proof(
            "read",
            "vllm/model_executor/models/internvl.py and intern_vit.py (vllm 0.33.0), with that of the language model",
        ),
        {TRANSFORMERS_4: _internvl_chat(TRANSFORMERS_4)},
        text_config="llm_config",
        classes={"InternVLChatModel": "causal-lm"},
    ),
}
