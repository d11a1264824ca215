"""Whisper: it hears, and writes down what was said."""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, declared
from lora_packer.base_model.blocks.encoder_decoder import BART_NAMES, side_layers
from lora_packer.base_model.blocks.hearing import whisper_convs
from lora_packer.base_model.blocks.layers import embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _whisper_side(s: Settings, side: str) -> Named:
    width = s.size("d_model")
    if side == "encoder":
        yield from whisper_convs(s, width, "encoder.")
        yield from embedding("encoder.embed_positions", s.size("max_source_positions"), width)
    else:
        yield from embedding("decoder.embed_tokens", s.vocab, width)
        yield from embedding("decoder.embed_positions", s.size("max_target_positions"), width)
    yield from side_layers(s, side, key_bias=False)
    yield from layer_norm(f"{side}.layer_norm", width)


def _whisper_classifier(s: Settings) -> Named:
    """The class that classifies sound, on the encoder alone."""
    narrow = s.size("classifier_proj_size")
    yield from _whisper_side(s, "encoder")
    if s.flag("use_weighted_layer_sum"):
        yield from parameter("layer_weights", s.size("encoder_layers") + 1)
    yield from linear("projector", narrow, s.size("d_model"), bias=True)
    yield from linear("classifier", s.labels(), narrow, bias=True)


def _whisper(raw: Settings, head: Head) -> Named:
    s = raw.aliased(BART_NAMES)
    if head == "sequence-classification":
        yield from _whisper_classifier(s)
        return
    for side in ("decoder",) if head == "causal-lm" else ("encoder", "decoder"):
        for path, module in _whisper_side(s, side):
            yield path if head == "none" else f"model.{path}", module
    if head != "none":
        yield from linear("proj_out", s.vocab, s.size("d_model"))


ARCHITECTURES: Architectures = {"whisper": declared(_whisper, input_embedding="embed_tokens", encoder_decoder=True)}
