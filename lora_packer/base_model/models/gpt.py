"""GPT and what grew from it: GPT-2, GPT-J, GPT-NeoX, CodeGen, CTRL, BLOOM, MPT, gpt-oss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import TRANSFORMERS_4, Architecture, Build, Head, declared
from lora_packer.base_model.blocks.attention import plain_attention
from lora_packer.base_model.blocks.experts import local_experts
from lora_packer.base_model.blocks.frames import (
    LAYER_NORMS,
    QUERY_VALUE,
    TRANSFORMER,
    aliased,
    classified_by_classifier,
    framed,
    head_modules,
    numbered,
    stacked,
)
from lora_packer.base_model.blocks.layers import biased_linear, conv1d, embedding, layer_norm, linear, norm
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _gpt_oss(s: Settings) -> Named:
    hidden, intermediate, count = s.size("hidden_size"), s.size("intermediate_size"), local_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield f"{prefix}.self_attn.sinks", Module("parameter", (s.size("num_attention_heads"),))
        yield from plain_attention(s, f"{prefix}.self_attn")
        router, experts = f"{prefix}.mlp.router", f"{prefix}.mlp.experts"
        yield f"{router}.weight", Module("parameter", (count, hidden))
        yield f"{router}.bias", Module("parameter", (count,))
        yield f"{experts}.gate_up_proj", Module("parameter", (count, hidden, 2 * intermediate), transposed=True)
        yield f"{experts}.gate_up_proj_bias", Module("parameter", (count, 2 * intermediate))
        yield f"{experts}.down_proj", Module("parameter", (count, intermediate, hidden), transposed=True)
        yield f"{experts}.down_proj_bias", Module("parameter", (count, hidden))

    return stacked(s, layer)


def _gpt_neox_japanese(s: Settings) -> Named:
    """GPT-NeoX Japanese, in which only the last layer's attention has a bias, and adds it itself."""
    hidden, last = s.size("hidden_size"), s.size("num_hidden_layers") - 1
    inner = int(hidden * s.ratio("intermediate_multiple_size"))

    def layer(prefix: str, _index: int) -> Named:
        for name in LAYER_NORMS:
            yield from layer_norm(f"{prefix}.{name}", hidden)
        yield linear(f"{prefix}.attention.query_key_value", 3 * hidden, hidden)
        yield linear(f"{prefix}.attention.dense", hidden, hidden)
        yield linear(f"{prefix}.mlp.dense_h_to_4h", inner, hidden)
        yield linear(f"{prefix}.mlp.dense_4h_to_h", hidden, inner)

    yield embedding("embed_in", s.size("vocab_size"), hidden)
    yield from numbered(s, "layers", layer)
    yield f"layers.{last}.attention.dense_bias", Module("parameter", (hidden,))
    yield from layer_norm("final_layer_norm", hidden)


# transformers' ``attribute_map`` of the GPT-2 line.
_GPT_NAMES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
# (path, out, in) -> a linear layer with a bias, stored as the type has it.
_Projection = Callable[[str, int, int], tuple[str, Module]]


def _inner(s: Settings, name: str = "n_inner") -> int:
    """The width of the feed-forward block: four times the hidden size where it is not given."""
    return s.optional_size(name) or 4 * s.size("hidden_size")


