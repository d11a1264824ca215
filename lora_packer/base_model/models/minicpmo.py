"""MiniCPM-o 2.6: MiniCPM-V's language model and tower, Whisper's encoder, and a model that speaks."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import TEXT_ONLY, TRANSFORMERS_5, Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.composite import below, whole_language_model
from lora_packer.base_model.blocks.encoder_decoder import BART_NAMES
from lora_packer.base_model.blocks.hearing import whisper_encoder
from lora_packer.base_model.blocks.layers import chain, conv, depthwise, embedding, layer_norm, linear, parameter
from lora_packer.base_model.blocks.towers import siglip_body
from lora_packer.base_model.models.minicpm import less_the_last, resampler
from lora_packer.base_model.module import Named
from lora_packer.base_model.registry import ARCHITECTURES as REGISTRY
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture
from lora_packer.redact import escape


def _minicpmo(s: Settings, _head: Head, *, speaks: bool = True) -> Named:
    """``speaks``: with the model that speaks where the config has it; its makers leave it out to train the others."""
    said = s.value("version")
    version = "2.6" if said is None else str(said)  # as vLLM reads it
    language = whole_language_model("qwen2")
    if version != "2.6" or language is None:
        raise UnknownArchitecture(f"there is no proven definition for MiniCPM-o {escape(version, 20)}.")
    text = Settings(s.raw, language.defaults)
    yield from below("llm", language.modules(text))
    if s.flag("init_vision"):
        vision = Settings(s.nested("vision_config").raw, "minicpmv.vision_config")
        yield from below("vpm", siglip_body(less_the_last(s, vision)))
        yield from below("resampler", resampler(s.size("query_num"), text.hidden, vision.hidden))
    if s.flag("init_audio"):
        audio = Settings(s.nested("audio_config").raw, "whisper").aliased(_WHISPER_NAMES)
        yield from below("apm", whisper_encoder(audio))
        yield from _two_linears("audio_projection_layer", audio.inner // 4, text.hidden)
    if speaks and s.flag("init_tts"):
        yield from below("tts", _chat_tts(s.nested("tts_config")))


_WHISPER_NAMES = {**BART_NAMES, "num_hidden_layers": "encoder_layers", "intermediate_size": "encoder_ffn_dim"}


def _two_linears(path: str, inputs: int, outputs: int) -> Named:
    return chain(path, (inputs, outputs, outputs), "linear1", "linear2", bias=True)


def _chat_tts(s: Settings) -> Named:
    """ConditionalChatTTS: Llama's decoder over codes of sound, and an encoder of these codes."""
    codes, count = s.size("num_audio_tokens"), s.size("num_vq")
    if s.flag("use_mlp"):
        yield from _two_linears("projector", s.size("llm_dim"), s.hidden)
    else:
        yield from linear("projector", s.hidden, s.size("llm_dim"))
    yield from embedding("emb_text", s.size("num_text_tokens"), s.hidden)
    for index in range(count):
        yield from embedding(f"emb_code.{index}", codes, s.hidden)
        yield from linear(f"head_code.{index}", codes, s.hidden)
        # Its weight is norm and direction (torch.nn.utils.parametrizations.weight_norm).
        yield from parameter(f"head_code.{index}.parametrizations.weight.original0", codes, 1)
        yield from parameter(f"head_code.{index}.parametrizations.weight.original1", codes, s.hidden)
    yield from below("dvae", _dvae())
    sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    decoder = Settings({name: s.size(name) for name in sizes}, "llama")
    yield from below("model", REGISTRY["llama"].dialects[TRANSFORMERS_5](decoder, "none"))


def _dvae() -> Named:
    """The encoder of sound, all of whose sizes stand in the code."""
    s = Settings({}, "minicpmo.dvae")
    bands, width = s.size("num_mel_bins"), s.hidden
    yield from parameter("coef", 1, bands, 1)
    yield from conv("downsample_conv.0", (width, bands, 3), bias=True)
    yield from conv("downsample_conv.2", (width, width, 4), bias=True)
    yield from below("encoder", _dvae_side(s, 2 * width))
    yield from below("decoder", _dvae_side(s, width))
    yield from conv("out_conv", (bands, width, 3), bias=False)
    for index in range(s.size("num_groups")):
        path = f"vq_layer.quantizer.rvqs.{index}"
        yield from chain(path, (width, s.size("num_levels"), width), "project_in", "project_out", bias=True)


def _dvae_side(s: Settings, outputs: int) -> Named:
    inner, narrow = s.size("decoder_hidden_size"), s.size("decoder_narrow_size")
    yield from conv("conv_in.0", (narrow, s.hidden, 3), bias=True)
    yield from conv("conv_in.2", (inner, narrow, 3), bias=True)
    for index in range(s.layers):
        path = f"decoder_block.{index}"
        yield from parameter(f"{path}.coef", inner)
        yield from depthwise(f"{path}.dwconv", inner, s.size("kernel_size"), bias=True)
        yield from layer_norm(f"{path}.norm", inner)
        yield from chain(path, (inner, 4 * inner, inner), "pwconv1", "pwconv2", bias=True)
    yield from conv("conv_out", (outputs, inner, 1), bias=False)


ARCHITECTURES: Architectures = {
    "minicpmo": remote(
        _minicpmo,
        Proof(
            "read",
            "sglang/srt/models/minicpmo.py (sglang 0.5.23), vllm/model_executor/models/minicpmo.py and minicpmv.py "
            "(vllm 0.33.0)",
        ),
        {TEXT_ONLY: partial(_minicpmo, speaks=False)},
        classes={"MiniCPMO": "causal-lm"},
    ),
}
