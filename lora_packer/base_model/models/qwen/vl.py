"""Qwen's models that see, from Qwen2-VL to Qwen3.5."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TRANSFORMERS_4,
    TRANSFORMERS_4_51,
    Architecture,
    Architectures,
    Build,
    declared,
    like,
)
from lora_packer.base_model.blocks.attention import biased_attention, normed_attention
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, renamed, text_only, with_towers
from lora_packer.base_model.blocks.experts import fused_experts
from lora_packer.base_model.blocks.feed_forward import plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import decoder, framed, stacked
from lora_packer.base_model.blocks.layers import layer_norm, linear, parameter
from lora_packer.base_model.blocks.qwen_visual import (
    depth,
    fused_attention,
    merger_mlp,
    patch_embedding,
    qwen2_5_visual,
    qwen3_visual,
    qwen3_visual_without_deepstack,
    visual,
)
from lora_packer.base_model.models.qwen.decoders import qwen3_5, qwen3_5_moe
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# Yields the feed-forward block of one layer: (config, path, number of the layer).
FeedForward = Callable[[Settings, str, int], Named]


def _qwen2_visual(s: Settings) -> Named:
    width = s.size("embed_dim")
    yield from patch_embedding(s, "patch_embed.proj", width, bias=False)
    inner = int(width * s.ratio("mlp_ratio"))
    for index in range(depth(s)):
        path = f"blocks.{index}"
        yield from fused_attention(f"{path}.attn", width)
        yield from two_linears_mlp(f"{path}.mlp", width, inner)
        yield from layer_norm(path, width, "norm1", "norm2")
    yield from layer_norm("merger.ln_q", width)
    yield from merger_mlp(s, width, s.hidden)


def _qwen2_text(s: Settings) -> Named:
    """A head has its share of the hidden size, whatever the config says."""
    return decoder({"self_attn": biased_attention, "mlp": plain_mlp})(s.with_fields(head_dim=None))


def qwen3_text(feed_forward: FeedForward) -> Callable[[Settings], Named]:
    """The language model of Qwen3-VL."""

    def modules(s: Settings) -> Named:
        def layer(prefix: str, index: int) -> Named:
            yield from normed_attention(s, f"{prefix}.self_attn")
            yield from feed_forward(s, f"{prefix}.mlp", index)

        return stacked(s, layer)

    return modules


def _is_sparse(s: Settings, index: int) -> bool:
    return index not in s.indices("mlp_only_layers") and (index + 1) % s.size("decoder_sparse_step") == 0


def _experts(s: Settings) -> tuple[int, int, int]:
    named = s.aliased({"num_experts": "num_local_experts"})
    return s.hidden, s.size("moe_intermediate_size"), named.size("num_experts")


def _sparse_mlp(s: Settings, path: str, index: int) -> Named:
    return fused_experts(path, *_experts(s)) if _is_sparse(s, index) else plain_mlp(s, path)


def _sparse_mlp_before_5(s: Settings, path: str, index: int) -> Named:
    """The same, with a linear as the router and the experts' weights the other way round."""
    if not _is_sparse(s, index):
        yield from plain_mlp(s, path)
        return
    hidden, intermediate, experts = _experts(s)
    yield from linear(f"{path}.gate", experts, hidden)
    yield from parameter(f"{path}.experts.gate_up_proj", experts, hidden, 2 * intermediate)
    yield from parameter(f"{path}.experts.down_proj", experts, intermediate, hidden)


def before_4_52(build: Build) -> Build:
    """The names of Qwen2-VL and Qwen2.5-VL before transformers 4.52; the bare class was the language model's then."""
    return renamed(build, ("model.language_model.", "model."), ("model.visual.", "visual."), ("language_model.", ""))


def _flat(text: str, tower: Tower) -> Architecture:
    part = fixed("text_config", Tower(text, _qwen2_text), flat=True)
    build = with_towers(part, visual(tower))
    return composite(build, {TRANSFORMERS_4_51: before_4_52(build)}, flat_text=True)


def qwen3_vl(text: Tower, older: Tower | None = None) -> Architecture:
    """Return the definition of a model with Qwen3-VL's tower; ``older`` is the language model in transformers 4."""
    beside = visual(Tower("qwen3_vl_moe_vision", qwen3_visual))
    dialects = {} if older is None else {TRANSFORMERS_4: with_towers(fixed("text_config", older), beside)}
    return composite(with_towers(fixed("text_config", text), beside), dialects)


def _qwen3_5(text: Tower) -> Architecture:
    part = fixed("text_config", text)
    build = with_towers(part, visual(Tower("qwen3_5_moe_vision", qwen3_visual_without_deepstack)))
    return composite(build, {TEXT_ONLY: text_only(part)})


_qwen3_text = decoder({"self_attn": normed_attention, "mlp": plain_mlp})

ARCHITECTURES: Architectures = {
    "qwen2_vl": _flat("qwen2_vl_text", Tower("qwen2_vl_vision", _qwen2_visual)),
    "qwen2_5_vl": _flat("qwen2_5_vl_text", Tower("qwen2_5_vl_vision", qwen2_5_visual)),
    "qwen2_vl_text": declared(framed(_qwen2_text)),
    "qwen2_5_vl_text": like("qwen2_vl_text"),
    "qwen3_vl_text": declared(framed(_qwen3_text)),
    "qwen3_vl_moe_text": declared(
        framed(qwen3_text(_sparse_mlp)), {TRANSFORMERS_4: framed(qwen3_text(_sparse_mlp_before_5))}
    ),
    "qwen3_vl": qwen3_vl(Tower("qwen3_vl_text", _qwen3_text)),
    "qwen3_vl_moe": qwen3_vl(
        Tower("qwen3_vl_moe_text", qwen3_text(_sparse_mlp)),
        Tower("qwen3_vl_moe_text", qwen3_text(_sparse_mlp_before_5)),
    ),
    "qwen3_5": _qwen3_5(Tower("qwen3_5_text", qwen3_5)),
    "qwen3_5_moe": _qwen3_5(Tower("qwen3_5_moe_text", qwen3_5_moe)),
}
