"""Kimi-K3 as its own repository has it: a tower, a projector, and a decoder of two kinds of attention.

Held against a list of its checkpoint's 497,220 tensors: each has the name and the shape that it has here, but for
``A_log``, which the checkpoint has with 128 numbers and the class with one for each of 96 heads.
"""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.experts import separate_linears
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.latent import latent_attention
from lora_packer.base_model.blocks.layers import (
    Norm,
    chain,
    conv,
    depthwise,
    layer_norm,
    linear,
    norm,
    parameter,
)
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture

_NORMS: dict[str, Norm] = {"rmsnorm": norm, "layernorm": layer_norm}


def _kimi_k3(s: Settings, _head: Head) -> Named:
    """Kimi-K3, whose one class has the language model with its head inside."""
    if not isinstance(s.raw.get("vision_config"), Mapping):
        raise _unknown("vision_config")
    vision, text = s.nested("vision_config"), s.nested("text_config")
    yield from below("vision_tower", _tower(vision))
    yield from below("mm_projector", _projector(vision, text))
    yield from below("language_model", framed(_decoder)(text, "causal-lm"))


def _unknown(field: str) -> UnknownArchitecture:
    return UnknownArchitecture(f"there is no proven definition for what {field} of this Kimi-K3 says.")


def _tower(s: Settings) -> Named:
    """MoonViT in three dimensions: attention wider than the hidden state, and either kind of norm."""
    for field, known in (("pos_emb_type", "divided_fixed"), ("mlp_type", "mlp2")):
        if s.value(field) != known:
            raise _unknown(field)
    kind = _NORMS.get(str(s.value("norm_type")))
    if kind is None:
        raise _unknown("norm_type")
    hidden, inner = s.size("vt_hidden_size"), s.size("vt_intermediate_size")
    wide, bias = s.optional_size("qkv_hidden_size") or hidden, s.flag("attn_bias")
    yield from conv("patch_embed.proj", (hidden, 3, *s.pair("patch_size")), bias=s.flag("patch_embed_proj_bias"))
    grid = (s.size("init_pos_emb_height"), s.size("init_pos_emb_width"))
    yield from parameter("patch_embed.pos_emb.weight", *grid, hidden)
    for index in range(s.size("vt_num_hidden_layers")):
        path = f"encoder.blocks.{index}"
        yield from kind(path, hidden, "norm0", "norm1")
        yield from chain(f"{path}.mlp", (hidden, inner, hidden), "fc0", "fc1", bias=s.flag("linear_bias"))
        yield from linear(f"{path}.wqkv", 3 * wide, hidden, bias=bias)
        yield from linear(f"{path}.wo", hidden, wide, bias=bias)
    yield from kind("encoder.final_layernorm", hidden)


def _projector(s: Settings, text: Settings) -> Named:
    """Two linears and a norm behind them; the other projectors of that file are those of no published model."""
    if s.value("mm_projector_type") != "patchmergerv2":
        raise _unknown("mm_projector_type")
    if s.size("text_hidden_size") != text.hidden:
        raise _unknown("text_hidden_size")
    height, width = s.pair("merge_kernel_size")
    merged = (s.optional_size("mm_hidden_size") or s.size("vt_hidden_size")) * height * width
    yield from chain("proj", (merged, merged, text.hidden), "0", "2")
    yield from norm("post_norm", text.hidden)


