"""GLM's decoders, and the models that see or hear."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architecture,
    Architectures,
    declared,
    like,
)
from lora_packer.base_model.blocks.attention import attention, biased_attention, grouped_attention, head_sizes
from lora_packer.base_model.blocks.composite import Part, Tower, composite, fixed, with_towers
from lora_packer.base_model.blocks.experts import (
    Experts,
    both_names,
    deepseek_experts,
    fused_experts,
    mixture_or_dense,
    parameter_routed_experts,
)
from lora_packer.base_model.blocks.feed_forward import fused_gated_mlp, gated_mlp, plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.hearing import heard, whisper_convs
from lora_packer.base_model.blocks.latent import (
    attends,
    indexed_decoder,
    indexer,
    indexer_kinds,
    latent_attention,
    layered,
)
from lora_packer.base_model.blocks.layers import (
    Block,
    chain,
    conv,
    embedding,
    flagged,
    layer_norm,
    linear,
    norm,
    parameter,
)
from lora_packer.base_model.blocks.qwen_visual import depth, patch_embedding, visual
from lora_packer.base_model.blocks.recurrent import kimi_delta_attention, kimi_delta_sizes
from lora_packer.base_model.blocks.residual import hyper_connections
from lora_packer.base_model.blocks.towers import patches
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_LAYER: Mapping[str, Block] = {
    "self_attn": flagged(grouped_attention, bias="attention_bias"),
    "mlp": fused_gated_mlp,
}
_AROUND_BOTH = (*LAYER_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm")
_glm = decoder(_LAYER)


_glm4 = decoder(_LAYER, _AROUND_BOTH)


def glm4_moe(
    s: Settings, *, experts: Experts = fused_experts, normed: bool | None = None, output_bias: bool = False
) -> Named:
    """GLM-4.5's decoder and its relatives: ``normed`` says whether queries and keys have norms."""
    bias, dense, head_dim = s.flag("attention_bias"), s.count("first_k_dense_replace"), head_sizes(s)[2]
    count = deepseek_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias and output_bias)
        if s.flag("use_qk_norm") if normed is None else normed:
            yield from norm(f"{prefix}.self_attn", head_dim, "q_norm", "k_norm")
        yield from mixture_or_dense(s, f"{prefix}.mlp", count, experts, sparse=index >= dense)

    return stacked(s, layer)


def _glm4_moe_lite(s: Settings) -> Named:
    kind = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index else "dense")
    count = deepseek_experts(s)
    rope = s.aliased({"head_dim": "qk_rope_head_dim"}).size("head_dim")
    return layered(s, attends(s, rope), kind, count)


def _glm_moe_dsa(s: Settings) -> Named:
    """GLM-5's decoder: some layers take over the indexer of an earlier one."""
    return indexed_decoder(s, indexer_kinds(s, offset=s.count("index_skip_topk_offset")))


GLM4_MOE = declared(*both_names(glm4_moe, parameter_routed_experts, framed))


def _glm4v_visual(s: Settings) -> Named:
    outputs = s.size("out_hidden_size")
    yield from embedding("embeddings.position_embedding", patches(s), s.hidden)
    yield from patch_embedding(s, "patch_embed.proj", s.hidden, bias=True)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=s.flag("attention_bias"))
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden)
        yield from gated_mlp(f"{path}.mlp", s.hidden, outputs)
        yield from norm(path, s.hidden, "norm1", "norm2")
    yield from linear("merger.proj", outputs, outputs)
    yield from layer_norm("merger.post_projection_norm", outputs)
    yield from gated_mlp("merger", outputs, s.inner)
    merge = s.size("spatial_merge_size")
    yield from conv("downsample", (outputs, s.hidden, merge, merge), bias=True)
    yield from norm("post_conv_layernorm", s.hidden)
    yield from norm("post_layernorm", s.hidden)


def _glm4v_text(s: Settings) -> Named:
    """A head has its share of the hidden size, whatever the config says."""
    layer = decoder({"self_attn": biased_attention, "mlp": fused_gated_mlp}, _AROUND_BOTH)
    return layer(s.with_fields(head_dim=None))


def _glm4v_moe_text(dialect: str) -> Tower:
    """The decoder of GLM-4.5 with other defaults, and without norms on queries and keys."""
    build = GLM4_MOE.dialects[dialect]
    return Tower("glm4v_moe_text", lambda s: build(s.with_fields(use_qk_norm=False), "none"))


def _glm4v(text: Tower, before_5: Tower | None = None) -> Architecture:
    beside = visual(Tower("glm4v_moe_vision", _glm4v_visual))
    older = {} if before_5 is None else {TRANSFORMERS_4: with_towers(fixed("text_config", before_5), beside)}
    return composite(with_towers(fixed("text_config", text), beside), older)


def _glmasr(_s: Settings, audio: Settings, text: Settings) -> Named:
    yield from chain(
        "multi_modal_projector", (audio.inner, 2 * text.hidden, text.hidden), "linear_1", "linear_2", bias=True
    )


