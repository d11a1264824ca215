"""Encoders of images that are the only one of their name, and that of spectrograms, which are images to it."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Architectures, Build, Head, declared
from lora_packer.base_model.blocks.attention import attention, head_sizes
from lora_packer.base_model.blocks.composite import renamed_inside
from lora_packer.base_model.blocks.encoders import Body, one_layer
from lora_packer.base_model.blocks.feed_forward import gated_mlp, two_linears_mlp
from lora_packer.base_model.blocks.layers import conv, layer_norm, linear, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

# The names inside the attention of these before transformers 5.
_OLDER_ATTENTION = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
}
_OLDER_MLP = {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}


def _classified(body: Body, prefix: str, classifier: Body, pooler: Body | None = None) -> Build:
    """An encoder, its classifier, and what the bare class has besides."""

    def build(s: Settings, head: Head) -> Named:
        classifies = head == "sequence-classification"
        for path, module in body(s):
            yield (f"{prefix}.{path}" if classifies else path), module
        if classifies:
            yield from classifier(s)
        elif pooler is not None:
            yield from pooler(s)

    return build


def _patches(s: Settings) -> int:
    (height, width), (down, right) = s.pair("image_size"), s.pair("patch_size")
    return (height // down) * (width // right)


def _patch_conv(s: Settings, path: str, channels: int) -> Named:
    yield from conv(path, (s.hidden, channels, *s.pair("patch_size")), bias=True)


def _attention(s: Settings, path: str) -> Named:
    heads, _, head_dim = head_sizes(s)
    yield from attention(path, s.hidden, heads, heads, head_dim, bias=s.flag("qkv_bias"), output_bias=True)


def _vit_layers(s: Settings) -> Named:
    for index in range(s.layers):
        path = f"layers.{index}"
        yield from _attention(s, f"{path}.attention")
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "layernorm_before", "layernorm_after")
    yield from layer_norm("layernorm", s.hidden)


def _vit(s: Settings) -> Named:
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    yield from parameter("embeddings.position_embeddings", 1, _patches(s) + 1, s.hidden)
    yield from _patch_conv(s, "embeddings.patch_embeddings.projection", s.size("num_channels"))
    yield from _vit_layers(s)


def _deit(s: Settings) -> Named:
    """ViT with a token for the teacher's answer."""
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    yield from parameter("embeddings.distillation_token", 1, 1, s.hidden)
    yield from parameter("embeddings.position_embeddings", 1, _patches(s) + 2, s.hidden)
    yield from _patch_conv(s, "embeddings.patch_embeddings.projection", s.size("num_channels"))
    yield from _vit_layers(s)


def _spectrogram(s: Settings) -> Named:
    """DeiT over a spectrogram, whose patches overlap."""
    patch = s.size("patch_size")
    across = (s.size("num_mel_bins") - patch) // s.size("frequency_stride") + 1
    along = (s.size("max_length") - patch) // s.size("time_stride") + 1
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    yield from parameter("embeddings.distillation_token", 1, 1, s.hidden)
    yield from parameter("embeddings.position_embeddings", 1, across * along + 2, s.hidden)
    yield from _patch_conv(s, "embeddings.patch_embeddings.projection", 1)
    yield from _vit_layers(s)


def _normed_classifier(s: Settings) -> Named:
    yield from layer_norm("classifier.layernorm", s.hidden)
    yield from linear("classifier.dense", s.labels(), s.hidden, bias=True)


def _pooler(s: Settings) -> Named:
    yield from linear("pooler.dense", s.optional_size("pooler_output_size") or s.hidden, s.hidden, bias=True)


def _dinov2(s: Settings, *, registers: bool = False, fused: bool = False) -> Named:
    """DINOv2; ``fused``: with the gate and what it opens in one, as before transformers 5."""
    inner = int(s.hidden * s.ratio("mlp_ratio"))
    gated = (int(inner * 2 / 3) + 7) // 8 * 8
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    if registers or s.flag("use_mask_token"):
        yield from parameter("embeddings.mask_token", 1, s.hidden)
    yield from parameter("embeddings.position_embeddings", 1, _patches(s) + 1, s.hidden)
    if registers:
        yield from parameter("embeddings.register_tokens", 1, s.count("num_register_tokens"), s.hidden)
    yield from _patch_conv(s, "embeddings.patch_embeddings.projection", s.size("num_channels"))
    for index in range(s.layers):
        path = f"encoder.layer.{index}"
        yield from _attention(s, f"{path}.attention")
        if not s.flag("use_swiglu_ffn"):
            yield from two_linears_mlp(f"{path}.mlp", s.hidden, inner)
        elif fused:
            yield from linear(f"{path}.mlp.weights_in", 2 * gated, s.hidden, bias=True)
            yield from linear(f"{path}.mlp.weights_out", s.hidden, gated, bias=True)
        else:
            yield from gated_mlp(f"{path}.mlp", s.hidden, gated, bias=True)
        yield from _scaled_norms(s, path)
    yield from layer_norm("layernorm", s.hidden)


def _scaled_norms(s: Settings, path: str) -> Named:
    yield from layer_norm(path, s.hidden, "norm1", "norm2")
    yield from parameter(f"{path}.layer_scale1.lambda1", s.hidden)
    yield from parameter(f"{path}.layer_scale2.lambda1", s.hidden)


