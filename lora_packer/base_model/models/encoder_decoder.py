"""Any two models of text, or one of images and one of text: TrOCR, Donut and Nougat are such pairs."""

from __future__ import annotations

from lora_packer.base_model.architecture import DECODER, ENCODER, Architectures
from lora_packer.base_model.blocks.composed import composed

ARCHITECTURES: Architectures = {
    "encoder-decoder": composed("EncoderDecoderModel", ENCODER),
    "vision-encoder-decoder": composed("VisionEncoderDecoderModel", DECODER),
}
