"""Microsoft's Phi: decoders, experts, and the model that sees and hears."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architectures,
    Head,
    Proof,
    declared,
    like,
    remote,
)
from lora_packer.base_model.blocks.attention import attention, head_sizes, layer_norms_of_heads, plain_attention
from lora_packer.base_model.blocks.composite import Tower, below, fixed
from lora_packer.base_model.blocks.conformer import halved, halving_convolutions
from lora_packer.base_model.blocks.experts import Experts, fused_weights, numbered_experts
from lora_packer.base_model.blocks.feed_forward import fused_gated_mlp, ungated_mlp
from lora_packer.base_model.blocks.frames import aliased, framed, head_modules, numbered, stacked
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import clip, siglip
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


def _phi3(s: Settings) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.self_attn.qkv_proj", (heads + 2 * kv_heads) * head_dim, s.hidden)
        yield from linear(f"{prefix}.self_attn.o_proj", s.hidden, heads * head_dim)
        yield from fused_gated_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _phi(s: Settings) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        for name, size in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield from linear(f"{prefix}.self_attn.{name}", size * head_dim, s.hidden, bias=True)
        yield from linear(f"{prefix}.self_attn.dense", s.hidden, heads * head_dim, bias=True)
        yield from layer_norms_of_heads(s, f"{prefix}.self_attn")
        yield from ungated_mlp(s, f"{prefix}.mlp", ("fc1", "fc2"), bias=True)

    return stacked(s, layer, norms=("input_layernorm",), kind=layer_norm, last_norm="final_layernorm")


def _phimoe(s: Settings) -> Named:
    def experts(prefix: str, hidden: int, intermediate: int, count: int) -> Named:
        yield from linear(f"{prefix}.router", count, hidden)
        yield from fused_weights(f"{prefix}.experts", hidden, intermediate, count)

    return _phimoe_of(s, experts, "mlp")


def _phimoe_before_5(s: Settings) -> Named:
    return _phimoe_of(s, numbered_experts, "block_sparse_moe")


def _phimoe_of(s: Settings, experts: Experts, block: str) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from experts(f"{prefix}.{block}", s.hidden, s.inner, s.size("num_local_experts"))
        yield from layer_norm(prefix, s.hidden, "input_layernorm", "post_attention_layernorm")

    yield from stacked(s, layer, norms=())
    yield from parameter("norm.bias", s.hidden)


def _phimoe_head(s: Settings, head: Head) -> Named:
    return head_modules(s, head, output_bias=s.flag("lm_head_bias"))


def _phi4(s: Settings) -> Named:
    """The decoder of Phi-3, and what embeds images and sound."""
    yield from PHI3.dialects[TRANSFORMERS_5](s, "none")
    vision, visual = _PHI4_VISION_PART.of(s)
    path = "embed_tokens_extend.image_embed"
    yield from below(f"{path}.img_processor", visual(vision))
    yield from chain(path, (vision.hidden, s.hidden, s.hidden), "img_projection_up", "img_projection_down", bias=True)
    yield from parameter(f"{path}.global_img_feature_extensor", 1, 1, vision.hidden)
    yield from parameter(f"{path}.sub_img_feature_extensor", 1, 1, 1, vision.hidden)
    audio, heard = _PHI4_AUDIO_PART.of(s)
    path, frames = "embed_tokens_extend.audio_embed", audio.hidden * audio.size("downsample_rate")
    yield from below(f"{path}.encoder", heard(audio))
    for name in ("speech", "vision_speech"):
        yield from linear(f"{path}.up_proj_for_{name}", s.hidden, frames, bias=True)
        yield from linear(f"{path}.down_proj_for_{name}", s.hidden, s.hidden, bias=True)


def _phi4_audio(s: Settings) -> Named:
    """A conformer."""
    channels = s.size("nemo_conv_channels")
    yield from halving_convolutions("embed.conv", channels, s.size("time_reduction"))
    bands = halved(s.size("input_size"), s.size("time_reduction"))
    yield from linear("embed.out", s.hidden, channels * (s.optional_size("nemo_final_size") or bands), bias=True)
    buckets = s.size("bias_max_distance") * (1 if s.flag("bias_symmetric") else 2)
    yield from embedding("relative_attention_bias_layer.bias_values", buckets, s.heads)
    for index in range(s.size("num_blocks")):
        yield from _phi4_audio_layer(s, f"encoders.{index}", s.hidden)


def _phi4_audio_layer(s: Settings, path: str, hidden: int) -> Named:
    head_dim = s.optional_size("head_dim") or hidden // s.heads
    for name in ("feed_forward_in", "feed_forward_out"):
        yield from layer_norm(f"{path}.{name}.layer_norm", hidden)
        yield from linear(f"{path}.{name}.gate_up_proj", 2 * s.inner, hidden, bias=True)
        yield from linear(f"{path}.{name}.down_proj", hidden, s.inner, bias=True)
    yield from attention(f"{path}.self_attn", hidden, s.heads, s.heads, head_dim, bias=True, output_bias=True)
    pointwise, deep = s.size("ext_pw_out_channel"), hidden * s.size("depthwise_multiplier")
    yield from layer_norm(f"{path}.conv.layer_norm", hidden)
    yield from conv(f"{path}.conv.glu.ext_pw_conv_1d", (2 * pointwise, hidden, 1), bias=True)
    yield from parameter(f"{path}.conv.glu.b1", 1, pointwise, 1)
    yield from parameter(f"{path}.conv.glu.b2", 1, pointwise, 1)
    yield from conv(f"{path}.conv.dw_sep_conv_1d.dw_conv", (deep, 1, s.size("kernel_size")), bias=True, groups=hidden)
    separable = (s.size("depthwise_separable_out_channel"), deep, 1)
    yield from conv(f"{path}.conv.dw_sep_conv_1d.pw_conv", separable, bias=True)
    yield from conv(f"{path}.conv.ext_pw_conv_1d", (pointwise, hidden, 1), bias=True)
    yield from layer_norm(path, hidden, "layer_norm_att", "layer_norm")


PHI3 = declared(framed(_phi3))
_phimoe_frame = partial(framed, heads=_phimoe_head)
_PHI4_VISION_PART = fixed("vision_config", Tower("phi4_multimodal_vision", siglip))
_PHI4_AUDIO_PART = fixed("audio_config", Tower("phi4_multimodal_audio", _phi4_audio))


def _phi_block(s: Settings, prefix: str) -> Named:
    """A layer as Phi's first repositories have it: one norm, and attention beside the feed-forward block."""
    heads, inner = s.heads, s.optional_size("n_inner") or 4 * s.hidden
    kv_heads, head_dim = s.optional_size("n_head_kv") or heads, s.hidden // heads
    yield from layer_norm(f"{prefix}.ln", s.hidden)
    yield from linear(f"{prefix}.mixer.Wqkv", (heads + 2 * kv_heads) * head_dim, s.hidden, bias=True)
    yield from linear(f"{prefix}.mixer.out_proj", s.hidden, heads * head_dim, bias=True)
    yield from chain(f"{prefix}.mlp", (s.hidden, inner, s.hidden), "fc1", "fc2", bias=True)


