"""MiniCPM's decoders, and its models that see."""

from __future__ import annotations

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, Head, declared, like
from lora_packer.base_model.blocks.composite import Tower, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.frames import framed, head_modules, numbered
from lora_packer.base_model.blocks.latent import latent_decoder
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _cpmant(s: Settings) -> Named:
    """CPM-Ant, whose input embedding holds the tokens of its prompts too."""
    inner = s.size("dim_ff")
    width, segments = s.heads * s.size("dim_head"), s.size("segment_types")

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_att.self_attention"
        yield from norm(f"{prefix}.self_att.layernorm_before_attention", s.hidden)
        yield from linear(path, width, s.hidden, "project_q", "project_k", "project_v")
        yield from linear(f"{path}.attention_out", s.hidden, width)
        yield from norm(f"{prefix}.ffn.layernorm_before_ffn", s.hidden)
        yield from linear(f"{prefix}.ffn.ffn.w_in", inner, s.hidden, "w_0", "w_1")
        yield from linear(f"{prefix}.ffn.ffn.w_out", s.hidden, inner)

    yield from numbered(s, "encoder.layers", layer)
    yield from norm("encoder.output_layernorm", s.hidden)
    yield from embedding("segment_embedding", segments, s.hidden)
    yield from embedding("input_embedding", _cpmant_rows(s), s.hidden)
    rows = segments**2 + s.size("position_bias_num_buckets")
    yield from parameter("position_bias.relative_attention_bias", rows, s.heads)


def _cpmant_rows(s: Settings) -> int:
    return s.vocab + s.count("prompt_types") * s.count("prompt_length")


def _cpmant_head_before_5(s: Settings, head: Head) -> Named:
    return head_modules(s.with_fields(vocab_size=_cpmant_rows(s)), head)


def _minicpm_visual(s: Settings) -> Named:
    """SigLIP, which merges windows of patches halfway."""
    yield from siglip_body(s)
    height, width = s.pair("window_kernel_size")
    window, inner = s.hidden * height * width, s.inner * height * width
    yield from linear("vit_merger.self_attn", s.hidden, s.hidden, "q_proj", "k_proj", "v_proj", "out_proj", bias=True)
    yield from layer_norm("vit_merger.layer_norm1", s.hidden)
    yield from layer_norm("vit_merger.pre_norm", window)
    yield from chain("vit_merger", (window, inner, s.hidden), "linear_1", "linear_2", bias=True)


def _minicpm_merger(s: Settings, vision: Settings, text: Settings) -> Named:
    """The tower's output, merged four to one as often as the config says; the last time to the text's width."""
    last = max(s.count("merger_times"), 1) - 1
    for index in range(last + 1):
        path = f"merger.mlp.{index}"
        yield from layer_norm(f"{path}.pre_norm", 4 * vision.hidden)
        yield from linear(f"{path}.linear_1", 4 * vision.hidden, 4 * vision.hidden, bias=True)
        outputs = text.hidden if index == last else vision.hidden
        yield from linear(f"{path}.linear_2", outputs, 4 * vision.hidden, bias=True)


ARCHITECTURES: Architectures = {
    "minicpm3": declared(framed(latent_decoder)),
    "cpmant": declared(
        framed(_cpmant, prefix="cpmant."),
        {TRANSFORMERS_4: framed(_cpmant, prefix="cpmant.", heads=_cpmant_head_before_5)},
        input_embedding="input_embedding",
    ),
    "minicpm_ocr": composite(
        with_towers(
            text_part("qwen3_5_text"),
            seeing(fixed("vision_config", Tower("minicpm_ocr_vision", _minicpm_visual)), _minicpm_merger),
        )
    ),
    "minicpmv4_6": like("minicpm_ocr"),
    "minicpmv4_7": like("minicpm_ocr"),
}
