"""PaddlePaddle's models that read formulas and charts."""

from __future__ import annotations

from lora_packer.base_model.architecture import TRANSFORMERS_5, Architectures, Head, like
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed
from lora_packer.base_model.blocks.frames import head_modules
from lora_packer.base_model.blocks.layers import chain, conv
from lora_packer.base_model.blocks.sam import sam_visual
from lora_packer.base_model.models.bart import MBART
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _formula(s: Settings, head: Head) -> Named:
    """Segment Anything's encoder and mBART's decoder."""
    before = "" if head == "none" else "model."
    (text, both), (vision, visual) = _FORMULA_TEXT_PART.of(s), _FORMULA_VISION_PART.of(s)
    inputs, middle, outputs = (vision.size(f"post_conv_{name}_channels") for name in ("in", "mid", "out"))
    path = f"{before}encoder.multi_modal_projector"
    yield from below(f"{before}encoder", visual(vision))
    yield from conv(f"{path}.conv1", (middle, inputs, 3, 3), bias=False)
    yield from conv(f"{path}.conv2", (outputs, middle, 3, 3), bias=False)
    yield from chain(path, (outputs, outputs, vision.size("decoder_hidden_size")), "linear_1", "linear_2", bias=True)
    for name, module in both(text):
        if name.startswith("decoder."):
            yield before + name, module
    yield from head_modules(text, head, width="d_model")


def _formula_sides(s: Settings) -> Named:
    return MBART.dialects[TRANSFORMERS_5](s, "none")


_FORMULA_TEXT_PART = fixed(
    "text_config", Tower("pp_formulanet_text", _formula_sides), attribute_map={"hidden_size": "d_model"}
)
_FORMULA_VISION_PART = fixed("vision_config", Tower("pp_formulanet_vision", sam_visual))


ARCHITECTURES: Architectures = {
    "pp_formulanet": composite(_formula),
    "pp_chart2table": like("got_ocr2"),
}
