"""THUDM's ChatGLM: the first one, ChatGLM2 and 3 with CodeGeeX2, GLM-4 and GLM-4V as their own repositories have them.

The names and shapes are those of ``modeling_chatglm.py`` in these repositories (``ChatGLMForConditionalGeneration``,
which ``auto_map`` names whatever ``architectures`` says), not those of transformers' ``glm`` and ``glm4``.
"""

from __future__ import annotations

from lora_packer.base_model.architecture import Architectures, Head, Proof, remote
from lora_packer.base_model.blocks.frames import TRANSFORMER, numbered
from lora_packer.base_model.blocks.layers import chain, conv, embedding, layer_norm, linear, norm, parameter
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings


def _is_first(s: Settings) -> bool:
    """ChatGLM-6B's config has fields that its successors have not."""
    return "inner_hidden_size" in s.raw or "position_encoding_2d" in s.raw


def _chatglm(s: Settings, head: Head) -> Named:
    before = "" if head == "none" else TRANSFORMER
    for path, module in (_first if _is_first(s) else _second)(s):
        yield before + path, module
    if head == "sequence-classification":
        yield from linear("classifier_head", s.labels(), s.hidden, bias=True)
    elif head != "none" and _is_first(s):
        yield from linear("lm_head", s.vocab, s.hidden)


def _second(s: Settings) -> Named:
    """ChatGLM2's decoder, whose output layer is inside: queries, keys and values in one, gate and up projection too."""
    bias, width = s.flag("add_bias_linear"), s.size("kv_channels") * s.heads
    groups = s.size("multi_query_group_num") if s.flag("multi_query_attention") else s.heads
    fused, inner = width + 2 * s.size("kv_channels") * groups, s.size("ffn_hidden_size")
    kind = norm if s.flag("rmsnorm") else layer_norm
    vocabulary = s.size("padded_vocab_size")

    def layer(prefix: str, _index: int) -> Named:
        path = f"{prefix}.self_attention"
        yield from kind(prefix, s.hidden, "input_layernorm", "post_attention_layernorm")
        yield from linear(f"{path}.query_key_value", fused, s.hidden, bias=bias or s.flag("add_qkv_bias"))
        yield from linear(f"{path}.dense", s.hidden, width, bias=bias)
        yield from linear(f"{prefix}.mlp.dense_h_to_4h", 2 * inner, s.hidden, bias=bias)
        yield from linear(f"{prefix}.mlp.dense_4h_to_h", s.hidden, inner, bias=bias)

    yield from embedding("embedding.word_embeddings", vocabulary, s.hidden)
    yield from numbered(s, "encoder.layers", layer, layers=s.size("num_layers"))
    if s.flag("post_layer_norm"):
        yield from kind("encoder.final_layernorm", s.hidden)
    yield from linear("output_layer", vocabulary, s.hidden)
    kept = s.size("num_layers") * s.size("kv_channels") * s.size("multi_query_group_num") * 2
    yield from _prompts(s, kept, kept)
    if s.raw.get("vision_config") is not None:
        yield from _visual(s, s.nested("vision_config"))


def _prompts(s: Settings, kept: int, width: int) -> Named:
    """P-tuning's encoder, where the config has a prefix: ``kept`` are all keys and values of a position."""
    rows = s.optional_size("pre_seq_len")
    if rows is None:
        return
    projected = s.flag("prefix_projection")
    yield from embedding("prefix_encoder.embedding", rows, width if projected else kept)
    if projected:
        yield from chain("prefix_encoder.trans", (width, s.hidden, kept), "0", "2", bias=True)


def _visual(s: Settings, vision: Settings) -> Named:
    """GLM-4V's tower and the gated projector behind it (``visual.py``)."""
    hidden = vision.hidden
    yield from conv(
        "vision.patch_embedding.proj", (hidden, vision.size("in_channels"), *vision.pair("patch_size")), bias=True
    )
    yield from parameter("vision.patch_embedding.cls_embedding", 1, hidden)
    yield from embedding("vision.patch_embedding.position_embedding", vision.size("num_positions"), hidden)
    for index in range(vision.layers):
        path = f"vision.transformer.layers.{index}"
        yield from layer_norm(path, hidden, "input_layernorm", "post_attention_layernorm")
        yield from linear(f"{path}.attention.query_key_value", 3 * hidden, hidden, bias=True)
        yield from linear(f"{path}.attention.dense", hidden, hidden, bias=True)
        yield from chain(f"{path}.mlp", (hidden, vision.inner, hidden), "fc1", "fc2", bias=True)
    inner = s.size("ffn_hidden_size")
    yield from linear("vision.linear_proj.linear_proj", s.hidden, s.hidden)
    yield from layer_norm("vision.linear_proj.norm1", s.hidden)
    yield from linear("vision.linear_proj", inner, s.hidden, "dense_h_to_4h", "gate_proj")
    yield from linear("vision.linear_proj.dense_4h_to_h", s.hidden, inner)
    yield from conv("vision.conv", (s.hidden, hidden, 2, 2), bias=True)
    yield from parameter("vision.boi", 1, 1, s.hidden)
    yield from parameter("vision.eoi", 1, 1, s.hidden)


def _first(s: Settings) -> Named:
    """ChatGLM-6B's decoder, with two-dimensional positions."""
    inner = s.optional_size("inner_hidden_size") or 4 * s.hidden

    def layer(prefix: str, _index: int) -> Named:
        yield from layer_norm(prefix, s.hidden, "input_layernorm", "post_attention_layernorm")
        yield from linear(f"{prefix}.attention.query_key_value", 3 * s.hidden, s.hidden, bias=True)
        yield from linear(f"{prefix}.attention.dense", s.hidden, s.hidden, bias=True)
        yield from chain(f"{prefix}.mlp", (s.hidden, inner, s.hidden), "dense_h_to_4h", "dense_4h_to_h", bias=True)

    yield from embedding("word_embeddings", s.vocab, s.hidden)
    yield from numbered(s, "layers", layer, layers=s.size("num_layers"))
    yield from layer_norm("final_layernorm", s.hidden)
    yield from _prompts(s, 2 * s.size("num_layers") * s.hidden, s.hidden)


ARCHITECTURES: Architectures = {
    "chatglm": remote(
        _chatglm,
        Proof(
            "built",
            "chatglm2_6b/modeling_chatglm.py (colossalai 0.5.0), chatglm/text_generation.py (modelscope 1.9.5), "
            "glm4v/modeling_chatglm.py (optimum-habana 1.21.2)",
            ("sequence-classification",),
        ),
        targets=("query_key_value",),
        input_embedding="word_embeddings",
        classes={"ChatGLMModel": "causal-lm"},
        vocabulary=("padded_vocab_size", "vocab_size"),
    ),
}
