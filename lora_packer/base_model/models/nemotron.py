"""NVIDIA's Nemotron and Nemotron-H, whose layers are of several kinds, and Nemotron-H Omni."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lora_packer.base_model.architecture import Architectures, Head, Proof, declared, remote
from lora_packer.base_model.blocks.attention import attention, grouped_attention
from lora_packer.base_model.blocks.composite import (
    Part,
    Tower,
    below,
    composite,
    fixed,
    whole_language_model,
    with_legacy,
)
from lora_packer.base_model.blocks.experts import deepseek_experts
from lora_packer.base_model.blocks.feed_forward import gated_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import TRANSFORMER, UNGATED_LAYER, decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.hearing import conformer
from lora_packer.base_model.blocks.layers import chain, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.recurrent import mamba_2
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError, UnknownArchitecture
from lora_packer.redact import escape

_NEMOTRON_BLOCKS = {"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp"}


def _nemotron_blocks(s: Settings) -> tuple[str, ...]:
    """Return the kind of each layer; older configs have ``hybrid_override_pattern``, one letter for a layer."""
    listed, pattern = s.aliased({"layer_types": "layers_block_type"}).names("layer_types"), ""
    if listed is None:
        pattern = s.value("hybrid_override_pattern")
        if not isinstance(pattern, str) or not set(pattern) <= _NEMOTRON_BLOCKS.keys():
            raise InputError(
                f"the base config's hybrid_override_pattern is {escape(repr(pattern), 60)}; "
                "it has to consist of the letters M, E, * and -.",
                hint="Use the base model's own config.json.",
            )
        listed = tuple(_NEMOTRON_BLOCKS[letter] for letter in pattern)
    return listed


def nemotron_h(s: Settings) -> Named:
    """Nemotron-H's decoder: each layer is one mixer, attention, feed-forward block or mixture of experts."""
    blocks = _nemotron_blocks(s)
    kind = layer_kinds(blocks, lambda _index: "mlp")

    def layer(prefix: str, index: int) -> Named:
        return _NEMOTRON_LAYERS.get(kind(index), _nemotron_feed_forward)(s, f"{prefix}.mixer")

    return stacked(s, layer, norms=("norm",), tokens="embeddings", last_norm="norm_f", layers=len(blocks))


def _nemotron_mixer(s: Settings, prefix: str) -> Named:
    heads = s.size("mamba_num_heads")
    s = s.aliased({"mamba_n_groups": "n_groups", "mamba_d_conv": "conv_kernel", "mamba_conv_bias": "use_conv_bias"})
    return mamba_2(
        prefix,
        s.hidden,
        heads * s.size("mamba_head_dim"),
        heads,
        s.size("mamba_n_groups") * s.size("ssm_state_size"),
        s.size("mamba_d_conv"),
        bias=s.flag("use_bias"),
        conv_bias=s.flag("mamba_conv_bias"),
    )


def _nemotron_attention(s: Settings, prefix: str) -> Named:
    return grouped_attention(s, prefix)


def _nemotron_feed_forward(s: Settings, prefix: str) -> Named:
    return _up_down(s, prefix, s.inner)


def _up_down(s: Settings, prefix: str, intermediate: int) -> Named:
    bias = s.flag("mlp_bias")
    yield from chain(prefix, (s.hidden, intermediate, s.hidden), "up_proj", "down_proj", bias=bias)


def _nemotron_experts(s: Settings, prefix: str) -> Named:
    latent, bias = s.optional_size("moe_latent_size"), s.flag("mlp_bias")
    count, intermediate = deepseek_experts(s), s.size("moe_intermediate_size")
    yield from parameter(f"{prefix}.gate.weight", count, s.hidden)
    yield from parameter(f"{prefix}.experts.up_proj", count, intermediate, latent or s.hidden)
    yield from parameter(f"{prefix}.experts.down_proj", count, latent or s.hidden, intermediate)
    yield from _up_down(s, f"{prefix}.shared_experts", s.size("moe_shared_expert_intermediate_size"))
    if latent:
        yield from linear(f"{prefix}.fc1_latent_proj", latent, s.hidden, bias=bias)
        yield from linear(f"{prefix}.fc2_latent_proj", s.hidden, latent, bias=bias)


_NEMOTRON_LAYERS = {
    "linear_attention": _nemotron_mixer,
    "full_attention": _nemotron_attention,
    "moe": _nemotron_experts,
    "mlp": _nemotron_feed_forward,
}


