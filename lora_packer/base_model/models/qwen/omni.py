"""Qwen's models that see, hear and speak."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Architectures, Build, Head, declared
from lora_packer.base_model.blocks.attention import biased_attention, grouped_attention, head_sizes, normed_attention
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed, renamed, with_towers
from lora_packer.base_model.blocks.experts import Experts, fused_experts, linear_experts, qwen_mixture
from lora_packer.base_model.blocks.feed_forward import plain_mlp
from lora_packer.base_model.blocks.frames import decoder, stacked
from lora_packer.base_model.blocks.hearing import WHISPER_NAMES, whisper_convs, whisper_layers
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear, norm
from lora_packer.base_model.blocks.qwen_visual import qwen2_5_visual, qwen3_visual
from lora_packer.base_model.models.qwen.audio import qwen3_convs
from lora_packer.base_model.models.qwen.decoders import qwen3_moe
from lora_packer.base_model.models.qwen.voice import bigvgan, code2wav, diffusion
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _audio_2_5(s: Settings) -> Named:
    yield from whisper_convs(s, s.hidden)
    yield from embedding("audio_bos_eos_token", 2, s.size("output_dim"))
    yield from whisper_layers(s)
    yield from layer_norm("ln_post", s.hidden)
    yield from linear("proj", s.size("output_dim"), s.hidden, bias=True)


def _audio_3(s: Settings) -> Named:
    yield from qwen3_convs(s)
    yield from whisper_layers(s, key_bias=True)
    yield from layer_norm("ln_post", s.hidden)
    yield from linear("proj1", s.hidden, s.hidden, bias=True)
    yield from linear("proj2", s.size("output_dim"), s.hidden, bias=True)


def _visual_2_5(s: Settings) -> Named:
    """Qwen2.5-VL's tower with query, key and value apart."""
    for path, module in qwen2_5_visual(s):
        if path.endswith(".attn.qkv"):
            for name in ("q", "k", "v"):
                yield from linear(f"{path[:-3]}{name}", s.hidden, s.hidden, bias=True)
        else:
            yield path, module


def _visual_3(s: Settings) -> Named:
    """Qwen3-VL's tower with other names in its mergers."""
    names = {".norm.": ".ln_q.", ".linear_fc1": ".mlp.0", ".linear_fc2": ".mlp.2", "deepstack_merger_": "merger_"}
    for path, module in qwen3_visual(s):
        name = path
        if "merger" in path:
            for old, new in names.items():
                name = name.replace(old, new)
        yield name, module


_text_2_5 = decoder({"self_attn": biased_attention, "mlp": plain_mlp})


def _talker_2_5(s: Settings) -> Named:
    yield from linear("thinker_to_talker_proj", s.hidden, s.size("embedding_size"), bias=True)
    for path, module in below("model", _text_2_5(s)):
        # What it reads is as wide as the thinker's embeddings.
        if path == "model.embed_tokens":
            yield from embedding(path, s.vocab, s.size("embedding_size"))
        else:
            yield path, module
    yield from linear("codec_head", s.vocab, s.hidden)


def _talker_text(s: Settings, experts: Experts) -> Named:
    def layer(path: str, _index: int) -> Named:
        yield from normed_attention(s, f"{path}.self_attn")
        yield from qwen_mixture(s, f"{path}.mlp", experts)

    return stacked(s, layer, tokens="codec_embedding")


def _code_predictor(s: Settings) -> Named:
    """A small language model over the codes: the first comes from the talker, each other has its own tables."""
    bias, head_dim = s.flag("attention_bias"), head_sizes(s)[2]

    def layer(path: str, _index: int) -> Named:
        yield from grouped_attention(s, f"{path}.self_attn", bias=bias, output_bias=bias)
        yield from norm(f"{path}.self_attn", head_dim, "q_norm", "k_norm")
        yield from plain_mlp(s, f"{path}.mlp")

    for path, module in below("model", stacked(s, layer)):
        if path != "model.embed_tokens":
            yield path, module
    for index in range(s.size("num_code_groups") - 1):
        yield from embedding(f"model.codec_embedding.{index}", s.vocab, s.hidden)
        yield from linear(f"lm_head.{index}", s.vocab, s.hidden)