def _decoder(s: Settings) -> Named:
    """Kimi delta attention in ``kda_layers``, counted from one, else latent attention; later layers have experts."""
    s = s.with_fields(attention_bias=False)  # this code has no such field
    delta, experts = s.nested("linear_attn_config"), s.optional_size("num_experts")
    linear_layers, dense, step = delta.indices("kda_layers"), s.count("first_k_dense_replace"), s.size("moe_layer_freq")
    weighed = s.optional_size("attn_res_block_size") is not None

    def layer(prefix: str, index: int) -> Named:
        if index + 1 in linear_layers:
            yield from _delta_attention(delta, f"{prefix}.self_attn", s.hidden)
        else:
            yield from _gated_latent_attention(s, f"{prefix}.self_attn")
        if experts is not None and index >= dense and index % step == 0:
            yield from _mixture(s, f"{prefix}.block_sparse_moe", experts)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")
        if weighed:
            yield from _residual(f"{prefix}.self_attention", s.hidden)
            yield from _residual(f"{prefix}.mlp", s.hidden)

    yield from stacked(s, layer)
    if weighed:
        yield from _residual("output_attn", s.hidden)


def _residual(path: str, hidden: int) -> Named:
    """What weighs the outputs of earlier blocks of layers."""
    yield from norm(f"{path}_res_norm", hidden)
    yield from linear(f"{path}_res_proj", 1, hidden)


def _delta_attention(s: Settings, prefix: str, hidden: int) -> Named:
    heads, size, kernel = s.size("num_heads"), s.size("head_dim"), s.size("short_conv_kernel_size")
    width = heads * size
    yield from linear(prefix, width, hidden, "q_proj", "k_proj", "v_proj")
    for name in ("q_conv1d", "k_conv1d", "v_conv1d"):
        yield from depthwise(f"{prefix}.{name}", width, kernel)
    yield from parameter(f"{prefix}.A_log", heads)
    yield from parameter(f"{prefix}.dt_bias", width)
    yield from chain(prefix, (hidden, size, width), "f_a_proj", "f_b_proj")
    yield from linear(f"{prefix}.b_proj", heads, hidden)
    if s.flag("use_full_rank_gate"):
        yield from linear(f"{prefix}.g_proj", width, hidden)
    else:
        yield from chain(prefix, (hidden, size, width), "g_a_proj", "g_b_proj")
    yield from norm(f"{prefix}.o_norm", size)
    yield from linear(f"{prefix}.o_proj", hidden, width)


def _gated_latent_attention(s: Settings, prefix: str) -> Named:
    if not s.flag("mla_use_nope"):  # its class refuses to build then
        raise _unknown("mla_use_nope")
    yield from latent_attention(s, prefix)
    if s.flag("mla_use_output_gate"):
        yield from linear(f"{prefix}.g_proj", s.heads * s.size("v_head_dim"), s.hidden)


def _mixture(s: Settings, prefix: str, count: int) -> Named:
    """Experts, which may work in a narrower state of their own, and a shared one beside them."""
    narrow, width = s.optional_size("routed_expert_hidden_size"), s.size("moe_intermediate_size")
    yield from parameter(f"{prefix}.gate.weight", count, s.hidden)
    yield from parameter(f"{prefix}.gate.e_score_correction_bias", count)
    yield from separate_linears(f"{prefix}.experts", narrow or s.hidden, width, count, names=("w1", "w3", "w2"))
    if s.value("num_shared_experts") is not None:
        yield from gated_mlp(f"{prefix}.shared_experts", s.hidden, width * s.size("num_shared_experts"))
    if narrow is not None:
        yield from linear(f"{prefix}.routed_expert_down_proj", narrow, s.hidden)
        yield from linear(f"{prefix}.routed_expert_up_proj", s.hidden, narrow)
        if s.flag("latent_moe_use_norm"):
            yield from norm(f"{prefix}.routed_expert_norm", narrow)


ARCHITECTURES: Architectures = {
    "kimi_k3": remote(
        _kimi_k3,
        Proof(
            "read",
            "moonshotai/Kimi-K3, modeling_kimi_k3.py, modeling_kimi_linear.py, configuration_kimi_k3.py (copies); "
            "sglang/srt/models/kimi_k3.py and kimi_k3_vl.py (sglang 0.5.23), mlx_lm/models/kimi_k3.py (mlx-lm 0.32.2)",
        ),
        text_config="text_config",
    ),
}
