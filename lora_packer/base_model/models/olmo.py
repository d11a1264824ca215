"""Ai2's OLMo: decoders, experts, the hybrid, and Molmo, which sees."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, declared, like
from lora_packer.base_model.blocks.attention import grouped_attention, head_sizes, plain_attention, qk_norms
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, with_towers
from lora_packer.base_model.blocks.experts import Experts, both_names, fused_experts, linear_experts, number_of_experts
from lora_packer.base_model.blocks.feed_forward import plain_mlp, two_linears_mlp
from lora_packer.base_model.blocks.frames import AFTER_BOTH, decoder, framed, layer_kinds, stacked
from lora_packer.base_model.blocks.layers import depthwise, embedding, layer_norm, linear, no_norm, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError

_olmo = decoder({"self_attn": plain_attention, "mlp": plain_mlp}, kind=no_norm)


def _olmo2(s: Settings) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from norm(f"{prefix}.self_attn.q_norm", heads * head_dim)
        yield from norm(f"{prefix}.self_attn.k_norm", kv_heads * head_dim)
        yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer, norms=AFTER_BOTH)


def _olmoe(s: Settings, *, experts: Experts = fused_experts) -> Named:
    kv_heads = head_sizes(s)[1]
    norms = (s.hidden, s.hidden // s.heads * kv_heads)
    return _olmo_moe(s, experts, norms, ("input_layernorm", "post_attention_layernorm"))


def _flex_olmo(s: Settings, *, experts: Experts = fused_experts) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)
    norms = (heads * head_dim, kv_heads * head_dim)
    return _olmo_moe(s, experts, norms, ("post_attention_layernorm", "post_feedforward_layernorm"))


def _olmo_moe(s: Settings, experts: Experts, norms: tuple[int, int], layer_norms: tuple[str, str]) -> Named:
    count = number_of_experts(s, "num_experts", "num_local_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from qk_norms(f"{prefix}.self_attn", *norms)
        yield from experts(f"{prefix}.mlp", s.hidden, s.inner, count)

    return stacked(s, layer, norms=layer_norms)


def _olmo_hybrid(s: Settings) -> Named:
    (heads, kv_heads, head_dim), bias = head_sizes(s), s.flag("attention_bias")
    key_heads = s.optional_size("linear_num_key_heads") or heads
    value_heads = s.optional_size("linear_num_value_heads") or heads
    key_dim = s.optional_size("linear_key_head_dim") or int(0.75 * s.hidden / key_heads)
    value_dim = s.optional_size("linear_value_head_dim") or 2 * key_dim
    keys, values, last = key_heads * key_dim, value_heads * value_dim, s.layers - 1
    kind = layer_kinds(
        s.names("layer_types"),
        lambda index: "full_attention" if index % 4 == 3 or index == last < 3 else "linear_attention",
    )

    def layer(prefix: str, index: int) -> Named:
        yield from plain_mlp(s, f"{prefix}.mlp")
        yield from norm(f"{prefix}.post_attention_layernorm", s.hidden)
        if kind(index) != "linear_attention":
            yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
            yield from qk_norms(f"{prefix}.self_attn", heads * head_dim, kv_heads * head_dim)
            yield from norm(f"{prefix}.post_feedforward_layernorm", s.hidden)
            return
        path = f"{prefix}.linear_attn"
        yield from norm(f"{prefix}.input_layernorm", s.hidden)
        for name in ("A_log", "dt_bias"):
            yield from parameter(f"{path}.{name}", value_heads)
        for name, size in (
            ("q", keys),
            ("k", keys),
            ("v", values),
            ("a", value_heads),
            ("b", value_heads),
            ("g", values),
        ):
            yield from linear(f"{path}.{name}_proj", size, s.hidden)
        yield from linear(f"{path}.o_proj", s.hidden, values)
        yield from depthwise(f"{path}.conv1d", 2 * keys + values, s.size("linear_conv_kernel_dim"))
        yield from norm(f"{path}.o_norm", value_dim)

    return stacked(s, layer, norms=())


def _molmo_text(s: Settings) -> Named:
    s = s.aliased({"qkv_bias": "attention_bias"})
    heads, kv_heads, head_dim = head_sizes(s)
    per_head = s.value("qk_norm_type") == "qwen3"

    def layer(prefix: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        query, key = (head_dim, head_dim) if per_head else (heads * head_dim, kv_heads * head_dim)
        yield from qk_norms(f"{prefix}.self_attn", query, key)
        yield from plain_mlp(s, f"{prefix}.mlp")

    rows = s.vocab + s.count("additional_vocab_size")
    for path, module in stacked(s, layer):
        # The head does not predict the additional tokens.
        yield from embedding(path, rows, s.hidden) if path == "embed_tokens" else [(path, module)]


def _molmo_attention(s: Settings, path: str, inputs: int) -> Named:
    bias, (heads, kv_heads, head_dim) = s.flag("attention_bias"), head_sizes(s)
    yield from linear(f"{path}.q_proj", heads * head_dim, inputs, bias=bias)
    yield from linear(path, kv_heads * head_dim, inputs, "k_proj", "v_proj", bias=bias)
    yield from linear(f"{path}.o_proj", s.hidden, heads * head_dim, bias=bias)


def _molmo_visual(s: Settings) -> Named:
    patch = s.size("image_patch_size" if "image_patch_size" in s.raw else "patch_size")
    yield from parameter("positional_embedding", _molmo_positions(s, patch), s.hidden)
    yield from linear("patch_embedding", s.hidden, s.size("num_channels") * patch**2, bias=True)
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from _molmo_attention(s, f"{path}.self_attn", s.hidden)
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "layer_norm1", "layer_norm2")


def _molmo_positions(s: Settings, patch: int) -> int:
    named = "image_num_pos" if "image_num_pos" in s.raw else "num_position_embeddings"
    height, width = s.pair("image_default_input_size" if "image_default_input_size" in s.raw else "image_size")
    return s.optional_size(named) or (height // patch) * (width // patch)


def _molmo_beside(s: Settings, _text: Settings) -> Named:
    legacy = s.value("vit_config")
    whole = s if s.raw.get("vision_config") is not None or legacy is None else s.with_fields(vision_config=legacy)
    vision, visual = _MOLMO_VISION_PART.of(whole)
    adapter, _ = _MOLMO_ADAPTER_PART.of(s)
    read = _read_layers(adapter)
    if legacy is not None:
        # Layers above the last one that is read are left out.
        layers = vision.layers
        vision = vision.with_fields(num_hidden_layers=max(layer % layers for layer in read) + 1)
    yield from below("vision_tower", visual(vision))
    bias = adapter.flag("mlp_bias")
    path = "multi_modal_projector"
    yield from _molmo_attention(adapter, f"{path}.image_pooling_2d", adapter.hidden * len(read))
    yield from linear(f"{path}.image_projector", adapter.inner, adapter.hidden, "gate_proj", "up_proj", bias=bias)
    yield from linear(f"{path}.image_projector.down_proj", adapter.size("text_hidden_size"), adapter.inner)


def _read_layers(adapter: Settings) -> list[int]:
    """The tower's layers that the adapter reads. Raises InputError."""
    named = "vit_layers" if adapter.value("vit_layers") is not None else "vision_feature_layer"
    layers = adapter.filled("vision_feature_layer").value(named)
    if not isinstance(layers, list | tuple) or not all(type(layer) is int for layer in layers):
        raise InputError(
            "the base config's vision_feature_layer is not a list of whole numbers.",
            hint="Use the base model's own config.json.",
        )
    return list(layers)


_MOLMO_VISION_PART = fixed("vision_config", Tower("molmo2_vision", _molmo_visual))
_MOLMO_ADAPTER_PART = fixed("adapter_config", Tower("molmo2_adapter", lambda _: iter(())))

ARCHITECTURES: Architectures = {
    "olmo": declared(framed(_olmo)),
    "olmo2": declared(framed(_olmo2)),
    "olmo3": like("olmo2"),
    "olmoe": declared(*both_names(_olmoe, linear_experts, framed)),
    "flex_olmo": declared(*both_names(_flex_olmo, linear_experts, framed)),
    "olmo_hybrid": declared(framed(_olmo_hybrid)),
    "molmo2_text": declared(framed(_molmo_text)),
    "molmo2": composite(with_towers(fixed("text_config", Tower("molmo2_text", _molmo_text)), _molmo_beside)),
}
