"""Gemma's models with towers: Gemma 3 and 4, PaliGemma, and those built on them."""

from __future__ import annotations

from lora_packer.base_model.architecture import (
    IMAGE_CLASSIFIER,
    TRANSFORMERS_5,
    Architectures,
    Build,
    Head,
    declared,
)
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    text_part,
)
from lora_packer.base_model.blocks.layers import chain, linear, norm
from lora_packer.base_model.blocks.projectors import llava_like
from lora_packer.base_model.models.vision_towers import vision_config
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _paligemma_projector(s: Settings, vision: Settings, _text: Settings) -> Named:
    yield from linear("multi_modal_projector.linear", s.size("projection_dim"), vision.hidden, bias=True)


def gemma3_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    """Gemma 3's projector."""
    weight = Module("parameter", (vision.hidden, text.hidden))
    yield "multi_modal_projector.mm_input_projection_weight", weight
    yield from norm("multi_modal_projector.mm_soft_emb_norm", vision.hidden)


def _shieldgemma2_classifier(build: Build) -> Build:
    """ShieldGemma 2's own class, which has the whole of Gemma 3 with its head inside."""

    def modules(s: Settings, _head: Head) -> Named:
        for path, module in build(s, "causal-lm"):
            yield f"model.{path}", module

    return modules


def _pi0(s: Settings, head: Head) -> Named:
    """A PaliGemma, and a Gemma that turns what it sees into actions."""
    before = "" if head == "none" else "model."
    (vlm, seeing), (acting, decoder) = _PI0_VLM.of(s), _PI0_ACTS.of(s)
    words, _ = _PALIGEMMA_TEXT.of(vlm)
    acting = acting.with_fields(vocab_size=words.vocab)
    yield from below(f"{before}vlm", seeing(vlm))
    yield from below(f"{before}dit", decoder(acting))
    if head != "none":
        hidden, actions = acting.hidden, s.size("max_action_dim")
        yield from linear("embed_action_time.action_in_proj", hidden, actions, bias=True)
        yield from linear("embed_action_time.state_proj", hidden, s.size("max_state_dim"), bias=True)
        yield from chain(
            "embed_action_time", (2 * hidden, hidden, hidden), "action_time_mlp_in", "action_time_mlp_out", bias=True
        )
        yield from linear("action_out_proj", actions, hidden, bias=True)


def _pi0_vlm(s: Settings) -> Named:
    return PALIGEMMA.dialects[TRANSFORMERS_5](s, "none")


_GEMMA3_TEXT = text_part("gemma3_text")
GEMMA3 = llava_like(_GEMMA3_TEXT, vision_config("siglip_vision_model"), gemma3_projector, text_class=True)
_PALIGEMMA_TEXT = text_part("gemma")
PALIGEMMA = llava_like(_PALIGEMMA_TEXT, vision_config("siglip_vision_model"), _paligemma_projector)
_PI0_VLM = Part("vlm_config", "paligemma", {"paligemma": Tower("paligemma", _pi0_vlm)}.get)
_PI0_ACTS = Part("dit_config", "gemma")

ARCHITECTURES: Architectures = {
    "gemma3": GEMMA3,
    "paligemma": PALIGEMMA,
    "shieldgemma2": composite(
        GEMMA3.dialects[TRANSFORMERS_5],
        {
            **{name: build for name, build in GEMMA3.dialects.items() if name != TRANSFORMERS_5},
            IMAGE_CLASSIFIER: _shieldgemma2_classifier(GEMMA3.dialects[TRANSFORMERS_5]),
        },
    ),
    "pi0": declared(_pi0, input_embedding="language_model.embed_tokens"),
}
