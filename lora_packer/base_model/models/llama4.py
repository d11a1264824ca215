"""Llama 4: the decoder with experts, and the model that sees."""

from __future__ import annotations

from lora_packer.base_model.architecture import TEXT_ONLY, Architectures, Head, declared
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_only
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import QUERY_VALUE, framed, stacked
from lora_packer.base_model.blocks.layers import layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import patches
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _llama4_text(s: Settings) -> Named:
    sparse = _moe_layers(s)

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        path = f"{prefix}.feed_forward"
        if index not in sparse:
            yield from gated_mlp(path, s.hidden, s.size("intermediate_size_mlp"))
            return
        experts = s.size("num_local_experts")
        yield from linear(f"{path}.router", experts, s.hidden)
        yield from parameter(f"{path}.experts.gate_up_proj", experts, s.hidden, 2 * s.inner)
        yield from parameter(f"{path}.experts.down_proj", experts, s.inner, s.hidden)
        yield from plain_mlp(s, f"{path}.shared_expert")

    return stacked(s, layer)


def _moe_layers(s: Settings) -> frozenset[int]:
    if s.value("moe_layers") is not None:
        return s.indices("moe_layers")
    step = s.size("interleave_moe_layer_step")
    return frozenset(range(step - 1, s.layers, step))


def _llama4_visual(s: Settings) -> Named:
    height, width = s.pair("patch_size")
    yield from parameter("class_embedding", s.hidden)
    yield from parameter("positional_embedding_vlm", patches(s) + 1, s.hidden)
    yield from linear("patch_embedding.linear", s.hidden, s.size("num_channels") * height * width)
    yield from layer_norm("layernorm_pre", s.hidden)
    yield from layer_norm("layernorm_post", s.hidden)
    for index in range(s.layers):
        yield from visual_layer(f"model.layers.{index}", s.hidden, s.inner, bias=True)
    yield from linear("vision_adapter.mlp.fc1", s.size("projector_input_dim"), s.inner)
    yield from linear("vision_adapter.mlp.fc2", s.size("projector_output_dim"), s.size("projector_output_dim"))


def visual_layer(path: str, hidden: int, inner: int, *, bias: bool) -> Named:
    """Yield a layer of the tower, as Llama 3.2's has it too."""
    yield from linear(f"{path}.self_attn", hidden, hidden, "q_proj", "k_proj", "v_proj", "o_proj", bias=bias)
    yield from two_linears_mlp(f"{path}.mlp", hidden, inner)
    yield from layer_norm(path, hidden, "input_layernorm", "post_attention_layernorm")


def _llama4(s: Settings, _head: Head) -> Named:
    """The class with the vision tower, which stands for the bare model too; its head is the language model's."""
    vision, visual = _LLAMA4_VISION.of(s)
    text, _ = _LLAMA4_TEXT.of(s)
    yield from below("vision_model", visual(vision))
    yield from linear("multi_modal_projector.linear_1", text.hidden, vision.size("vision_output_dim"))
    yield from below("language_model", framed(_llama4_text)(text, "causal-lm"))


_LLAMA4_TEXT = fixed("text_config", Tower("llama4_text", _llama4_text))
_LLAMA4_VISION = fixed("vision_config", Tower("llama4_vision_model", _llama4_visual))

ARCHITECTURES: Architectures = {
    "llama4": composite(_llama4, {TEXT_ONLY: text_only(_LLAMA4_TEXT)}, targets=QUERY_VALUE),
    "llama4_text": declared(framed(_llama4_text)),
}
