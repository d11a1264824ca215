"""MiniCPM's decoders, and its models that see."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Head, declared
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.frames import framed, head_modules, numbered
from lora_packer.base_model.blocks.latent import latent_decoder
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, norm
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _cpmant(s: Settings) -> Named:
    """CPM-Ant, whose input embedding holds the tokens of its prompts too."""
    hidden, inner, heads = s.size("hidden_size"), s.size("dim_ff"), s.size("num_attention_heads")
    width, segments = heads * s.size("dim_head"), s.size("segment_types")

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_att.self_attention"
        yield norm(f"{prefix}.self_att.layernorm_before_attention", hidden)
        for name in ("project_q", "project_k", "project_v"):
            yield linear(f"{path}.{name}", width, hidden)
        yield linear(f"{path}.attention_out", hidden, width)
        yield norm(f"{prefix}.ffn.layernorm_before_ffn", hidden)
        yield linear(f"{prefix}.ffn.ffn.w_in.w_0", inner, hidden)
        yield linear(f"{prefix}.ffn.ffn.w_in.w_1", inner, hidden)
        yield linear(f"{prefix}.ffn.ffn.w_out", hidden, inner)

    yield from numbered(s, "encoder.layers", layer)
    yield norm("encoder.output_layernorm", hidden)
    yield embedding("segment_embedding", segments, hidden)
    yield embedding("input_embedding", _cpmant_rows(s), hidden)
    rows = segments**2 + s.size("position_bias_num_buckets")
    yield "position_bias.relative_attention_bias", Module("parameter", (rows, heads))


def _cpmant_rows(s: Settings) -> int:
    return s.size("vocab_size") + s.count("prompt_types") * s.count("prompt_length")


def _cpmant_head_before_5(s: Settings, head: Head) -> Named:
    return head_modules(s.with_fields(vocab_size=_cpmant_rows(s)), head)


def _minicpm_visual(s: Settings) -> Named:
    """SigLIP, which merges windows of patches halfway."""
    yield from siglip_body(s)
    hidden, (height, width) = s.size("hidden_size"), s.pair("window_kernel_size")
    window, inner = hidden * height * width, s.size("intermediate_size") * height * width
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        yield linear(f"vit_merger.self_attn.{name}", hidden, hidden, bias=True)
    yield from layer_norm("vit_merger.layer_norm1", hidden)
    yield from layer_norm("vit_merger.pre_norm", window)
    yield linear("vit_merger.linear_1", inner, window, bias=True)
    yield linear("vit_merger.linear_2", hidden, inner, bias=True)


def _minicpm_merger(s: Settings, vision: Settings, text: Settings) -> Named:
    """The tower's output, merged four to one as often as the config says; the last time to the text's width."""
    hidden, last = vision.size("hidden_size"), max(s.count("merger_times"), 1) - 1
    for index in range(last + 1):
        path = f"merger.mlp.{index}"
        yield from layer_norm(f"{path}.pre_norm", 4 * hidden)
        yield linear(f"{path}.linear_1", 4 * hidden, 4 * hidden, bias=True)
        outputs = text.size("hidden_size") if index == last else hidden
        yield linear(f"{path}.linear_2", outputs, 4 * hidden, bias=True)


_MINICPM = composite(
    with_towers(
        text_part("qwen3_5_text"),
        seeing(fixed("vision_config", Tower("minicpm_ocr_vision", _minicpm_visual)), _minicpm_merger),
    )
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "minicpm3": declared(framed(latent_decoder)),
    "cpmant": declared(
        framed(_cpmant, prefix="cpmant."),
        {TRANSFORMERS_4: framed(_cpmant, prefix="cpmant.", heads=_cpmant_head_before_5)},
        input_embedding="input_embedding",
    ),
    "minicpm_ocr": _MINICPM,
    "minicpmv4_6": _MINICPM,
    "minicpmv4_7": _MINICPM,
}
