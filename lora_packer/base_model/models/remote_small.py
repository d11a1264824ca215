"""Small models whose code is in their own repositories: of text, and of series of numbers."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, Head, Proof, only_for, remote
from lora_packer.base_model.blocks.attention import biased_attention, grouped_attention, head_sizes
from lora_packer.base_model.blocks.experts import linear_experts
from lora_packer.base_model.blocks.feed_forward import fused_gated_mlp, gated_mlp, plain_mlp, ungated_mlp
from lora_packer.base_model.blocks.frames import (
    LAYER_NORMS,
    TRANSFORMER,
    decoder,
    framed,
    head_modules,
    numbered,
    plain_decoder,
    stacked,
)
from lora_packer.base_model.blocks.layers import chain, embedding, flagged, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import UnknownArchitecture


def _tiny_pellm(s: Settings) -> Named:
    """TinyPeLLM's decoder: one head of keys and values for all."""

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.attn", s.hidden, s.hidden, "q_proj", "out_proj")
        yield from linear(f"{prefix}.attn", s.hidden // s.heads, s.hidden, "k_proj", "v_proj")
        yield from chain(f"{prefix}.ff", (s.hidden, s.inner, s.hidden), "intermediate", "output")

    return stacked(s, layer, norms=("ln1", "ln2"), kind=layer_norm)


_all_biased = partial(grouped_attention, bias=True, output_bias=True)
_rugpt3xl_layers = decoder({"self_attn": _all_biased, "mlp": partial(ungated_mlp, bias=True)}, kind=layer_norm)


def _rugpt3xl(s: Settings) -> Named:
    """ruGPT-3 XL's decoder, with learned positions."""
    yield from embedding("embed_positions", s.size("max_position_embeddings"), s.hidden)
    yield from _rugpt3xl_layers(s.with_fields(num_key_value_heads=None, head_dim=None))


def _traxl(s: Settings, _head: Head) -> Named:
    """TraXLMistral: an LSTM, torch's own encoder behind it, a memory, and a head as wide as the LSTM."""
    width, depth, inner = (
        s.size("rnn_units"),
        s.size("n_layer") // 2,
        s.size("rnn_units") * s.size("ff_expansion_factor"),
    )
    yield from embedding("embedding", s.vocab, s.hidden)
    for index in range(depth):
        yield from parameter(f"lstm.weight_ih_l{index}", 4 * width, width if index else s.hidden)
        yield from parameter(f"lstm.weight_hh_l{index}", 4 * width, width)
        yield from parameter(f"lstm.bias_ih_l{index}", 4 * width)
        yield from parameter(f"lstm.bias_hh_l{index}", 4 * width)
    if s.flag("sparse_attention"):
        yield from _torch_attention("sparse_attention.multihead_attn", s.hidden)
    for index in range(depth):
        path = f"transformer_encoder.layers.{index}"
        yield from _torch_attention(f"{path}.self_attn", width)
        yield from chain(path, (width, inner, width), "linear1", "linear2", bias=True)
        yield from layer_norm(path, width, "norm1", "norm2")
    yield from chain("act", (width, 1), "halting_projections", bias=True)
    yield from linear("act.step_function", width, width, bias=True)
    yield from parameter("memory.memory", s.size("memory_size"), width)
    yield from linear("memory", s.size("memory_size"), width, "read_head", "write_head", bias=True)
    yield from _torch_attention("cross_attention", width)
    yield from parameter("latent_clustering.cluster_centers", 10, width)
    yield from linear("logic_layer.logic_layer", width, width, bias=True)
    yield from linear("lm_head", s.vocab, width, bias=True)


def _torch_attention(path: str, width: int) -> Named:
    """A torch.nn.MultiheadAttention, which holds queries, keys and values in one parameter."""
    yield from parameter(f"{path}.in_proj_weight", 3 * width, width)
    yield from parameter(f"{path}.in_proj_bias", 3 * width)
    yield from linear(f"{path}.out_proj", width, width, bias=True)


def _time_moe(s: Settings) -> Named:
    """Time-MoE's decoder: numbers in the place of tokens; experts as many times narrower as a number has of them."""
    dense, chosen = s.flag("use_dense"), s.size("num_experts_per_tok")

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.ffn_layer"
        yield from grouped_attention(s.with_fields(head_dim=None), f"{prefix}.self_attn", bias=True)
        yield from norm(prefix, s.hidden, *LAYER_NORMS)
        if dense:
            yield from plain_mlp(s, path)
            return
        yield from linear_experts(path, s.hidden, s.inner // chosen, s.size("num_experts"))
        yield from gated_mlp(f"{path}.shared_expert", s.hidden, s.inner)
        yield from linear(f"{path}.shared_expert_gate", 1, s.hidden)

    yield from linear("embed_layer", s.hidden, s.size("input_size"), "emb_layer", "gate_layer")
    yield from numbered(s, "layers", layer)
    yield from norm("norm", s.hidden)


def _horizons(s: Settings, head: Head) -> Named:
    """A head for each number of steps ahead."""
    if head == "none":
        return
    lengths = s.value("horizon_lengths")
    if type(lengths) is not int and not isinstance(lengths, list | tuple):
        raise UnknownArchitecture("there is no proven definition for the horizon_lengths of this Time-MoE.")
    ahead = (lengths,) if type(lengths) is int else s.sizes("horizon_lengths")
    for index, length in enumerate(ahead):
        yield from linear(f"lm_heads.{index}.out_layer", length * s.size("input_size"), s.hidden)


def _plamo3(s: Settings) -> Named:
    """PLaMo 3's decoder: layers inside a decoder of their own, norms before and after each half."""
    heads, kv_heads, head_dim = head_sizes(s)
    norms = ("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm")

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.mixer.qkv_proj", (heads + 2 * kv_heads) * head_dim, s.hidden)
        yield from linear(f"{prefix}.mixer.o_proj", s.hidden, heads * head_dim)
        yield from norm(f"{prefix}.mixer", head_dim, "q_norm", "k_norm")
        yield from fused_gated_mlp(s, f"{prefix}.mlp")
        yield from norm(prefix, s.hidden, *norms)

    yield from embedding("embed_tokens", s.vocab, s.hidden)
    yield from numbered(s, "layers.layers", layer)
    yield from norm("norm", s.hidden)


def _pangu(s: Settings) -> Named:
    """openPangu Embedded's decoder: Llama's, with biases in its attention."""
    out = s.flag("attention_bias") or s.flag("bias")
    bias = out if s.value("qkv_bias") is None else s.flag("qkv_bias")
    return decoder(
        {
            "self_attn": partial(grouped_attention, bias=bias, output_bias=out),
            "mlp": flagged(plain_mlp, bias="mlp_bias"),
        }
    )(s)


def _plamo3_head(s: Settings, head: Head) -> Named:
    """The head, whose rows are filled up to a multiple of 16."""
    return head_modules(s.with_fields(vocab_size=(s.vocab + 15) // 16 * 16), head)


def _openelm(s: Settings) -> Named:
    """OpenELM's decoder: every layer has its own numbers of heads and its own feed-forward width."""
    width, side, step = s.size("model_dim"), s.size("head_dim"), s.size("ffn_dim_divisor")
    count = s.size("num_transformer_layers")
    heads, kv_heads, factors = s.sizes("num_query_heads"), s.sizes("num_kv_heads"), s.value("ffn_multipliers")
    listed = isinstance(factors, list | tuple) and all(type(factor) in (int, float) for factor in factors)
    if not listed or min(len(heads), len(kv_heads), len(factors)) < count or not s.flag("ffn_with_glu"):
        raise UnknownArchitecture("there is no proven definition for the layers that this OpenELM lists.")

    def layer(prefix: str, index: int) -> Named:
        inner = _divisible(factors[index] * width, step)
        out = heads[index] * side
        yield from linear(f"{prefix}.attn.qkv_proj", out + 2 * kv_heads[index] * side, width)
        yield from linear(f"{prefix}.attn.out_proj", width, out)
        if s.flag("normalize_qk_projections"):
            yield from norm(f"{prefix}.attn", side, "q_norm", "k_norm")
        yield from linear(f"{prefix}.ffn.proj_1", 2 * inner, width)
        yield from linear(f"{prefix}.ffn.proj_2", width, inner)
        yield from norm(prefix, width, "ffn_norm", "attn_norm")

    yield from embedding("token_embeddings", s.vocab, width)
    yield from numbered(s, "layers", layer, layers=count)
    yield from norm("norm", width)


def _divisible(value: float, step: int) -> int:
    """The multiple of a step that is next to a value, and not more than a tenth below it."""
    found = max(step, int(value + step / 2) // step * step)
    return found + step if found < 0.9 * value else found


def _openelm_head(s: Settings, head: Head) -> Named:
    """The head, which most share with the embedding and have no module for."""
    if head == "causal-lm" and not s.flag("share_input_output_layers"):
        yield from linear("lm_head", s.vocab, s.size("model_dim"))


# What decides LLaDA's blocks, and stands in every config of its makers.
_LLADA_SAYS = frozenset({"activation_type", "block_type", "include_bias", "layer_norm_type", "rope", "weight_tying"})


def _llada(s: Settings, head: Head) -> Named:
    """LLaDA's model, which fills in masks: OLMo's names around Llama's layers."""
    unsaid = sorted(_LLADA_SAYS - s.raw.keys())
    if unsaid:
        raise UnknownArchitecture(f"this LLaDA's config does not say its {unsaid[0]}.")
    width, heads = s.size("d_model"), s.size("n_heads")
    kv_width = width // heads * (s.optional_size("n_kv_heads") or (1 if s.flag("multi_query_attention") else heads))
    inner = s.optional_size("mlp_hidden_size") or s.size("mlp_ratio") * width
    plain = s.value("block_type") == "llama" and s.value("activation_type") == "silu" and s.flag("rope")
    if not plain or s.size("block_group_size") != 1 or s.flag("include_bias") or s.flag("attention_layer_norm"):
        raise UnknownArchitecture("there is no proven definition for the blocks of this LLaDA.")
    if s.value("layer_norm_type") != "rms" or s.flag("bias_for_layer_norm"):
        raise UnknownArchitecture("there is no proven definition for the layer_norm_type of this LLaDA.")
    before, rows, bias = "transformer." if head == "none" else "model.transformer.", s.vocab, s.flag("include_qkv_bias")
    rows = s.optional_size("embedding_size") or rows
    yield from embedding(f"{before}wte", rows, width)
    for index in range(s.size("n_layers")):
        path = f"{before}blocks.{index}"
        yield from norm(path, width, "attn_norm", "ff_norm")
        yield from linear(f"{path}.q_proj", width, width, bias=bias)
        yield from linear(path, kv_width, width, "k_proj", "v_proj", bias=bias)
        yield from linear(f"{path}.attn_out", width, width)
        yield from linear(path, inner, width, "ff_proj", "up_proj")
        yield from linear(f"{path}.ff_out", width, inner)
    yield from norm(f"{before}ln_f", width)
    if not s.flag("weight_tying"):
        yield from linear(f"{before}ff_out", rows, width)


_dream_layers = decoder({"self_attn": biased_attention, "mlp": plain_mlp})


def _dream(s: Settings) -> Named:
    """Dream's decoder, which fills in masks: Qwen2's, whose heads share the hidden size, whatever the config says."""
    return _dream_layers(s.with_fields(head_dim=None))


ARCHITECTURES: Architectures = {
    "Dream": remote(
        only_for(framed(_dream), "DreamModel", "DreamBaseModel"),
        Proof(
            "read", "Dream-org/Dream-v0-Instruct-7B, modeling_dream.py and configuration_dream.py (copies on GitHub)"
        ),
        classes={"DreamModel": "causal-lm", "DreamBaseModel": "none"},
    ),
    "TraXLMistral": remote(
        _traxl,
        Proof("read", "GriffinDevelopments/TraXLMistraLForCausalLM 3673a44, TraXLMistralModel.py"),
        input_embedding="embedding",
    ),
    "llada": remote(
        _llada,
        Proof("read", "GSAI-ML/LLaDA-8B, modeling_llada.py (copies on GitHub)"),
        input_embedding="wte",
        classes={"LLaDAModelLM": "causal-lm", "LLaDAModel": "none"},
        vocabulary=("embedding_size", "vocab_size"),
    ),
    "openelm": remote(
        framed(_openelm, prefix=TRANSFORMER, heads=_openelm_head),
        Proof("read", "mlx_lm/models/openelm.py (mlx-lm 0.32.2)"),
        input_embedding="token_embeddings",
    ),
    "plamo3": remote(
        framed(_plamo3, heads=_plamo3_head),
        Proof("read", "vllm/model_executor/models/plamo3.py (vllm 0.33.0), mlx_lm/models/plamo3.py (mlx-lm 0.32.2)"),
    ),
    "PanguEmbedded": remote(framed(_pangu), Proof("read", "vllm/model_executor/models/openpangu.py (vllm 0.33.0)")),
    "telechat3": remote(
        framed(plain_decoder),
        Proof("read", "mlx_lm/models/telechat3.py (mlx-lm 0.32.2); vllm 0.33.0 serves it with its class of Llama"),
    ),
    "rugpt3xl": remote(
        framed(_rugpt3xl), Proof("read", "EvilFreelancer/rugpt3xl-convert 3839cb4, modeling_rugpt3xl.py")
    ),
    "time_moe": remote(
        framed(_time_moe, heads=_horizons),
        Proof("built", "timemoe/timemoe.py (sktime 1.2.0)"),
        input_embedding=None,
        classes={"TimeMoeForPrediction": "causal-lm"},
    ),
    "tiny_pellm": remote(framed(_tiny_pellm), Proof("read", "Herutriana44/TinyPeLLM 8f3da03, TinyPeLLMModel.py")),
}