def _talker_3(s: Settings, experts: Experts) -> Named:
    text = s.nested("text_config").aliased({"num_experts": "num_local_experts"})
    read = s.size("thinker_hidden_size")
    yield from below("model", _talker_text(text, experts))
    for name in ("text_projection", "hidden_projection"):
        yield from chain(name, (read, text.inner, text.hidden), "linear_fc1", "linear_fc2", bias=True)
    yield from linear("codec_head", text.vocab, text.hidden)
    yield from below("code_predictor", _code_predictor(s.nested("code_predictor_config")))


def _thinker(text: Tower, audio: Tower, visual: Tower) -> Build:
    audio_part = fixed("audio_config", audio, attribute_map=WHISPER_NAMES)
    visual_part = fixed("vision_config", visual, attribute_map={"num_hidden_layers": "depth"})

    def beside(s: Settings, _text: Settings) -> Named:
        for name, part in (("audio_tower", audio_part), ("visual", visual_part)):
            settings, modules = part.of(s)
            yield from below(name, modules(settings))

    return with_towers(fixed("text_config", text), beside)


def _before_5(build: Build) -> Build:
    """The thinker's names before transformers 5: no ``language_model``, and nothing beside it below ``model``."""
    return renamed(build, ("model.language_model.", "model."), ("model.", ""))


def _whole(thinker: Build, talker: Callable[[Settings], Named], voice: Callable[[Settings], Named]) -> Build:
    """All three; a config may leave talker and voice out."""

    def build(s: Settings, _head: Head) -> Named:
        yield from below("thinker", thinker(s.nested("thinker_config"), "causal-lm"))
        if s.flag("enable_audio_output"):
            yield from below("talker", talker(s.nested("talker_config")))
            yield from voice(s)

    return build


def _token2wav(s: Settings) -> Named:
    voice = s.nested("token2wav_config")
    yield from below("token2wav.code2wav_dit_model", diffusion(voice.nested("dit_config")))
    yield from below("token2wav.code2wav_bigvgan_model", bigvgan(voice.nested("bigvgan_config")))


def _code2wav(s: Settings) -> Named:
    return below("code2wav", code2wav(s.nested("code2wav_config")))


_AUDIO_2_5 = Tower("qwen2_5_omni_audio_encoder", _audio_2_5)
_AUDIO_3 = Tower("qwen3_omni_moe_audio_encoder", _audio_3)
_VISION_2_5 = Tower("qwen2_5_omni_vision_encoder", _visual_2_5)
_VISION_3 = Tower("qwen3_omni_moe_vision_encoder", _visual_3)
_THINKER_2_5 = _thinker(Tower("qwen2_5_omni_text", _text_2_5), _AUDIO_2_5, _VISION_2_5)
_THINKER_3 = _thinker(Tower("qwen3_omni_moe_text", qwen3_moe), _AUDIO_3, _VISION_3)
_THINKER_3_BEFORE_5 = _before_5(
    _thinker(Tower("qwen3_omni_moe_text", partial(qwen3_moe, experts=linear_experts)), _AUDIO_3, _VISION_3)
)


def _omni(build: Build, older: Build) -> Architecture:
    return declared(build, {TRANSFORMERS_4: older}, input_embedding="language_model.embed_tokens")


ARCHITECTURES: Architectures = {
    "qwen2_5_omni_thinker": composite(_THINKER_2_5, {TRANSFORMERS_4: _before_5(_THINKER_2_5)}),
    "qwen3_omni_moe_thinker": composite(_THINKER_3, {TRANSFORMERS_4: _THINKER_3_BEFORE_5}),
    "qwen2_5_omni": _omni(
        _whole(_THINKER_2_5, _talker_2_5, _token2wav), _whole(_before_5(_THINKER_2_5), _talker_2_5, _token2wav)
    ),
    "qwen3_omni_moe": _omni(
        _whole(_THINKER_3, partial(_talker_3, experts=fused_experts), _code2wav),
        _whole(_THINKER_3_BEFORE_5, partial(_talker_3, experts=linear_experts), _code2wav),
    ),
}
