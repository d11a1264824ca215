"""DeepSeek's models as their own code has them: the first mixture of experts, and DeepSeek-VL2."""

from __future__ import annotations

from collections.abc import Callable

from lora_packer.base_model.architecture import Head
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import below
from lora_packer.base_model.blocks.experts import parameter_routed_experts, sparse_layers
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp
from lora_packer.base_model.blocks.frames import framed, stacked
from lora_packer.base_model.blocks.latent import latent_attention
from lora_packer.base_model.blocks.layers import chain, linear, parameter
from lora_packer.base_model.blocks.towers import fused_tower, latent_pooling
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


def first_deepseek(s: Settings) -> Named:
    """DeepSeek-MoE: plain attention, and experts after the first layers."""
    is_sparse = _has_experts(s)

    def layer(prefix: str, index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        yield from _mixture(s, f"{prefix}.mlp") if is_sparse(index) else plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


def _has_experts(s: Settings) -> Callable[[int], bool]:
    """Which layers have experts."""
    sparse, count = sparse_layers(s), s.count("n_routed_experts")
    return lambda index: bool(count) and sparse(index) != "dense"


def _mixture(s: Settings, path: str) -> Named:
    """Experts that are linears each, and those that every token goes through."""
    width = s.size("moe_intermediate_size")
    yield from parameter_routed_experts(path, s.hidden, width, s.count("n_routed_experts"))
    if s.optional_size("n_shared_experts"):
        yield from gated_mlp(f"{path}.shared_experts", s.hidden, width * s.size("n_shared_experts"))


def remote_deepseek(s: Settings) -> Named:
    """DeepSeek's decoder as its own code has it: latent or plain attention, and experts that are linears each."""
    is_sparse = _has_experts(s)

    def layer(prefix: str, index: int) -> Named:
        if s.flag("use_mla"):
            yield from latent_attention(s, f"{prefix}.self_attn")
        else:
            yield from plain_attention(s, f"{prefix}.self_attn")
        if not is_sparse(index):
            yield from plain_mlp(s, f"{prefix}.mlp")
            return
        yield from _mixture(s, f"{prefix}.mlp")
        if s.value("topk_method") == "noaux_tc":
            yield from parameter(f"{prefix}.mlp.gate.e_score_correction_bias", s.count("n_routed_experts"))

    return stacked(s, layer)


def deepseek_vl2(s: Settings, _head: Head) -> Named:
    """DeepSeek-VL2: timm's SigLIP, a projector, what separates the tiles of an image, and the language model."""
    vision = s.nested("vision_config").aliased(
        {"width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads"}
    )
    inner = int(vision.hidden * vision.ratio("mlp_ratio"))
    last = "fc_norm" if vision.value("global_pool") == "avg" else "norm"
    yield from below("vision", fused_tower(vision, inner, last))
    if vision.value("global_pool") == "map":
        yield from below("vision", latent_pooling(vision, inner))
    joins = s.nested("projector_config")
    yield from below("projector", _vl2_projector(joins))
    if s.value("tile_tag") != "2D":
        raise UnknownArchitecture("there is no proven definition for a tile_tag other than '2D'.")
    for name in ("image_newline", "view_seperator"):
        yield from parameter(name, joins.size("n_embed"))
    yield from below("language", framed(remote_deepseek)(s.nested("language_config"), "causal-lm"))


def _vl2_projector(s: Settings) -> Named:
    inputs, width, depth = s.size("input_dim"), s.size("n_embed"), s.size("depth")
    ratio = s.size("downsample_ratio")
    match s.value("projector_type"):
        case "linear":
            yield from linear("layers", width, inputs, bias=True)
        case "mlp_gelu":
            sizes = (inputs, *(width for _ in range(depth)))
            yield from chain("layers", sizes, *(str(2 * index) for index in range(depth)), bias=True)
        case "downsample_mlp_gelu":
            middle = (width * s.size("mlp_ratio") for _ in range(max(depth - 1, 1)))
            sizes = (inputs * ratio * ratio, *middle, width)
            yield from chain("layers", sizes, *(str(2 * index) for index in range(len(sizes) - 1)), bias=True)
        case _:
            raise UnknownArchitecture("there is no proven definition for the projector_type of this DeepSeek-VL2.")
    if s.flag("token_pooling"):
        yield from linear("token_pooling_layer", inputs, 4 * inputs, bias=True)