def _radio(s: Settings) -> Named:
    """C-RADIO: patches of images and of pairs of frames, and several class tokens."""
    patch = s.size("num_channels") * s.size("patch_size") ** 2
    inner = int(s.hidden * s.ratio("mlp_ratio"))
    head_dim, frames = s.optional_size("head_dim") or s.hidden // s.heads, s.optional_size("video_temporal_patch_size")
    side = s.size("max_img_size") // s.size("patch_size")
    tokens = s.count("num_cls_tokens") + s.count("num_registers")
    yield from parameter("embeddings.position_embedding", 1, side * side, s.hidden)
    yield from parameter("embeddings.cls_register_token", tokens, s.hidden)
    yield from linear("embeddings.patch_projection", s.hidden, patch)
    if frames is not None:
        yield from linear("embeddings.video_patch_projection", s.hidden, frames * patch)
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        bias = s.flag("qkv_bias")
        yield from attention(f"{path}.attention", s.hidden, s.heads, s.heads, head_dim, bias=bias, output_bias=True)
        if s.flag("use_swiglu_ffn"):
            yield from gated_mlp(f"{path}.mlp", s.hidden, (int(inner * 2 / 3) + 7) // 8 * 8, bias=True)
        else:
            yield from two_linears_mlp(f"{path}.mlp", s.hidden, inner)
        for number in (1, 2):
            yield from layer_norm(f"{path}.norm{number}", s.hidden)
            yield from parameter(f"{path}.layer_scale{number}.lambda1", s.hidden)


def _omni(s: Settings, _head: Head) -> Named:
    (text, language), (vision, visual) = _NEMOTRON.of(s), _RADIO_PART.of(s)
    seen = s.size("vision_hidden_size")
    yield from below("language_model", language(text))
    yield from below("vision_model", visual(vision))
    if text.count("num_nextn_predict_layers"):
        yield from layer_norm("vision_final_layernorm", seen)
    folded = seen * int(1 / s.ratio("downsample_ratio")) ** 2
    yield from _omni_projector("multi_modal_projector", folded, s.size("projector_hidden_size"), text.hidden)
    if s.value("audio_config") is not None:
        audio, heard = _PARAKEET_PART.of(s)
        inner, bias = audio.size("projection_hidden_size"), audio.flag("projection_bias")
        yield from below("audio_tower", heard(audio))
        yield from _omni_projector("embed_audio", audio.hidden, inner, text.hidden, bias=bias)


def _omni_projector(path: str, inputs: int, inner: int, outputs: int, *, bias: bool = False) -> Named:
    yield from norm(f"{path}.layer_norm", inputs)
    yield from chain(path, (inputs, inner, outputs), "linear_1", "linear_2", bias=bias)


_RADIO_PART = Part("vision_config", "radio", {"radio": Tower("radio", _radio)}.get)
_PARAKEET_PART = fixed("audio_config", Tower("parakeet_encoder", conformer))
_NEMOTRON = Part("text_config", "nemotron_h", whole_language_model)
_OLDER_NAMES = {"llm_config": "text_config", "sound_config": "audio_config", "vit_hidden_size": "vision_hidden_size"}


def _searched(s: Settings) -> Named:
    """A decoder whose layers a search has chosen: each with its own key heads and width, or without the block."""
    blocks = s.value("block_configs")
    if not isinstance(blocks, list) or len(blocks) < s.layers or not all(isinstance(item, Mapping) for item in blocks):
        raise InputError(
            "the base config's block_configs does not list each layer.", hint="Use the base model's own config.json."
        )
    head_dim, bias = s.hidden // s.heads, s.flag("attention_bias")

    def layer(prefix: str, index: int) -> Named:
        block = Settings(blocks[index], {})
        attends, feeds = block.nested("attention"), block.nested("ffn")
        if attends.flag("replace_with_linear") or feeds.flag("replace_with_linear"):
            raise UnknownArchitecture("there is no proven definition for a block that a linear layer stands for.")
        if not attends.flag("no_op"):
            kv_heads = s.heads // attends.size("n_heads_in_group")
            yield from attention(
                f"{prefix}.self_attn", s.hidden, s.heads, kv_heads, head_dim, bias=bias, output_bias=bias
            )
        if not feeds.flag("no_op"):
            yield from gated_mlp(f"{prefix}.mlp", s.hidden, _searched_width(s, feeds), bias=s.flag("mlp_bias"))
        if not attends.flag("no_op"):
            yield from norm(prefix, s.hidden, "input_layernorm")
        if not feeds.flag("no_op"):
            yield from norm(prefix, s.hidden, "post_attention_layernorm")

    return stacked(s, layer, norms=())


def _searched_width(s: Settings, feeds: Settings) -> int:
    """Two thirds of the hidden size so many times, filled up to a multiple of 256."""
    if feeds.value("ffn_mult") is None:
        return feeds.inner
    width = int(2 * feeds.ratio("ffn_mult") * s.hidden / 3)
    return -(-width // 256) * 256


ARCHITECTURES: Architectures = {
    "nemotron-nas": remote(
        framed(_searched),
        Proof(
            "read",
            "vllm/model_executor/models/nemotron_nas.py (vllm 0.33.0), mlx_lm/models/nemotron-nas.py (mlx-lm 0.32.2)",
        ),
    ),
    "nemotron": declared(framed(decoder(UNGATED_LAYER, kind=layer_norm), answering_prefix=TRANSFORMER)),
    "nemotron_h": declared(
        framed(nemotron_h), targets=("q_proj", "k_proj", "v_proj", "o_proj"), input_embedding="embeddings"
    ),
    "nemotron_h_omni": replace(composite(with_legacy(_omni, _OLDER_NAMES)), input_embedding="embeddings"),
}