def _classifier_of_two(s: Settings) -> Named:
    """A classifier of the class token and the mean of the patches."""
    yield from linear("classifier", s.labels(), 2 * s.hidden, bias=True)


def _dinov2_like(prefix: str, *, registers: bool) -> Architecture:
    builds = [
        _classified(partial(_dinov2, registers=registers, fused=fused), prefix, _classifier_of_two)
        for fused in (False, True)
    ]
    return declared(builds[0], {TRANSFORMERS_4: renamed_inside(builds[1], _OLDER_ATTENTION)}, input_embedding=None)


def _beit(s: Settings) -> Named:
    """ViT whose keys have no bias, with scales, and a table of relative positions in each layer or for all."""
    (height, width), (down, right), (heads, _, head_dim) = s.pair("image_size"), s.pair("patch_size"), head_sizes(s)
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    if s.flag("use_mask_token"):
        yield from parameter("embeddings.mask_token", 1, 1, s.hidden)
    if s.flag("use_absolute_position_embeddings"):
        yield from parameter("embeddings.position_embeddings", 1, _patches(s) + 1, s.hidden)
    yield from _patch_conv(s, "embeddings.patch_embeddings.projection", s.size("num_channels"))
    distances = (2 * (height // down) - 1) * (2 * (width // right) - 1) + 3
    if s.flag("use_shared_relative_position_bias"):
        yield from parameter("shared_position_bias.relative_position_bias_table", distances, heads)
    for index in range(s.layers):
        path = f"layers.{index}"
        for name, module in attention(
            f"{path}.attention", s.hidden, heads, heads, head_dim, bias=True, output_bias=True
        ):
            yield name, module._replace(bias=not name.endswith("k_proj"))
        yield from two_linears_mlp(f"{path}.mlp", s.hidden, s.inner)
        yield from layer_norm(path, s.hidden, "layernorm_before", "layernorm_after")
        if (s.value("layer_scale_init_value") or 0) > 0:
            yield from parameter(f"{path}.lambda_1", s.hidden)
            yield from parameter(f"{path}.lambda_2", s.hidden)
        if s.flag("use_relative_position_bias"):
            yield from parameter(f"{path}.relative_position_bias.relative_position_bias_table", distances, heads)
    if not s.flag("use_mean_pooling"):
        yield from layer_norm("layernorm", s.hidden)


def _beit_with_pooler(s: Settings) -> Named:
    """Its pooler norms the mean of the patches, and its classifier stands on it."""
    yield from _beit(s)
    if s.flag("use_mean_pooling"):
        yield from layer_norm("pooler.layernorm", s.hidden)


def _dinov3(s: Settings, _head: Head, *, layers: str = "model.layer") -> Named:
    yield from parameter("embeddings.cls_token", 1, 1, s.hidden)
    yield from parameter("embeddings.mask_token", 1, 1, s.hidden)
    yield from parameter("embeddings.register_tokens", 1, s.count("num_register_tokens"), s.hidden)
    yield from _patch_conv(s, "embeddings.patch_embeddings", s.size("num_channels"))
    flags = {"q_proj": "query_bias", "k_proj": "key_bias", "v_proj": "value_bias", "o_proj": "proj_bias"}
    bias = s.flag("mlp_bias")
    for index in range(s.layers):
        path = f"{layers}.{index}"
        for name, flag in flags.items():
            yield from linear(f"{path}.attention.{name}", s.hidden, s.hidden, bias=s.flag(flag))
        for name, module in gated_mlp(f"{path}.mlp", s.hidden, s.inner, bias=bias):
            if s.flag("use_gated_mlp") or not name.endswith("gate_proj"):
                yield name, module
        yield from _scaled_norms(s, path)
    yield from layer_norm("norm", s.hidden)


def _vit_like(body: Body, prefix: str, classifier: Body = one_layer, pooler: Body | None = _pooler) -> Architecture:
    build = _classified(body, prefix, classifier, pooler)
    older = renamed_inside(renamed_inside(build, {**_OLDER_ATTENTION, **_OLDER_MLP}), {"layers": "encoder.layer"})
    return declared(build, {TRANSFORMERS_4: older}, input_embedding=None)


_BEIT_BEFORE_5 = renamed_inside(
    renamed_inside(
        _classified(_beit_with_pooler, "beit", one_layer),
        {
            **_OLDER_ATTENTION,
            **_OLDER_MLP,
            "relative_position_bias": "attention.attention.relative_position_bias",
            "shared_position_bias": "encoder.relative_position_bias",
        },
    ),
    {"layers": "encoder.layer"},
)

ARCHITECTURES: Architectures = {
    "audio-spectrogram-transformer": _vit_like(
        _spectrogram, "audio_spectrogram_transformer", _normed_classifier, pooler=None
    ),
    "beit": declared(
        _classified(_beit_with_pooler, "beit", one_layer), {TRANSFORMERS_4: _BEIT_BEFORE_5}, input_embedding=None
    ),
    "deit": _vit_like(_deit, "deit"),
    "dinov2": _dinov2_like("dinov2", registers=False),
    "dinov2_with_registers": _dinov2_like("dinov2_with_registers", registers=True),
    "dinov3_vit": declared(_dinov3, {TRANSFORMERS_4: partial(_dinov3, layers="layer")}, input_embedding=None),
    "vit": _vit_like(_vit, "vit"),
}
