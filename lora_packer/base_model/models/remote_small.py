"""Small models whose code is in their own repositories: of text, and of series of numbers."""

from __future__ import annotations

from functools import partial

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.attention import grouped_attention
from lora_packer.base_model.blocks.experts import linear_experts
from lora_packer.base_model.blocks.feed_forward import gated_mlp, plain_mlp, ungated_mlp
from lora_packer.base_model.blocks.frames import LAYER_NORMS, decoder, framed, numbered, stacked
from lora_packer.base_model.blocks.layers import chain, embedding, layer_norm, linear, norm, parameter
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


ARCHITECTURES: Architectures = {
    "TraXLMistral": remote(
        _traxl,
        Proof("read", "GriffinDevelopments/TraXLMistraLForCausalLM 3673a44, TraXLMistralModel.py"),
        input_embedding="embedding",
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