def _phi_rows(s: Settings) -> int:
    """The vocabulary, filled up to a multiple."""
    step = s.size("pad_vocab_size_multiple")
    return -(-s.vocab // step) * step


def _phi_output(s: Settings, prefix: str) -> Named:
    yield from layer_norm(f"{prefix}.ln", s.hidden)
    yield from linear(f"{prefix}.linear", _phi_rows(s), s.hidden, bias=True)


def _phi_msft(s: Settings, head: Head) -> Named:
    before = "" if head == "none" else "transformer."
    yield from embedding(f"{before}embd.wte", _phi_rows(s), s.hidden)
    yield from numbered(s, f"{before}h", lambda prefix, _: _phi_block(s, prefix))
    if head != "none":
        yield from _phi_output(s, "lm_head")


def _mixformer(s: Settings, _head: Head) -> Named:
    """The oldest: embedding, layers and head in one sequence."""
    yield from embedding("layers.0.wte", _phi_rows(s), s.hidden)
    for index in range(s.layers):
        yield from _phi_block(s, f"layers.{index + 1}")
    yield from _phi_output(s, f"layers.{s.layers + 1}")


def _phi3_small(s: Settings) -> Named:
    """Queries, keys and values in one, grouped by key head; gate and value interleaved in one projection."""
    heads, kv_heads, _ = head_sizes(s)
    head_dim, inner = s.hidden // heads, s.size("ff_intermediate_size")

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_attn"
        yield from linear(f"{path}.query_key_value", (heads + 2 * kv_heads) * head_dim, s.hidden, bias=True)
        yield from linear(f"{path}.dense", s.hidden, s.hidden, bias=True)
        yield from linear(f"{prefix}.mlp.up_proj", 2 * inner, s.hidden, bias=True)
        yield from linear(f"{prefix}.mlp.down_proj", s.hidden, inner, bias=True)

    return stacked(s, layer, kind=layer_norm, last_norm="final_layernorm")


def _phi3_v(s: Settings) -> Named:
    """Phi-3's decoder with CLIP's tower beside its embedding, and two linears behind it."""
    layers, tower = s.nested("embd_layer"), s.nested("img_processor")
    separated = layers.flag("use_hd_transform") and layers.flag("with_learnable_separator")
    if not separated or layers.value("projection_cls") != "mlp" or tower.value("name") != "clip_vision_model":
        raise UnknownArchitecture(
            "there is no proven definition for the tower that embd_layer and img_processor describe."
        )
    path, width = "vision_embed_tokens", 4 * tower.size("image_dim_out")
    yield from below(f"{path}.img_processor.vision_model", clip(Settings({}, "phi3_v.img_processor")))
    yield from parameter(f"{path}.glb_GN", 1, 1, width)
    yield from parameter(f"{path}.sub_GN", 1, 1, 1, width)
    yield from chain(f"{path}.img_projection", (width, s.hidden, s.hidden), "0", "2", bias=True)
    yield from _phi3(s)


_GPT_NAMES = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads"}

ARCHITECTURES: Architectures = {
    "mixformer-sequential": remote(
        aliased(_mixformer, _GPT_NAMES),
        Proof("read", "microsoft/phi-1_5, modeling_mixformer_sequential.py (a copy on GitHub)"),
        input_embedding="wte",
    ),
    "phi-msft": remote(
        aliased(_phi_msft, _GPT_NAMES),
        Proof("read", "microsoft/phi-2, modeling_phi.py before its transfer to transformers (a copy on GitHub)"),
        input_embedding="wte",
    ),
    "phi3small": remote(
        framed(_phi3_small),
        Proof("read", "mlx_lm/models/phi3small.py (mlx-lm 0.32.2)", ("sequence-classification",)),
    ),
    "phi3_v": remote(
        framed(_phi3_v),
        Proof("read", "vllm/model_executor/models/phi3v.py (vllm 0.33.0)"),
    ),
    "phi4": like(
        "phi3",
        {
            "proof": Proof("read", "microsoft/Phi-4-mini-reasoning, whose configs name Phi3ForCausalLM"),
            "defaults": "phi3",
        },
    ),
    "phi3": PHI3,
    "phi": declared(
        framed(_phi, heads=partial(head_modules, output_bias=True)), targets=("q_proj", "v_proj", "fc1", "fc2")
    ),
    "phimoe": declared(_phimoe_frame(_phimoe), {TRANSFORMERS_4: _phimoe_frame(_phimoe_before_5)}),
    "phi4_multimodal": declared(framed(_phi4)),
}
