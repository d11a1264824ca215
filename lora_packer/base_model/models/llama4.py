"""Llama 4: the decoder with experts, and the model that sees."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TEXT_ONLY, Architecture, Head, declared
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_only
from lora_packer.base_model.blocks.feed_forward import gated_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import QUERY_VALUE, framed, stacked
from lora_packer.base_model.blocks.layers import layer_norm, linear
from lora_packer.base_model.blocks.towers import patches
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _llama4_text(s: Settings) -> Named:
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    sparse = _moe_layers(s)

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        path = f"{prefix}.feed_forward"
        if index not in sparse:
            yield from gated_mlp(path, hidden, s.size("intermediate_size_mlp"))
            return
        experts = s.size("num_local_experts")
        yield linear(f"{path}.router", experts, hidden)
        yield f"{path}.experts.gate_up_proj", Module("parameter", (experts, hidden, 2 * intermediate))
        yield f"{path}.experts.down_proj", Module("parameter", (experts, intermediate, hidden))
        yield from gated_mlp(f"{path}.shared_expert", hidden, intermediate)

    return stacked(s, layer)


def _moe_layers(s: Settings) -> frozenset[int]:
    if s.value("moe_layers") is not None:
        return s.indices("moe_layers")
    step = s.size("interleave_moe_layer_step")
    return frozenset(range(step - 1, s.size("num_hidden_layers"), step))


def _llama4_visual(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    height, width = s.pair("patch_size")
    yield "class_embedding", Module("parameter", (hidden,))
    yield "positional_embedding_vlm", Module("parameter", (patches(s) + 1, hidden))
    yield linear("patch_embedding.linear", hidden, s.size("num_channels") * height * width)
    yield from layer_norm("layernorm_pre", hidden)
    yield from layer_norm("layernorm_post", hidden)
    for index in range(s.size("num_hidden_layers")):
        yield from visual_layer(f"model.layers.{index}", hidden, inner, bias=True)
    yield linear("vision_adapter.mlp.fc1", s.size("projector_input_dim"), inner)
    yield linear("vision_adapter.mlp.fc2", s.size("projector_output_dim"), s.size("projector_output_dim"))


def visual_layer(path: str, hidden: int, inner: int, *, bias: bool) -> Named:
    """Yield a layer of the tower, as Llama 3.2's has it too."""
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield linear(f"{path}.self_attn.{name}", hidden, hidden, bias=bias)
    yield from two_linears_mlp(f"{path}.mlp", hidden, inner)
    yield from layer_norm(f"{path}.input_layernorm", hidden)
    yield from layer_norm(f"{path}.post_attention_layernorm", hidden)


def _llama4(s: Settings, _head: Head) -> Named:
    """The class with the vision tower, which stands for the bare model too; its head is the language model's."""
    vision, visual = _LLAMA4_VISION.of(s)
    text, _ = _LLAMA4_TEXT.of(s)
    yield from below("vision_model", visual(vision))
    yield linear("multi_modal_projector.linear_1", text.size("hidden_size"), vision.size("vision_output_dim"))
    yield from below("language_model", framed(_llama4_text)(text, "causal-lm"))


_LLAMA4_TEXT = fixed("text_config", Tower("llama4_text", _llama4_text))
_LLAMA4_VISION = fixed("vision_config", Tower("llama4_vision_model", _llama4_visual))

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama4": composite(_llama4, {TEXT_ONLY: text_only(_LLAMA4_TEXT)}, targets=QUERY_VALUE),
    "llama4_text": declared(framed(_llama4_text)),
}
