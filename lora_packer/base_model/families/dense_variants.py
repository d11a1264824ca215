"""Dense decoders that depart from llama: fused projections, an ungated MLP, other norms, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import Architecture, head_modules
from lora_packer.base_model.blocks import Named, embedding, gated_mlp, layer_norm, linear, norm
from lora_packer.base_model.families.common import (
    QUERY_VALUE,
    TRANSFORMER,
    declared,
    grouped_attention,
    head_sizes,
    sizes,
)
from lora_packer.base_model.module import Module
from lora_packer.base_model.settings import Settings

Norm = Callable[[str, int], Named]

BEFORE_BOTH = ("input_layernorm", "post_attention_layernorm")
AFTER_BOTH = ("post_attention_layernorm", "post_feedforward_layernorm")


def _scale_norm(path: str, size: int) -> Named:
    """The weight of a norm that has no bias."""
    yield norm(path, size)


def _no_norm(_path: str, _size: int) -> Named:
    """Nothing: a norm without parameters."""
    yield from ()


def _decoder(
    s: Settings,
    layer: Callable[[str], Named],
    norms: tuple[str, ...] = BEFORE_BOTH,
    *,
    kind: Norm = _scale_norm,
    last: str = "norm",
) -> Named:
    """The embedding, the numbered layers, each with its norms, and the last norm."""
    hidden = s.size("hidden_size")
    yield embedding("embed_tokens", s.size("vocab_size"), hidden)
    for index in range(s.size("num_hidden_layers")):
        yield from layer(f"layers.{index}")
        for name in norms:
            yield from kind(f"layers.{index}.{name}", hidden)
    yield from kind(last, hidden)


def _mlp(s: Settings, prefix: str, names: tuple[str, str] = ("up_proj", "down_proj"), *, bias: bool = False) -> Named:
    """The feed-forward block without a gate."""
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    yield linear(f"{prefix}.{names[0]}", intermediate, hidden, bias=bias)
    yield linear(f"{prefix}.{names[1]}", hidden, intermediate, bias=bias)


def _gated_mlp(s: Settings, prefix: str) -> Named:
    return gated_mlp(prefix, s.size("hidden_size"), s.size("intermediate_size"))


def _fused_gated_mlp(s: Settings, prefix: str) -> Named:
    """The gated feed-forward block with gate and up projection in one."""
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")
    yield linear(f"{prefix}.gate_up_proj", 2 * intermediate, hidden)
    yield linear(f"{prefix}.down_proj", hidden, intermediate)


def _attention(s: Settings, prefix: str) -> Named:
    bias = s.flag("attention_bias")
    return grouped_attention(s, prefix, bias=bias, output_bias=bias)


def _phi3(s: Settings) -> Named:
    hidden, (heads, kv_heads, head_dim) = s.size("hidden_size"), head_sizes(s)

    def layer(prefix: str) -> Named:
        yield linear(f"{prefix}.self_attn.qkv_proj", (heads + 2 * kv_heads) * head_dim, hidden)
        yield linear(f"{prefix}.self_attn.o_proj", hidden, heads * head_dim)
        yield from _fused_gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer)


def _glm(s: Settings, *more_norms: str) -> Named:
    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=s.flag("attention_bias"))
        yield from _fused_gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer, (*BEFORE_BOTH, *more_norms))


def _glm4(s: Settings) -> Named:
    return _glm(s, "post_self_attn_layernorm", "post_mlp_layernorm")


def _phi(s: Settings) -> Named:
    hidden, (heads, kv_heads, head_dim) = s.size("hidden_size"), head_sizes(s)

    def layer(prefix: str) -> Named:
        for name, size in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{prefix}.self_attn.{name}", size * head_dim, hidden, bias=True)
        yield linear(f"{prefix}.self_attn.dense", hidden, heads * head_dim, bias=True)
        yield from _layer_norms_of_heads(s, f"{prefix}.self_attn")
        yield from _mlp(s, f"{prefix}.mlp", ("fc1", "fc2"), bias=True)

    return _decoder(s, layer, ("input_layernorm",), kind=layer_norm, last="final_layernorm")


def _layer_norms_of_heads(s: Settings, prefix: str) -> Named:
    if s.flag("qk_layernorm"):
        for name in ("q_layernorm", "k_layernorm"):
            yield from layer_norm(f"{prefix}.{name}", s.size("hidden_size") // s.size("num_attention_heads"))


def _persimmon(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str) -> Named:
        yield linear(f"{prefix}.self_attn.query_key_value", 3 * hidden, hidden, bias=True)
        yield linear(f"{prefix}.self_attn.dense", hidden, hidden, bias=True)
        yield from _layer_norms_of_heads(s, f"{prefix}.self_attn")
        yield from _mlp(s, f"{prefix}.mlp", ("dense_h_to_4h", "dense_4h_to_h"), bias=True)

    return _decoder(s, layer, kind=layer_norm, last="final_layernorm")


def _starcoder2(s: Settings) -> Named:
    bias = s.flag("use_bias")

    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn", bias=bias, output_bias=bias)
        yield from _mlp(s, f"{prefix}.mlp", ("c_fc", "c_proj"), bias=bias)

    return _decoder(s, layer, kind=layer_norm)


def _stablelm(s: Settings) -> Named:
    hidden, heads = s.size("hidden_size"), s.size("num_attention_heads")
    kv_heads = s.optional_size("num_key_value_heads") or heads
    head_dim, bias = hidden // heads, s.flag("use_qkv_bias")

    def layer(prefix: str) -> Named:
        for name, size in (("q_proj", heads), ("k_proj", kv_heads), ("v_proj", kv_heads)):
            yield linear(f"{prefix}.self_attn.{name}", size * head_dim, hidden, bias=bias)
        yield linear(f"{prefix}.self_attn.o_proj", hidden, hidden)
        if s.flag("qk_layernorm"):  # one norm for each head
            for name, size in (("q_layernorm", heads), ("k_layernorm", kv_heads)):
                for head in range(size):
                    yield norm(f"{prefix}.self_attn.{name}.norms.{head}", head_dim)
        yield from _gated_mlp(s, f"{prefix}.mlp")

    norms = ("input_layernorm",) if s.flag("use_parallel_residual") else BEFORE_BOTH
    return _decoder(s, layer, norms, kind=layer_norm)


def _llama_like(s: Settings, norms: tuple[str, ...] = BEFORE_BOTH, *, kind: Norm = _scale_norm) -> Named:
    """The attention and the gated MLP of llama, with other norms."""

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from _gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer, norms, kind=kind)


def _olmo(s: Settings) -> Named:
    return _llama_like(s, kind=_no_norm)


def _olmo2(s: Settings) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield norm(f"{prefix}.self_attn.q_norm", heads * head_dim)
        yield norm(f"{prefix}.self_attn.k_norm", kv_heads * head_dim)
        yield from _gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer, AFTER_BOTH)


def _exaone4(s: Settings) -> Named:
    _, _, head_dim = head_sizes(s)

    def layer(prefix: str) -> Named:
        yield from grouped_attention(s, f"{prefix}.self_attn")
        yield norm(f"{prefix}.self_attn.q_norm", head_dim)
        yield norm(f"{prefix}.self_attn.k_norm", head_dim)
        yield from _gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer, AFTER_BOTH)


def _cohere(s: Settings) -> Named:
    heads, kv_heads, head_dim = head_sizes(s)

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        if s.flag("use_qk_norm"):
            yield f"{prefix}.self_attn.q_norm.weight", Module("parameter", (heads, head_dim))
            yield f"{prefix}.self_attn.k_norm.weight", Module("parameter", (kv_heads, head_dim))
        yield from _gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer, ("input_layernorm",))


def _cohere2(s: Settings) -> Named:
    return _llama_like(s, ("input_layernorm",))


def _vaultgemma(s: Settings) -> Named:
    return _llama_like(s, ("input_layernorm", "pre_feedforward_layernorm"))


def _ungated(s: Settings, kind: Norm = _scale_norm) -> Named:
    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from _mlp(s, f"{prefix}.mlp", bias=s.flag("mlp_bias"))

    return _decoder(s, layer, kind=kind)


def _nanochat(s: Settings) -> Named:
    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield from _mlp(s, f"{prefix}.mlp", ("fc1", "fc2"))

    return _decoder(s, layer, kind=_no_norm)


def _apertus(s: Settings) -> Named:
    _, _, head_dim = head_sizes(s)

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield norm(f"{prefix}.self_attn.q_norm", head_dim)
        yield norm(f"{prefix}.self_attn.k_norm", head_dim)
        yield from _mlp(s, f"{prefix}.mlp")
        if s.value("hidden_act") == "xielu":  # an activation with parameters of its own
            for name in ("alpha_p", "alpha_n"):
                yield f"{prefix}.mlp.act_fn.{name}", Module("parameter", (1,))

    return _decoder(s, layer, ("attention_layernorm", "feedforward_layernorm"))


def _diffllama(s: Settings) -> Named:
    _, _, head_dim = head_sizes(s)

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        for name in ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2"):
            yield f"{prefix}.self_attn.{name}", Module("parameter", (head_dim,))
        yield from _gated_mlp(s, f"{prefix}.mlp")

    return _decoder(s, layer)


def _bitnet(s: Settings) -> Named:
    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield norm(f"{prefix}.self_attn.attn_sub_norm", s.size("hidden_size"))
        yield from _gated_mlp(s, f"{prefix}.mlp")
        yield norm(f"{prefix}.mlp.ffn_sub_norm", s.size("intermediate_size"))

    return _decoder(s, layer)


def _granite_swa(s: Settings) -> Named:
    hidden, intermediate = s.size("hidden_size"), s.size("intermediate_size")

    def layer(prefix: str) -> Named:
        yield from _attention(s, f"{prefix}.self_attn")
        yield f"{prefix}.self_attn.sinks", Module("parameter", (s.size("num_attention_heads"),))
        yield from gated_mlp(f"{prefix}.mlp", hidden, intermediate, bias=s.flag("mlp_bias"))

    return _decoder(s, layer)


ARCHITECTURES: Mapping[str, Architecture] = {
    "phi3": declared(sizes(32064, 3072, 8192, 32, 32, None), _phi3),
    "phi": declared(
        sizes(51200, 2048, 8192, 24, 32, None),
        _phi,
        targets=("q_proj", "v_proj", "fc1", "fc2"),
        heads=partial(head_modules, output_bias=True),
    ),
    "persimmon": declared(sizes(262144, 4096, 16384, 36, 64, None, qk_layernorm=True), _persimmon),
    "glm": declared(sizes(151552, 4096, 13696, 40, 32, 2, head_dim=128, attention_bias=True), _glm),
    "glm4": declared(sizes(151552, 4096, 13696, 40, 32, 2, head_dim=128, attention_bias=True), _glm4),
    "starcoder2": declared(sizes(49152, 3072, 12288, 30, 24, 2, use_bias=True), _starcoder2),
    "stablelm": declared(sizes(50304, 2560, 6912, 32, 32, 32), _stablelm, targets=QUERY_VALUE),
    "olmo": declared(sizes(50304, 4096, 11008, 32, 32, None), _olmo),
    "olmo2": declared(sizes(50304, 4096, 11008, 32, 32, None), _olmo2),
    "olmo3": declared(sizes(50304, 4096, 11008, 32, 32, None), _olmo2),
    "exaone4": declared(sizes(102400, 4096, 16384, 32, 32, 32), _exaone4, answering_prefix=TRANSFORMER),
    "cohere": declared(sizes(256000, 8192, 22528, 40, 64, None), _cohere),
    "cohere2": declared(sizes(256000, 8192, 22528, 40, 64, None), _cohere2),
    "vaultgemma": declared(sizes(256000, 2304, 9216, 26, 8, 4, head_dim=256), _vaultgemma),
    "nemotron": declared(
        sizes(256000, 6144, 24576, 32, 48, None), partial(_ungated, kind=layer_norm), answering_prefix=TRANSFORMER
    ),
    "arcee": declared(sizes(32000, 2560, 18432, 32, 32, None), _ungated, answering_prefix=TRANSFORMER),
    "jais2": declared(
        sizes(150272, 3328, 26624, 32, 26, None, attention_bias=True, mlp_bias=True),
        partial(_ungated, kind=layer_norm),
    ),
    "nanochat": declared(sizes(50304, 768, 8192, 12, 6, None), _nanochat),
    "apertus": declared(sizes(131072, 4096, 14336, 32, 32, None, hidden_act="xielu"), _apertus),
    "diffllama": declared(sizes(32000, 2048, 8192, 16, 32, None), _diffllama, answering_prefix=TRANSFORMER),
    "bitnet": declared(sizes(128256, 2560, 6912, 30, 20, 5), _bitnet),
    "granite_swa": declared(sizes(100352, 2560, 8192, 24, 20, 4), _granite_swa),
}
