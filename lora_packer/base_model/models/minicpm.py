"""MiniCPM's decoders, and its models that see."""

from __future__ import annotations

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architectures, Head, Proof, declared, like, remote
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.composite import (
    Tower,
    below,
    composite,
    fixed,
    text_part,
    whole_language_model,
    with_towers,
)
from lora_packer.base_model.blocks.experts import numbered_experts
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import framed, head_modules, numbered, stacked
from lora_packer.base_model.blocks.latent import latent_decoder
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.towers import fused_tower, siglip_body
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape


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


def _minicpm(s: Settings) -> Named:
    """MiniCPM 1, 2 and 4: Llama's layers; with ``num_experts`` a mixture in each."""
    s, count = s.with_fields(head_dim=None), s.count("num_experts")

    def layer(prefix: str, _index: int) -> Named:
        yield from plain_attention(s, f"{prefix}.self_attn")
        if count:
            yield from numbered_experts(f"{prefix}.mlp", s.hidden, s.inner, count)
        else:
            yield from plain_mlp(s, f"{prefix}.mlp")

    return stacked(s, layer)


# MiniCPM-V's language models: the version that a config says, and 2.0 where it says none.
_LANGUAGE = {"2.5": "llama", "2.6": "qwen2", "4.0": "llama", "4.5": "qwen3"}


def _minicpmv(s: Settings, _head: Head) -> Named:
    """MiniCPM-V 2.0 to 4.5: a whole language model of the root's fields, a tower, and a resampler between them."""
    said = s.value("version")
    version = "2.0" if said is None else str(said)
    language = whole_language_model(_LANGUAGE.get(version, "") if said is not None else "minicpm")
    if language is None:
        raise UnknownArchitecture(f"there is no proven definition for MiniCPM-V {escape(version, 20)}.")
    text = Settings(s.raw, language.defaults)
    yield from below("llm", language.modules(text))
    if said is None:
        # What timm's vit_so400m_patch14_siglip_384 is, whatever the config's image_size says.
        if s.value("vision_encoder") != "vit_so400m_patch14_siglip_384.webli":
            raise UnknownArchitecture("there is no proven definition for the tower that vision_encoder names.")
        vision = Settings({}, "minicpmv.vision_encoder")
        yield from below("vpm", fused_tower(less_the_last(s, vision), vision.inner))
    else:
        vision = Settings(s.nested("vision_config").raw, "minicpmv.vision_config")
        yield from below("vpm", siglip_body(less_the_last(s, vision)))
    yield from below("resampler", resampler(s.size("query_num"), text.hidden, vision.hidden))
    if said is None:
        yield from parameter("resampler.pos_embed", s.size("query_num"), text.hidden)


def less_the_last(s: Settings, vision: Settings) -> Settings:
    """The tower without its last layer, where the config drops it."""
    return vision.with_fields(num_hidden_layers=vision.layers - 1) if s.flag("drop_vision_last_layer") else vision


def resampler(queries: int, width: int, inputs: int) -> Named:
    """Cross attention from learned queries (torch.nn.MultiheadAttention holds q, k and v in one parameter)."""
    yield from parameter("query", queries, width)
    if inputs != width:
        yield from linear("kv_proj", width, inputs)
    yield from parameter("attn.in_proj_weight", 3 * width, width)
    yield from parameter("attn.in_proj_bias", 3 * width)
    yield from linear("attn.out_proj", width, width, bias=True)
    for name in ("ln_q", "ln_kv", "ln_post"):
        yield from layer_norm(name, width)
    yield from parameter("proj", width, width)


ARCHITECTURES: Architectures = {
    "minicpmv": remote(
        _minicpmv,
        Proof(
            "read",
            "404805854/minicpmv2.6-onnx 48804ee, modeling_minicpmv.py and resampler.py; "
            "vllm/model_executor/models/minicpmv.py (vllm 0.33.0)",
        ),
        classes={"MiniCPMV": "causal-lm"},
    ),
    "minicpm": remote(
        framed(_minicpm),
        Proof(
            "built",
            "layerwise/modeling_minicpm_reranker.py (FlagEmbedding 1.4.2): the bare model; head and experts were "
            "read from vllm/model_executor/models/minicpm.py (vllm 0.33.0)",
            ("sequence-classification",),
        ),
    ),
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