def _fused_gpt(s: Settings, projection: _Projection, key_values: int) -> Named:
    """GPT-2 and GPTBigCode: query, key and value in one projection; keys and values take ``key_values`` rows each."""
    hidden, inner = s.size("hidden_size"), _inner(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.ln_1", hidden)
        yield projection(f"{prefix}.attn.c_attn", hidden + 2 * key_values, hidden)
        yield projection(f"{prefix}.attn.c_proj", hidden, hidden)
        yield from layer_norm(f"{prefix}.ln_2", hidden)
        if s.flag("add_cross_attention"):
            yield projection(f"{prefix}.crossattention.c_attn", 2 * hidden, hidden)
            yield projection(f"{prefix}.crossattention.q_attn", hidden, hidden)
            yield projection(f"{prefix}.crossattention.c_proj", hidden, hidden)
            yield from layer_norm(f"{prefix}.ln_cross_attn", hidden)
        yield projection(f"{prefix}.mlp.c_fc", inner, hidden)
        yield projection(f"{prefix}.mlp.c_proj", hidden, inner)

    yield embedding("wte", s.size("vocab_size"), hidden)
    yield embedding("wpe", s.size("max_position_embeddings"), hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", hidden)


def _gpt2(s: Settings) -> Named:
    return _fused_gpt(s, conv1d, s.size("hidden_size"))


def _gpt_bigcode(s: Settings) -> Named:
    hidden = s.size("hidden_size")
    return _fused_gpt(s, biased_linear, hidden // s.size("num_attention_heads") if s.flag("multi_query") else hidden)


def _openai_gpt(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str, _index: int) -> Named:
        yield conv1d(f"{prefix}.attn.c_attn", 3 * hidden, hidden)
        yield conv1d(f"{prefix}.attn.c_proj", hidden, hidden)
        yield from layer_norm(f"{prefix}.ln_1", hidden)
        yield conv1d(f"{prefix}.mlp.c_fc", 4 * hidden, hidden)
        yield conv1d(f"{prefix}.mlp.c_proj", hidden, 4 * hidden)
        yield from layer_norm(f"{prefix}.ln_2", hidden)

    yield embedding("tokens_embed", s.size("vocab_size"), hidden)
    yield embedding("positions_embed", s.size("max_position_embeddings"), hidden)
    yield from numbered(s, "h", layer)


def _gptj(s: Settings, attention: Mapping[str, int]) -> Named:
    """GPT-J and CodeGen; ``attention`` has the projections of the input, and how many times its width they put out."""
    hidden, inner = s.size("hidden_size"), _inner(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.ln_1", hidden)
        for name, times in attention.items():
            yield linear(f"{prefix}.attn.{name}", times * hidden, hidden)
        yield linear(f"{prefix}.attn.out_proj", hidden, hidden)
        yield linear(f"{prefix}.mlp.fc_in", inner, hidden, bias=True)
        yield linear(f"{prefix}.mlp.fc_out", hidden, inner, bias=True)

    yield embedding("wte", s.size("vocab_size"), hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", hidden)


def _gptj_heads(s: Settings, head: Head) -> Named:
    if head == "question-answering":  # as wide as there are labels, unlike everywhere else
        yield linear("qa_outputs", s.labels(), s.size("hidden_size"), bias=True)
    else:
        yield from head_modules(s, head, output_bias=True)


def _gpt_neo(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), _inner(s, "intermediate_size")

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.ln_1", hidden)
        for name in ("k_proj", "v_proj", "q_proj"):
            yield linear(f"{prefix}.attn.attention.{name}", hidden, hidden)
        yield linear(f"{prefix}.attn.attention.out_proj", hidden, hidden, bias=True)
        yield from layer_norm(f"{prefix}.ln_2", hidden)
        yield linear(f"{prefix}.mlp.c_fc", inner, hidden, bias=True)
        yield linear(f"{prefix}.mlp.c_proj", hidden, inner, bias=True)

    yield embedding("wte", s.size("vocab_size"), hidden)
    yield embedding("wpe", s.size("max_position_embeddings"), hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", hidden)


def _gpt_neox(s: Settings) -> Named:
    hidden, inner, bias = s.size("hidden_size"), s.size("intermediate_size"), s.flag("attention_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.input_layernorm", hidden)
        yield from layer_norm(f"{prefix}.post_attention_layernorm", hidden)
        yield linear(f"{prefix}.attention.query_key_value", 3 * hidden, hidden, bias=bias)
        yield linear(f"{prefix}.attention.dense", hidden, hidden, bias=bias)
        yield linear(f"{prefix}.mlp.dense_h_to_4h", inner, hidden, bias=True)
        yield linear(f"{prefix}.mlp.dense_4h_to_h", hidden, inner, bias=True)

    yield embedding("embed_in", s.size("vocab_size"), hidden)
    yield from numbered(s, "layers", layer)
    yield from layer_norm("final_layer_norm", hidden)


def _bloom(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.input_layernorm", hidden)
        yield linear(f"{prefix}.self_attention.query_key_value", 3 * hidden, hidden, bias=True)
        yield linear(f"{prefix}.self_attention.dense", hidden, hidden, bias=True)
        yield from layer_norm(f"{prefix}.post_attention_layernorm", hidden)
        yield linear(f"{prefix}.mlp.dense_h_to_4h", 4 * hidden, hidden, bias=True)
        yield linear(f"{prefix}.mlp.dense_4h_to_h", hidden, 4 * hidden, bias=True)

    yield embedding("word_embeddings", s.size("vocab_size"), hidden)
    yield from layer_norm("word_embeddings_layernorm", hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", hidden)


def _mpt(s: Settings) -> Named:
    hidden = s.size("hidden_size")

    def layer(prefix: str, _index: int) -> Named:
        yield norm(f"{prefix}.norm_1", hidden)
        yield linear(f"{prefix}.attn.Wqkv", 3 * hidden, hidden)
        yield linear(f"{prefix}.attn.out_proj", hidden, hidden)
        yield norm(f"{prefix}.norm_2", hidden)
        yield linear(f"{prefix}.ffn.up_proj", 4 * hidden, hidden)  # whatever expansion_ratio says
        yield linear(f"{prefix}.ffn.down_proj", hidden, 4 * hidden)

    yield embedding("wte", s.size("vocab_size"), hidden)
    yield from numbered(s, "blocks", layer)
    yield norm("norm_f", hidden)


def _ctrl(s: Settings) -> Named:
    hidden, inner = s.size("hidden_size"), s.size("dff")

    def layer(prefix: str, _index: int) -> Named:
        for name in ("Wq", "Wk", "Wv", "dense"):
            yield linear(f"{prefix}.multi_head_attention.{name}", hidden, hidden, bias=True)
        yield linear(f"{prefix}.ffn.0", inner, hidden, bias=True)
        yield linear(f"{prefix}.ffn.2", hidden, inner, bias=True)
        yield from layer_norm(f"{prefix}.layernorm1", hidden)
        yield from layer_norm(f"{prefix}.layernorm2", hidden)

    yield embedding("w", s.size("vocab_size"), hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("layernorm", hidden)


def _ctrl_heads(s: Settings, head: Head) -> Named:
    if head == "sequence-classification":
        yield linear("classifier", s.labels(), s.size("hidden_size"))
    else:
        yield from head_modules(s, head, output_bias=True)


def _gpt(decoder: Callable[[Settings], Named], heads: Build | None = None) -> Build:
    return aliased(framed(decoder, prefix=TRANSFORMER, heads=heads), _GPT_NAMES)


GPT2 = declared(_gpt(_gpt2, classified_by_classifier), targets=("c_attn",), input_embedding="wte")

ARCHITECTURES: Mapping[str, Architecture] = {
    "gpt_oss": declared(framed(_gpt_oss)),
    # The checkpoints of GPT-SW3 are GPT-2's class; only the tokenizer is another.
    "gpt-sw3": GPT2,
    "gpt_neox_japanese": declared(
        framed(_gpt_neox_japanese, prefix="gpt_neox_japanese.", heads=partial(head_modules, output="embed_out")),
        input_embedding="embed_in",
    ),
    "gpt2": GPT2,
    "gpt_bigcode": declared(_gpt(_gpt_bigcode, classified_by_classifier), targets=("c_attn",), input_embedding="wte"),
    "gptj": declared(
        _gpt(partial(_gptj, attention={"k_proj": 1, "v_proj": 1, "q_proj": 1}), _gptj_heads),
        targets=QUERY_VALUE,
        input_embedding="wte",
    ),
    "codegen": declared(
        _gpt(partial(_gptj, attention={"qkv_proj": 3}), partial(head_modules, output_bias=True)),
        targets=("qkv_proj",),
        input_embedding="wte",
    ),
    "openai-gpt": declared(_gpt(_openai_gpt), input_embedding="tokens_embed"),
    "ctrl": declared(_gpt(_ctrl, _ctrl_heads), input_embedding="w"),
    "gpt_neo": declared(
        aliased(
            framed(_gpt_neo, prefix=TRANSFORMER, heads=classified_by_classifier),
            {"num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"},
        ),
        targets=QUERY_VALUE,
        input_embedding="wte",
    ),
    "gpt_neox": declared(
        framed(_gpt_neox, prefix="gpt_neox.", heads=classified_by_classifier),
        {
            TRANSFORMERS_4: framed(
                _gpt_neox, prefix="gpt_neox.", heads=partial(classified_by_classifier, output="embed_out")
            )
        },
        targets=("query_key_value",),
        input_embedding="embed_in",
    ),
    "bloom": declared(
        aliased(
            framed(_bloom, prefix=TRANSFORMER, heads=classified_by_classifier),
            {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "n_embed": "hidden_size"},
        ),
        targets=("query_key_value",),
        input_embedding="word_embeddings",
    ),
    "mpt": declared(
        aliased(
            framed(_mpt, prefix=TRANSFORMER, heads=classified_by_classifier),
            {"num_attention_heads": "n_heads", "hidden_size": "d_model", "num_hidden_layers": "n_layers"},
        ),
        targets=("Wqkv",),
        input_embedding="wte",
    ),
}
