"""GPT and what grew from it: GPT-2, GPT-J, GPT-NeoX, CodeGen, CTRL, BLOOM, MPT, gpt-oss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import (
    TRANSFORMERS_4,
    TRANSFORMERS_5_23,
    Architectures,
    Build,
    Head,
    declared,
    like,
)
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
from lora_packer.base_model.blocks.layers import chain, conv1d, embedding, layer_norm, linear, parameter
from lora_packer.base_model.module import Module, Named
from lora_packer.base_model.settings import Settings


def _gpt_oss(s: Settings) -> Named:
    count = local_experts(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from parameter(f"{prefix}.self_attn.sinks", s.heads)
        yield from plain_attention(s, f"{prefix}.self_attn")
        router, experts = f"{prefix}.mlp.router", f"{prefix}.mlp.experts"
        yield from parameter(f"{router}.weight", count, s.hidden)
        yield from parameter(f"{router}.bias", count)
        yield f"{experts}.gate_up_proj", Module("parameter", (count, s.hidden, 2 * s.inner), transposed=True)
        yield from parameter(f"{experts}.gate_up_proj_bias", count, 2 * s.inner)
        yield f"{experts}.down_proj", Module("parameter", (count, s.inner, s.hidden), transposed=True)
        yield from parameter(f"{experts}.down_proj_bias", count, s.hidden)

    return stacked(s, layer)


def _gpt_neox_japanese(s: Settings) -> Named:
    """GPT-NeoX Japanese, in which only the last layer's attention has a bias, and adds it itself."""
    last = s.layers - 1
    inner = int(s.hidden * s.ratio("intermediate_multiple_size"))

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(prefix, s.hidden, *LAYER_NORMS)
        yield from linear(f"{prefix}.attention.query_key_value", 3 * s.hidden, s.hidden)
        yield from linear(f"{prefix}.attention.dense", s.hidden, s.hidden)
        yield from chain(f"{prefix}.mlp", (s.hidden, inner, s.hidden), "dense_h_to_4h", "dense_4h_to_h")

    yield from embedding("embed_in", s.vocab, s.hidden)
    yield from numbered(s, "layers", layer)
    yield from parameter(f"layers.{last}.attention.dense_bias", s.hidden)
    yield from layer_norm("final_layer_norm", s.hidden)


# transformers' ``attribute_map`` of the GPT-2 line.
_GPT_NAMES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
# (path, out, in) -> a linear layer with a bias, stored as the type has it.
_Projection = Callable[[str, int, int], Named]


def _inner(s: Settings, name: str = "n_inner") -> int:
    """The width of the feed-forward block: four times the hidden size where it is not given."""
    return s.optional_size(name) or 4 * s.hidden


