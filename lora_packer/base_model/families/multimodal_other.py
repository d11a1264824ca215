"""Models for more than documents and photographs: pi0, which acts, and Evolla, which reads proteins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architecture, Head, framed
from lora_packer.base_model.blocks import Named, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import grouped_attention, sizes, stacked
from lora_packer.base_model.families.composite import Part, Tower, below, fixed
from lora_packer.base_model.families.multimodal import ARCHITECTURES as LLAVA
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings


def _pi0(s: Settings, head: Head) -> Named:
    """A PaliGemma, and a Gemma that turns what it sees into actions."""
    before = "" if head == "none" else "model."
    (vlm, seeing), (acting, decoder) = _PI0_VLM.of(s), _PI0_ACTS.of(s)
    text = vlm.value("text_config")
    words = Settings(text, {"vocab_size": 256000}) if isinstance(text, Mapping) else Settings({}, _PI0_TEXT)
    acting = acting.with_fields(vocab_size=words.size("vocab_size"))
    yield from below(f"{before}vlm", seeing(vlm))
    yield from below(f"{before}dit", decoder(acting))
    if head != "none":
        hidden, actions = acting.size("hidden_size"), s.size("max_action_dim")
        yield linear("embed_action_time.action_in_proj", hidden, actions, bias=True)
        yield linear("embed_action_time.state_proj", hidden, s.size("max_state_dim"), bias=True)
        yield linear("embed_action_time.action_time_mlp_in", hidden, 2 * hidden, bias=True)
        yield linear("embed_action_time.action_time_mlp_out", hidden, hidden, bias=True)
        yield linear("action_out_proj", actions, hidden, bias=True)


def _evolla(s: Settings) -> Named:
    """A Llama, some of whose layers attend to the protein."""
    hidden, bias, mlp_bias = s.size("hidden_size"), s.flag("attention_bias"), s.flag("mlp_bias")
    interval = max(s.size("num_hidden_layers") // s.size("aligner_num_add_layers"), 1)

    def layer(prefix: str, index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from gated_mlp(f"{prefix}.mlp", hidden, s.size("intermediate_size"), bias=mlp_bias)
        if (index + 1) % interval == 0:
            yield from _aligner(s, f"{prefix}.adapter", hidden)

    protein, encoder = _PROTEIN.of(s)
    yield from stacked(s, layer)
    yield from below("protein_encoder.model", encoder(protein))
    yield from below("protein_encoder.sequence_compressor_resampler", _resampler(s, protein.size("hidden_size")))


def _aligner(s: Settings, path: str, hidden: int) -> Named:
    heads = s.size("num_attention_heads")
    width = heads * (hidden // heads)
    yield f"{path}.gate_attention", Module("parameter", (1,))
    yield f"{path}.gate_ffw", Module("parameter", (1,))
    for name in ("query", "key_protein", "value_protein"):
        yield linear(f"{path}.{name}", width, hidden, bias=True)
    yield norm(f"{path}.attention_norm", hidden)
    yield linear(f"{path}.out_proj", hidden, hidden, bias=s.flag("aligner_enable_bias"))
    yield from _feed_forward(f"{path}.ff", hidden, hidden * s.size("aligner_ffn_mult"))


def _feed_forward(path: str, width: int, inner: int) -> Named:
    yield from layer_norm(f"{path}.norm", width)
    yield linear(f"{path}.fc1", inner, width)
    yield linear(f"{path}.fc2", width, inner)


def _resampler(s: Settings, width: int) -> Named:
    inner = s.size("resampler_dim_head") * s.size("resampler_heads")
    yield "latents", Module("parameter", (s.size("resampler_num_latents"), width))
    for index in range(s.size("resampler_depth")):
        path = f"layers.{index}"
        yield from layer_norm(f"{path}.0.norm_media", width)
        yield from layer_norm(f"{path}.0.norm_latents", width)
        yield linear(f"{path}.0.to_q", inner, width)
        yield linear(f"{path}.0.to_kv", 2 * inner, width)
        yield linear(f"{path}.0.to_out", width, inner)
        yield from _feed_forward(f"{path}.1", width, width * s.size("resampler_ff_mult"))
    yield from layer_norm("norm", s.size("hidden_size"))
    yield linear("protein_projector", s.size("hidden_size"), width, bias=True)


def _saprot(s: Settings) -> Named:
    """ESM with rotary positions."""
    hidden, inner = s.size("hidden_size"), s.size("intermediate_size")
    yield embedding("embeddings.word_embeddings", s.size("vocab_size"), hidden)
    if s.value("position_embedding_type") == "absolute":
        yield embedding("embeddings.position_embeddings", s.size("max_position_embeddings"), hidden)
    if s.flag("emb_layer_norm_before"):
        yield from layer_norm("embeddings.layer_norm", hidden)
    for index in range(s.size("num_hidden_layers")):
        path = f"encoder.layer.{index}"
        for block in ("attention", "crossattention") if s.flag("add_cross_attention") else ("attention",):
            for name in ("query", "key", "value"):
                yield linear(f"{path}.{block}.self.{name}", hidden, hidden, bias=True)
            yield linear(f"{path}.{block}.output.dense", hidden, hidden, bias=True)
            yield from layer_norm(f"{path}.{block}.LayerNorm", hidden)
        yield linear(f"{path}.intermediate.dense", inner, hidden, bias=True)
        yield linear(f"{path}.output.dense", hidden, inner, bias=True)
        yield from layer_norm(f"{path}.LayerNorm", hidden)
    yield from layer_norm("encoder.emb_layer_norm_after", hidden)


def _paligemma(s: Settings) -> Named:
    return LLAVA["paligemma"].dialects[TRANSFORMERS_5](s, "none")


_PI0_SIZES: dict[str, Any] = {"max_action_dim": 32, "max_state_dim": 32}
_PI0_TEXT = sizes(257152, 2048, 16384, 18, 8, 1)
_SEEN: dict[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "patch_size": 14,
    "vision_use_head": False,
}
_PI0_VLM = Part(
    "vlm_config",
    "paligemma",
    {"paligemma": Tower(LLAVA["paligemma"].defaults, _paligemma)}.get,
    absent={"vision_config": _SEEN, "text_config": _PI0_TEXT},
)
_PI0_ACTS = Part("dit_config", "gemma", absent=sizes(257152, 1024, 4096, 18, 8, 1, head_dim=256))
_SAPROT = sizes(446, 1280, 5120, 33, 20, None, max_position_embeddings=1026, position_embedding_type="rotary")
_PROTEIN = fixed("protein_encoder_config", Tower(_SAPROT, _saprot))
_EVOLLA = sizes(
    128256,
    4096,
    14336,
    32,
    32,
    8,
    aligner_ffn_mult=4,
    aligner_enable_bias=True,
    aligner_num_add_layers=8,
    resampler_depth=6,
    resampler_dim_head=64,
    resampler_heads=8,
    resampler_num_latents=64,
    resampler_ff_mult=4,
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "pi0": Architecture(_PI0_SIZES, {TRANSFORMERS_5: _pi0}, ()),
    "evolla": Architecture(_EVOLLA, {TRANSFORMERS_5: framed(_evolla)}, ()),
}
