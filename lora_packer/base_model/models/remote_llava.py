"""Models of LLaVA's kind whose code is in their own repositories: a tower, a projector, and a language model."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import (
    TEXT_ONLY,
    TRANSFORMERS_4,
    TRANSFORMERS_5,
    Architecture,
    Architectures,
    Head,
    Proof,
    remote,
)
from lora_packer.base_model.blocks.composite import Part, Tower, below, whole_language_model
from lora_packer.base_model.blocks.frames import framed
from lora_packer.base_model.blocks.layers import chain, linear, parameter
from lora_packer.base_model.blocks.towers import clip, fused_tower, latent_pooling, siglip_body
from lora_packer.base_model.module import Named
from lora_packer.base_model.registry import ARCHITECTURES as REGISTRY
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture

_TEXT = Part("text_config", "llama", whole_language_model)


def _maira2(s: Settings, _head: Head) -> Named:
    """MAIRA-2: DINOv2, as many linears as the config says, and a language model, under LLaVA's names before 4.52."""
    vision, (text, decoder) = s.nested("vision_config"), _TEXT.of(s)
    if vision.value("model_type") != "dinov2":
        raise UnknownArchitecture("there is no proven definition for the vision_config of this MAIRA-2.")
    tower = REGISTRY["dinov2"]
    seen = Settings(vision.raw, "dinov2")
    yield from below("vision_tower", tower.dialects[TRANSFORMERS_4](seen, "none"))
    count = s.size("projector_n_layers")
    sizes = (seen.hidden, *(text.hidden for _ in range(count)))
    yield from chain("multi_modal_projector.layers", sizes, *(str(2 * index) for index in range(count)), bias=True)
    yield from below("language_model", decoder(text))


def _mineru2(s: Settings) -> Named:
    """MinerU 2: Qwen 2's decoder with SigLIP and a projector inside it."""
    yield from REGISTRY["qwen2"].dialects[TRANSFORMERS_5](s, "none")
    if s.value("mm_vision_tower") != "google/siglip-so400m-patch14-384":
        raise UnknownArchitecture("there is no proven definition for the tower that mm_vision_tower names.")
    tower = Settings({}, "mineru2_qwen.vision_tower")
    yield from below("vision_tower.vision_tower.vision_model", siglip_body(tower))
    yield from _projector(s, "mm_projector")
    if "unpad" in str(s.value("mm_patch_merge_type")):
        yield from parameter("image_newline", s.hidden)


def _projector(s: Settings, path: str) -> Named:
    """What leads from the tower's width to the decoder's: LLaVA's ``mm_projector_type``."""
    kind, inputs = str(s.value("mm_projector_type")), s.size("mm_hidden_size")
    deep = re.fullmatch(r"mlp([1-9])x_gelu", kind)
    if deep is not None:
        sizes = (inputs, *(s.hidden for _ in range(int(deep[1]))))
        yield from chain(path, sizes, *(str(2 * index) for index in range(len(sizes) - 1)), bias=True)
    elif kind == "linear":
        yield from linear(path, s.hidden, inputs, bias=True)
    elif kind != "identity":
        raise UnknownArchitecture("there is no proven definition for the mm_projector_type of this model.")


# timm's towers, of which Prismatic's models fuse two.
_TIMM_TOWERS = {
    "vit_large_patch14_reg4_dinov2.lvd142m": "openvla.dinov2_large",
    "vit_so400m_patch14_siglip_224": "openvla.siglip_so400m",
    "vit_so400m_patch14_siglip_384": "openvla.siglip_so400m",
}


def _openvla(s: Settings, _head: Head) -> Named:
    """OpenVLA, and Prismatic's models: one tower of timm's or two, a projector, and a whole language model."""
    text, decoder = _TEXT.of(s)
    names, sizes = s.names("timm_model_ids"), s.sizes("image_sizes")
    fused, width = s.flag("use_fused_vision_backbone"), 0
    wanted = ("featurizer", "fused_featurizer")[: 2 if fused else 1]
    for tower, name, size in zip(wanted, names or (), sizes, strict=False):
        if name not in _TIMM_TOWERS:
            raise UnknownArchitecture("there is no proven definition for the towers that timm_model_ids names.")
        vision = Settings({"image_size": size}, _TIMM_TOWERS[name])
        yield from below(f"vision_backbone.{tower}", _timm(vision))
        width += vision.hidden
    widths = (width, 4 * width, text.hidden, text.hidden) if fused else (width, text.hidden, text.hidden)
    yield from chain("projector", widths, *("fc1", "fc2", "fc3")[: len(widths) - 1], bias=True)
    yield from below("language_model", decoder(text))


