"""Moonshot's Kimi: linear attention, K2 in DeepSeek's frame, and K2.5 with its tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lora_packer.base_model.architecture import Architectures, Head, Proof, declared, only_for, remote
from lora_packer.base_model.blocks.composite import Part, Tower, below, composite, fixed, with_towers
from lora_packer.base_model.blocks.experts import first_dense, mixture_or_dense, number_of_experts
from lora_packer.base_model.blocks.frames import framed, layer_kinds, stacked
from lora_packer.base_model.blocks.latent import latent_attention
from lora_packer.base_model.blocks.layers import chain, conv, layer_norm, linear, parameter
from lora_packer.base_model.blocks.projectors import seeing
from lora_packer.base_model.blocks.recurrent import kimi_delta_attention, kimi_delta_sizes
from lora_packer.base_model.blocks.towers import short_layers
from lora_packer.base_model.models.deepseek import DEEPSEEK_V3
from lora_packer.base_model.models.deepseek_remote import remote_deepseek
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _kimi_linear(s: Settings) -> Named:
    """Kimi Linear's decoder: Kimi delta attention, and latent attention on some layers."""
    count = number_of_experts(s, "num_local_experts", "num_experts")
    s = s.aliased({"num_shared_experts": "n_shared_experts"})
    attends, feeds, delta = _kimi_kinds(s), first_dense(s), kimi_delta_sizes(s)
    forgets = {"dt_bias": (delta[0] * delta[1],), "A_log": (1, 1, delta[0], 1)}

    def layer(prefix: str, index: int) -> Named:
        if attends(index) == "full_attention":
            yield from latent_attention(s, f"{prefix}.self_attn")
        else:
            yield from kimi_delta_attention(f"{prefix}.self_attn", s.hidden, *delta, forgets=forgets)
        yield from mixture_or_dense(
            s, f"{prefix}.mlp", count, sparse=feeds(index) == "sparse", shared="num_shared_experts"
        )

    return stacked(s, layer)


def _kimi_kinds(s: Settings) -> Callable[[int], str]:
    """Return how a layer attends; older configs count the layers of full attention from one."""
    older = s.nested("linear_attn_config")
    if "full_attn_layers" in older.raw and "kda_layers" in older.raw:
        full = older.indices("full_attn_layers") - older.indices("kda_layers")
        return layer_kinds(
            s.names("layer_types"), lambda index: "full_attention" if index + 1 in full else "linear_attention"
        )
    return layer_kinds(
        s.names("layer_types"), lambda index: "full_attention" if index and index % 4 == 0 else "linear_attention"
    )


def _kimi_visual(s: Settings) -> Named:
    yield from conv("patch_embed.proj", (s.hidden, 3, *s.pair("patch_size")), bias=True)
    grid = (s.size("pos_emb_height"), s.size("pos_emb_width"), s.hidden)
    yield from parameter("patch_embed.pos_emb.position_embeddings", *grid)
    yield from short_layers(s)
    yield from layer_norm("final_layernorm", s.hidden)


def _kimi_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    height, width = vision.pair("merge_kernel_size")
    merged = vision.hidden * height * width
    yield from layer_norm("mm_projector.pre_norm", s.size("projection_hidden_size"))
    yield from linear("mm_projector.in_proj", merged, merged, bias=True)
    yield from linear("mm_projector.out_proj", text.hidden, merged, bias=True)


def _moonvit(s: Settings) -> Named:
    """MoonViT as Kimi-VL's repository has it: queries, keys and values in one, and positions of any grid."""
    yield from conv("patch_embed.proj", (s.hidden, 3, *s.pair("patch_size")), bias=True)
    grid = (s.size("init_pos_emb_height"), s.size("init_pos_emb_width"), s.hidden)
    yield from parameter("patch_embed.pos_emb.weight", *grid)
    for index in range(s.layers):
        path = f"encoder.blocks.{index}"
        yield from layer_norm(path, s.hidden, "norm0", "norm1")
        yield from chain(f"{path}.mlp", (s.hidden, s.inner, s.hidden), "fc0", "fc1", bias=True)
        yield from linear(f"{path}.wqkv", 3 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{path}.wo", s.hidden, s.hidden, bias=True)
    yield from layer_norm("encoder.final_layernorm", s.hidden)


def _kimi_vl(s: Settings, _head: Head) -> Named:
    """Kimi-VL: MoonViT, a projector, and DeepSeek-V3's language model as its own code has it."""
    vision, text = s.nested("vision_config"), s.nested("text_config")
    height, width = vision.pair("merge_kernel_size")
    merged = vision.hidden * height * width
    yield from below("vision_tower", _moonvit(vision))
    yield from layer_norm("multi_modal_projector.pre_norm", vision.hidden)
    yield from chain("multi_modal_projector", (merged, merged, text.hidden), "linear_1", "linear_2", bias=True)
    yield from below("language_model", framed(remote_deepseek)(text.with_fields(use_mla=True), "causal-lm"))


_DEEPSEEK_V3_CLASSES = tuple(
    f"DeepseekV3{name}" for name in ("ForCausalLM", "Model", "ForSequenceClassification", "ForTokenClassification")
)
_KIMI_TEXT = Part("text_config", "deepseek_v3", aliases={"kimi_k2": "deepseek_v3"})
_KIMI_BESIDE = seeing(fixed("vision_config", Tower("kimi_k25_vision", _kimi_visual)), _kimi_projector)

ARCHITECTURES: Architectures = {
    "kimi_vl": remote(
        _kimi_vl,
        Proof("read", "vllm/model_executor/models/kimi_vl.py and moonvit.py (vllm 0.33.0)"),
        text_config="text_config",
    ),
    # Kimi-K2's config.json names DeepseekV3ForCausalLM as its architecture; one that names another class is another's.
    "kimi_k2": replace(
        DEEPSEEK_V3,
        dialects={name: only_for(build, *_DEEPSEEK_V3_CLASSES) for name, build in DEEPSEEK_V3.dialects.items()},
    ),
    "kimi_linear": declared(framed(_kimi_linear)),
    "kimi_k25": composite(with_towers(_KIMI_TEXT, _KIMI_BESIDE)),
}