def _glmasr_encoder(s: Settings) -> Named:
    yield from whisper_convs(s, s.hidden)
    for index in range(s.layers):
        path = f"layers.{index}"
        for name, module in attention(f"{path}.self_attn", s.hidden, *head_sizes(s), bias=True, output_bias=True):
            yield name, module._replace(bias=not name.endswith(".k_proj"))
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "input_layernorm", "post_attention_layernorm")
    yield from layer_norm("norm", s.hidden)


def glm_ocr_visual(s: Settings) -> Named:
    """The tower of GLM-OCR: norms on queries and keys, and no positions."""
    outputs, bias = s.size("out_hidden_size"), s.flag("attention_bias")
    head_dim = s.hidden // s.aliased({"num_attention_heads": "num_heads"}).size("num_heads")
    yield from patch_embedding(s, "patch_embed.proj", s.hidden, bias=True)
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=bias)
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden, bias=bias)
        yield from norm(f"{path}.attn", head_dim, "q_norm", "k_norm")
        yield from plain_mlp(s, f"{path}.mlp", bias=bias)
        yield from norm(path, s.hidden, "norm1", "norm2")
    yield from linear("merger.proj", outputs, outputs)
    yield from layer_norm("merger.post_projection_norm", outputs)
    projected = s.optional_size("projection_intermediate_size") or outputs * s.size("in_channels")
    yield from gated_mlp("merger", outputs, projected)
    merge = s.size("spatial_merge_size")
    yield from conv("downsample", (outputs, s.hidden, merge, merge), bias=True)
    yield from norm("post_layernorm", s.hidden)


_glm_ocr_text = decoder({"self_attn": grouped_attention, "mlp": fused_gated_mlp}, _AROUND_BOTH)


def _glm5_next_text(s: Settings) -> Named:
    """Layers of linear attention between layers of latent attention with an indexer, and hyper-connections."""
    s = s.aliased({"num_local_experts": "n_routed_experts"})
    kind = layer_kinds(
        s.names("layer_types"), lambda index: "indexed_attention" if index % 4 == 3 else "linear_attention"
    )
    sparse = layer_kinds(s.names("mlp_layer_types"), lambda index: "sparse" if index >= 3 else "dense")
    shares = indexer_kinds(s, offset=s.count("index_skip_topk_offset"))
    streams, hidden, delta = s.size("hc_mult"), s.hidden, kimi_delta_sizes(s)
    forgets = {"dt_bias": (delta[0] * delta[1],), "A_log": (delta[0],)}

    def layer(prefix: str, index: int) -> Named:
        if kind(index) == "linear_attention":
            yield from kimi_delta_attention(f"{prefix}.self_attn", hidden, *delta, forgets=forgets)
        else:
            yield from latent_attention(s, f"{prefix}.self_attn", rope=0)
            if shares(index) != "shared":
                yield from _glm5_pooling_indexer(s, f"{prefix}.self_attn.indexer")
        yield from mixture_or_dense(s, f"{prefix}.mlp", s.size("n_routed_experts"), sparse=sparse(index) == "sparse")
        yield from hyper_connections(prefix, hidden, streams)

    return stacked(s, layer)


def _glm5_pooling_indexer(s: Settings, path: str) -> Named:
    """The indexer of DeepSeek's sparse attention, over keys that are pooled."""
    yield from indexer(s, path)
    size = s.size("index_head_dim")
    yield from parameter(f"{path}.index_kpool_compress_ape", s.size("index_kpool"), size)
    yield from parameter(f"{path}.index_kpool_compress_gate", size, s.hidden)


_GLM5_TEXT = fixed("text_config", Tower("glm5_next_text", _glm5_next_text), flat=True)
_GLM_OCR_TEXT = fixed("text_config", Tower("glm_ocr_text", _glm_ocr_text))

ARCHITECTURES: Architectures = {
    "glm": declared(framed(_glm)),
    "glm4": declared(framed(_glm4)),
    "glm4_moe": GLM4_MOE,
    "glm_moe_dsa": declared(framed(_glm_moe_dsa)),
    "glm4_moe_lite": declared(framed(_glm4_moe_lite)),
    "glm4v": _glm4v(Tower("glm4v_text", _glm4v_text)),
    "glm4v_moe": _glm4v(_glm4v_moe_text(TRANSFORMERS_5), _glm4v_moe_text(TRANSFORMERS_4)),
    "glmasr": heard(
        Part("text_config", "llama", filled=True),
        fixed("audio_config", Tower("glmasr_encoder", _glmasr_encoder)),
        _glmasr,
    ),
    "glm_ocr": composite(with_towers(_GLM_OCR_TEXT, visual(Tower("glm_ocr_vision", glm_ocr_visual)))),
    "glm5_next": composite(with_towers(_GLM5_TEXT, visual(Tower("glm5_next_vision", glm_ocr_visual))), flat_text=True),
    "glm46v": like("glm4v"),
    "glm4v_text": declared(framed(_glm4v_text)),
    "glm4v_moe_text": declared(
        framed(_glm4v_moe_text(TRANSFORMERS_5).modules),
        {TRANSFORMERS_4: framed(_glm4v_moe_text(TRANSFORMERS_4).modules)},
    ),
    "glm5_next_text": declared(framed(_glm5_next_text)),
    "glm_ocr_text": declared(framed(_glm_ocr_text)),
    "glmga": like("glm4v"),
}