def _timm(s: Settings) -> Named:
    """timm's tower: DINOv2's has a token of its own, registers, and scales, which SigLIP's lacks; that one pools."""
    yield from fused_tower(s, s.inner)
    registers = s.count("reg_tokens")
    if not registers:
        yield from latent_pooling(s, s.inner)
        return
    yield from parameter("cls_token", 1, 1, s.hidden)
    yield from parameter("reg_token", 1, registers, s.hidden)
    for index in range(s.layers):
        # Renamed from gamma, which transformers took for a name of its own.
        yield from parameter(f"blocks.{index}.ls1.scale_factor", s.hidden)
        yield from parameter(f"blocks.{index}.ls2.scale_factor", s.hidden)


# The towers that LLaVA's own repositories load by their names: SigLIP loses its last layer and its head there.
_NAMED_TOWERS = {
    "openai/clip-vit-large-patch14-336": Tower("llava.clip_large_336", clip),
    "openai/clip-vit-large-patch14": Tower("llava.clip_large_224", clip),
    "google/siglip-so400m-patch14-384": Tower("mineru2_qwen.vision_tower", siglip_body),
}


def _llava(s: Settings, *, decoder: str, tower: bool = True) -> Named:
    """LLaVA before its transfer to transformers: a decoder with a projector inside it, and with its tower.

    The tower is loaded when the model is made where the config says that it was trained, else behind LoRA's back.
    """
    if s.value("llm_cfg") is not None or s.value("mm_resampler_type") is not None:
        raise UnknownArchitecture("there is no proven definition for a LLaVA with llm_cfg or mm_resampler_type.")
    yield from REGISTRY[decoder].dialects[TRANSFORMERS_5](s, "none")
    if s.value("mm_vision_tower") is None:
        return
    trained = s.flag("unfreeze_mm_vision_tower") or "mm_vision_tower" in str(s.value("mm_tunable_parts"))
    if tower and trained:
        named = _NAMED_TOWERS.get(str(s.value("mm_vision_tower")))
        if named is None:
            raise UnknownArchitecture("there is no proven definition for the tower that mm_vision_tower names.")
        yield from below("vision_tower.vision_tower.vision_model", named.modules(Settings({}, named.defaults)))
    yield from _projector(s, "mm_projector")
    if "unpad" in str(s.value("mm_patch_merge_type")):
        yield from parameter("image_newline", s.hidden)


def _llava_of(decoder: str, source: str) -> Architecture:
    whole: Callable[[Settings], Named] = partial(_llava, decoder=decoder)
    return remote(
        framed(whole), Proof("read", source), {TEXT_ONLY: framed(partial(_llava, decoder=decoder, tower=False))}
    )


_LLAVA = (
    "haotian-liu/LLaVA, llava/model/llava_arch.py and multimodal_encoder/clip_encoder.py (apillava 0.1.0 has a copy)"
)
_LLAVA_NEXT = "LLaVA-VL/LLaVA-NeXT, llava/model/multimodal_encoder/siglip_encoder.py (copies on GitHub), on LLaVA's own"

FIRST_LLAVAS: Architectures = {
    "llava_llama": _llava_of("llama", _LLAVA),
    "llava_mistral": _llava_of("mistral", _LLAVA),
    "llava_qwen": _llava_of("qwen2", _LLAVA_NEXT),
}

ARCHITECTURES: Architectures = {
    "openvla": remote(
        _openvla,
        Proof("read", "openvla/openvla-7b, modeling_prismatic.py (copies on GitHub), and timm's towers"),
        text_config="text_config",
        classes={"OpenVLAForActionPrediction": "causal-lm", "PrismaticForConditionalGeneration": "causal-lm"},
    ),
    "maira2": remote(
        _maira2,
        Proof("read", "microsoft/maira-2, modeling_maira2.py (a copy on GitHub), with transformers' LLaVA of its time"),
        text_config="text_config",
        classes={"Maira2ForConditionalGeneration": "causal-lm"},
    ),
    "mineru2_qwen": remote(framed(_mineru2), Proof("built", "vlm_hf_model/modeling_mineru2.py (mineru 2.1.11)")),
}
