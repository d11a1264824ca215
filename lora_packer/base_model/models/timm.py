"""Models that see through a tower of the library timm: Perception LM, FastVLM."""

from __future__ import annotations

from collections.abc import Mapping

from lora_packer.base_model.architecture import Architectures
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, text_part, with_towers
from lora_packer.base_model.blocks.fastvit import fastvit_mci3
from lora_packer.base_model.blocks.perception import READ, VARIANTS, perception_encoder
from lora_packer.base_model.blocks.projectors import seeing, two_linears
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape


def _arguments(s: Settings) -> Mapping[str, object]:
    """What a tower is made with besides its name."""
    found = s.value("model_args")
    return found if isinstance(found, Mapping) else {}


def _unknown(s: Settings) -> UnknownArchitecture:
    name = escape(str(s.value("architecture")), 60)
    return UnknownArchitecture(
        f"there is no proven definition for the tower '{name}' of timm, or for its arguments.",
        hint="The check needs a definition of every part of the base model.",
    )


def _perception(s: Settings) -> Named:
    variant, arguments = VARIANTS.get(s.value("architecture")), _arguments(s)
    pooling = arguments.get("global_pool")
    if variant is None or arguments.keys() - READ or pooling not in (None, "", "map"):
        raise _unknown(s)
    return below("timm_model", perception_encoder(variant, Settings(arguments, {})))


def _fastvit(s: Settings) -> Named:
    if s.value("architecture") != "fastvit_mci3" or _arguments(s) != {"inference_mode": True}:
        raise _unknown(s)
    return below("timm_model", fastvit_mci3())


def _perception_projector(_s: Settings, vision: Settings, text: Settings) -> Named:
    width = Settings(_arguments(vision), {}).size("embed_dim")
    yield from two_linears("multi_modal_projector", width, text.hidden)


def _fast_projector(s: Settings, vision: Settings, text: Settings) -> Named:
    bias = s.flag("multimodal_projector_bias")
    yield from two_linears("multi_modal_projector", vision.hidden, text.hidden, bias=bias)


_PERCEPTION = fixed("vision_config", Tower("timm_wrapper", _perception))
_FASTVIT = fixed("vision_config", Tower("timm_wrapper", _fastvit))

ARCHITECTURES: Architectures = {
    "fast_vlm": composite(with_towers(text_part("qwen2"), seeing(_FASTVIT, _fast_projector))),
    "perception_lm": composite(with_towers(text_part("llama"), seeing(_PERCEPTION, _perception_projector))),
}