def _fused_gpt(s: Settings, projection: _Projection, key_values: int) -> Named:
    """GPT-2 and GPTBigCode: query, key and value in one projection; keys and values take ``key_values`` rows each."""
    inner = _inner(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.ln_1", s.hidden)
        yield from projection(f"{prefix}.attn.c_attn", s.hidden + 2 * key_values, s.hidden)
        yield from projection(f"{prefix}.attn.c_proj", s.hidden, s.hidden)
        yield from layer_norm(f"{prefix}.ln_2", s.hidden)
        if s.flag("add_cross_attention"):
            yield from projection(f"{prefix}.crossattention.c_attn", 2 * s.hidden, s.hidden)
            yield from projection(f"{prefix}.crossattention.q_attn", s.hidden, s.hidden)
            yield from projection(f"{prefix}.crossattention.c_proj", s.hidden, s.hidden)
            yield from layer_norm(f"{prefix}.ln_cross_attn", s.hidden)
        yield from projection(f"{prefix}.mlp.c_fc", inner, s.hidden)
        yield from projection(f"{prefix}.mlp.c_proj", s.hidden, inner)

    yield from embedding("wte", s.vocab, s.hidden)
    yield from embedding("wpe", s.size("max_position_embeddings"), s.hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", s.hidden)


def _gpt2(s: Settings) -> Named:
    return _fused_gpt(s, conv1d, s.hidden)


def _gpt_bigcode(s: Settings) -> Named:
    return _fused_gpt(s, partial(linear, bias=True), s.hidden // s.heads if s.flag("multi_query") else s.hidden)


def _openai_gpt(s: Settings) -> Named:
    def layer(prefix: str, _index: int) -> Named:
        yield from conv1d(f"{prefix}.attn.c_attn", 3 * s.hidden, s.hidden)
        yield from conv1d(f"{prefix}.attn.c_proj", s.hidden, s.hidden)
        yield from layer_norm(f"{prefix}.ln_1", s.hidden)
        yield from conv1d(f"{prefix}.mlp.c_fc", 4 * s.hidden, s.hidden)
        yield from conv1d(f"{prefix}.mlp.c_proj", s.hidden, 4 * s.hidden)
        yield from layer_norm(f"{prefix}.ln_2", s.hidden)

    yield from embedding("tokens_embed", s.vocab, s.hidden)
    yield from embedding("positions_embed", s.size("max_position_embeddings"), s.hidden)
    yield from numbered(s, "h", layer)


def _gptj(s: Settings, attention: Mapping[str, int]) -> Named:
    """GPT-J and CodeGen; ``attention`` has the projections of the input, and how many times its width they put out."""
    inner = _inner(s)

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.ln_1", s.hidden)
        for name, times in attention.items():
            yield from linear(f"{prefix}.attn.{name}", times * s.hidden, s.hidden)
        yield from linear(f"{prefix}.attn.out_proj", s.hidden, s.hidden)
        yield from chain(f"{prefix}.mlp", (s.hidden, inner, s.hidden), "fc_in", "fc_out", bias=True)

    yield from embedding("wte", s.vocab, s.hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", s.hidden)


_GPTJ = partial(_gptj, attention={"k_proj": 1, "v_proj": 1, "q_proj": 1})


def _gptj_heads(s: Settings, head: Head) -> Named:
    if head == "question-answering":  # before transformers 5.24 as wide as there are labels
        yield from linear("qa_outputs", s.labels(), s.hidden, bias=True)
    else:
        yield from head_modules(s, head, output_bias=True)


def _gpt_neo(s: Settings) -> Named:
    inner = _inner(s, "intermediate_size")

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(f"{prefix}.ln_1", s.hidden)
        yield from linear(f"{prefix}.attn.attention", s.hidden, s.hidden, "k_proj", "v_proj", "q_proj")
        yield from linear(f"{prefix}.attn.attention.out_proj", s.hidden, s.hidden, bias=True)
        yield from layer_norm(f"{prefix}.ln_2", s.hidden)
        yield from chain(f"{prefix}.mlp", (s.hidden, inner, s.hidden), "c_fc", "c_proj", bias=True)

    yield from embedding("wte", s.vocab, s.hidden)
    yield from embedding("wpe", s.size("max_position_embeddings"), s.hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("ln_f", s.hidden)


def _gpt_neox(s: Settings) -> Named:
    bias = s.flag("attention_bias")

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(prefix, s.hidden, "input_layernorm", "post_attention_layernorm")
        yield from linear(f"{prefix}.attention.query_key_value", 3 * s.hidden, s.hidden, bias=bias)
        yield from linear(f"{prefix}.attention.dense", s.hidden, s.hidden, bias=bias)
        yield from chain(f"{prefix}.mlp", (s.hidden, s.inner, s.hidden), "dense_h_to_4h", "dense_4h_to_h", bias=True)

    yield from embedding("embed_in", s.vocab, s.hidden)
    yield from numbered(s, "layers", layer)
    yield from layer_norm("final_layer_norm", s.hidden)


def _ctrl(s: Settings) -> Named:
    inner = s.size("dff")

    def layer(prefix: str, _index: int) -> Named:
        yield from linear(f"{prefix}.multi_head_attention", s.hidden, s.hidden, "Wq", "Wk", "Wv", "dense", bias=True)
        yield from chain(f"{prefix}.ffn", (s.hidden, inner, s.hidden), "0", "2", bias=True)
        yield from layer_norm(prefix, s.hidden, "layernorm1", "layernorm2")

    yield from embedding("w", s.vocab, s.hidden)
    yield from numbered(s, "h", layer)
    yield from layer_norm("layernorm", s.hidden)


def _ctrl_heads(s: Settings, head: Head) -> Named:
    if head == "sequence-classification":
        yield from linear("classifier", s.labels(), s.hidden)
    else:
        yield from head_modules(s, head, output_bias=True)


def _gpt(decoder: Callable[[Settings], Named], heads: Build | None = None) -> Build:
    return aliased(framed(decoder, prefix=TRANSFORMER, heads=heads), _GPT_NAMES)


ARCHITECTURES: Architectures = {
    "gpt_oss": declared(framed(_gpt_oss)),
    # The checkpoints of GPT-SW3 are GPT-2's class; only the tokenizer is another.
    "gpt-sw3": like("gpt2"),
    "gpt_neox_japanese": declared(
        framed(_gpt_neox_japanese, prefix="gpt_neox_japanese.", heads=partial(head_modules, output="embed_out")),
        input_embedding="embed_in",
    ),
    "gpt2": declared(_gpt(_gpt2, classified_by_classifier), targets=("c_attn",), input_embedding="wte"),
    "gpt_bigcode": declared(_gpt(_gpt_bigcode, classified_by_classifier), targets=("c_attn",), input_embedding="wte"),
    "gptj": declared(
        _gpt(_GPTJ, partial(head_modules, output_bias=True)),
        {TRANSFORMERS_5_23: _gpt(_GPTJ, _gptj_heads)},
        targets=QUERY_VALUE,
        input_embedding="wte",
    ),
    "codegen": declared(
        _gpt(partial(_gptj, attention={"qkv_proj": 3}), partial(head_modules, output_bias=True)),
        targets=("qkv_proj",),
        input_embedding="wte",
    ),
    "openai_privacy_filter": like("gpt_oss"),
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
}
