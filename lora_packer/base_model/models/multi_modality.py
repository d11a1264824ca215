"""DeepSeek-VL and Janus as their own repositories have them, before their transfer to transformers: multi_modality."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.composite import Part, below, whole_language_model
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import fused_tower, latent_pooling
from lora_packer.base_model.models.chameleon import codebook, plane, plane_attention, residual
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture

_LANGUAGE = Part("language_config", "llama", lambda _: whole_language_model("llama"))
# What a model_name stands for (siglip_vit.py and sam.py of these repositories): the recorded sizes.
_TOWERS = {
    "siglip_so400m_patch14_384": "multi_modality.siglip_so400m_patch14",
    "siglip_so400m_patch14_224": "multi_modality.siglip_so400m_patch14",
    "siglip_large_patch16_384": "multi_modality.siglip_large_patch16",
    "sam_b_downsample": "multi_modality.sam_b_downsample",
}


def _multi_modality(s: Settings, _head: Head) -> Named:
    if "vision_gen_enc_config" in s.raw:  # JanusFlow's
        raise _unknown("vision_gen_enc_config")
    text, decoder = _LANGUAGE.of(s)
    yield from below("vision_model", _visual(s.nested("vision_config")))
    yield from below("aligner", _projector(s.nested("aligner_config")))
    if "gen_vision_config" in s.raw:
        yield from _drawing(s)
    yield from below("language_model", decoder(text))


def _unknown(field: str) -> UnknownArchitecture:
    return UnknownArchitecture(f"there is no proven definition for what {field} of this multi_modality model says.")


def _visual(s: Settings) -> Named:
    params = s.nested("params")
    match s.value("cls"):
        case "CLIPVisionTower":
            yield from _tower(params)
        case "HybridVisionTower":
            for side, low in (("high", "high_res_cfg"), ("low", "low_res_cfg")):
                tower = params.nested(low)
                yield from below(f"vision_tower_{side}", _tower(tower))
                yield from layer_norm(f"{side}_layer_norm", tower.size("output_dim"))
        case _:
            raise _unknown("vision_config")


def _tower(s: Settings) -> Named:
    named = s.value("model_name")
    recorded = _TOWERS.get(named) if isinstance(named, str) else None
    if recorded is None:
        raise _unknown("vision_config")
    tower = Settings({"image_size": s.size("image_size")}, recorded)
    if recorded.endswith("sam_b_downsample"):
        yield from below("vision_tower", _sam(tower))
        return
    layer = s.value("select_layer")
    if type(layer) is not int:
        raise _unknown("vision_config")
    tower = tower.with_fields(num_hidden_layers=min(tower.layers, tower.layers + layer + 1 if layer <= 0 else layer))
    inner = int(tower.hidden * tower.ratio("mlp_ratio"))
    yield from below("vision_tower", fused_tower(tower, inner))
    yield from below("vision_tower", latent_pooling(tower, inner))


def _sam(s: Settings) -> Named:
    """Segment Anything with two more convolutions, and its neck once more for a layer in the middle."""
    grid, head_dim, inner = s.size("image_size") // s.size("patch_size"), s.hidden // s.heads, 4 * s.hidden
    everywhere, outputs, patch = s.indices("global_attn_indexes"), s.size("output_channels"), s.size("patch_size")
    yield from parameter("pos_embed", 1, grid, grid, s.hidden)
    yield from conv("patch_embed.proj", (s.hidden, 3, patch, patch), bias=True)
    for index in range(s.layers):
        path, side = f"blocks.{index}", grid if index in everywhere else s.size("window_size")
        yield from layer_norm(path, s.hidden, "norm1", "norm2")
        yield from linear(f"{path}.attn.qkv", 3 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{path}.attn.proj", s.hidden, s.hidden, bias=True)
        yield from parameter(f"{path}.attn.rel_pos_h", 2 * side - 1, head_dim)
        yield from parameter(f"{path}.attn.rel_pos_w", 2 * side - 1, head_dim)
        yield from chain(f"{path}.mlp", (s.hidden, inner, s.hidden), "lin1", "lin2", bias=True)
    for neck in ("neck", "neck_hd"):
        yield from conv(f"{neck}.0", (outputs, s.hidden, 1, 1), bias=False)
        yield from layer_norm(f"{neck}.1", outputs)
        yield from conv(f"{neck}.2", (outputs, outputs, 3, 3), bias=False)
        yield from layer_norm(f"{neck}.3", outputs)
    yield from conv("downsamples.0", (2 * outputs, outputs, 3, 3), bias=False)
    yield from conv("downsamples.1", (4 * outputs, 2 * outputs, 3, 3), bias=False)
    yield from parameter("hd_alpha_downsamples", 1)


def _projector(s: Settings) -> Named:
    params = s.nested("params")
    inputs, width, depth = params.size("input_dim"), params.size("n_embed"), params.size("depth")
    match params.value("projector_type"):
        case "linear":
            yield from linear("layers", width, inputs, bias=True)
        case "mlp_gelu":
            sizes = (inputs, *(width for _ in range(depth)))
            yield from chain("layers", sizes, *(str(2 * index) for index in range(depth)), bias=True)
        case "low_high_hybrid_split_mlp_gelu":
            yield from linear("high_up_proj", width // 2, inputs, bias=True)
            yield from linear("low_up_proj", width // 2, inputs, bias=True)
            for index in range(depth - 1):
                yield from linear(f"layers.{2 * index + 1}", width, width, bias=True)
        case _:
            raise _unknown("aligner_config")


def _drawing(s: Settings) -> Named:
    """What Janus draws with: the codes of an image, their way into the language model, and the one out of it."""
    draws, head = s.nested("gen_vision_config"), s.nested("gen_head_config").nested("params")
    if draws.value("cls") != "VQ-16" or s.nested("gen_head_config").value("cls") != "vision_head":
        raise _unknown("gen_vision_config")
    codes = Settings({}, "multi_modality.VQ-16")
    yield from below("gen_vision_model.encoder", _encoder(codes))
    yield from below("gen_vision_model.decoder", _decoder(codes))
    yield from below("gen_vision_model", codebook(codes))
    yield from below("gen_aligner", _projector(s.nested("gen_aligner_config")))
    wide, count = head.size("image_token_embed"), head.size("image_token_size")
    yield from chain("gen_head", (head.size("n_embed"), wide, count), "output_mlp_projector", "vision_head", bias=True)
    params = draws.nested("params")
    yield from embedding("gen_embed", params.size("image_token_size"), params.size("n_embed"))


def _middle(channels: int) -> Named:
    yield from residual("mid.0", channels, channels)
    yield from plane_attention("mid.1", channels)
    yield from residual("mid.2", channels, channels)


def _encoder(s: Settings) -> Named:
    base, multipliers = s.size("base_channels"), s.sizes("channel_multiplier")
    channels, last = base, len(multipliers) - 1
    yield from plane("conv_in", channels, s.size("in_channels"))
    for level, multiplier in enumerate(multipliers):
        for block in range(s.size("num_res_blocks")):
            yield from residual(f"conv_blocks.{level}.res.{block}", channels, base * multiplier)
            channels = base * multiplier
            if level == last:
                yield from plane_attention(f"conv_blocks.{level}.attn.{block}", channels)
        if level != last:
            yield from plane(f"conv_blocks.{level}.downsample.conv", channels, channels)
    yield from _middle(channels)
    yield from layer_norm("norm_out", channels)
    yield from plane("conv_out", s.size("latent_channels"), channels)


def _decoder(s: Settings) -> Named:
    base, multipliers = s.size("base_channels"), s.sizes("channel_multiplier")
    channels, last = base * multipliers[-1], len(multipliers) - 1
    yield from plane("conv_in", channels, s.size("latent_channels"))
    yield from _middle(channels)
    for level, multiplier in enumerate(reversed(multipliers)):
        for block in range(s.size("num_res_blocks") + 1):
            yield from residual(f"conv_blocks.{level}.res.{block}", channels, base * multiplier)
            channels = base * multiplier
            if level == 0:
                yield from plane_attention(f"conv_blocks.{level}.attn.{block}", channels)
        if level != last:
            yield from plane(f"conv_blocks.{level}.upsample.conv", channels, channels)
    yield from layer_norm("norm_out", channels)
    yield from plane("conv_out", s.size("out_channels"), channels)


ARCHITECTURES: Architectures = {
    "multi_modality": remote(
        _multi_modality,
        Proof(
            "built",
            "janus/models/modeling_vlm.py (jrx-ai 0.1.4), deepseek_vl/models/modeling_vlm.py (xinference 1.5.0)",
        ),
        text_config="language_config",
        classes={"MultiModalityCausalLM": "causal-lm"},
    ),
}
