"""T5 and its relatives, Pix2Struct and UDOP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lora_packer.base_model.architecture import Architectures, Build, Head, declared, like
from lora_packer.base_model.blocks.composite import Tower, below, composite, fixed
from lora_packer.base_model.blocks.layers import conv, embedding, linear, norm
from lora_packer.base_model.blocks.towers import pix2struct_visual
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings

_T5_NAMES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}


# Yields the modules of a feed-forward block: path, side, number of the layer.
_Feed = Callable[[Settings, str, str, int], Named]


def _dense_relu_dense(s: Settings, path: str, _side: str, _index: int) -> Named:
    """T5's feed-forward block, gated or not."""
    width, inner = s.size("d_model"), s.size("d_ff")
    gated = str(s.value("feed_forward_proj")).startswith("gated-")
    if "is_gated_act" in s.raw:
        gated = s.flag("is_gated_act")
    for name in ("wi_0", "wi_1") if gated else ("wi",):
        yield from linear(f"{path}.DenseReluDense.{name}", inner, width)
    yield from linear(f"{path}.DenseReluDense.wo", width, inner)


def t5_side(
    s: Settings,
    side: str,
    *,
    every_bias: bool = False,
    attention: str = "SelfAttention",
    feed: _Feed = _dense_relu_dense,
) -> Named:
    """One side; ``every_bias``: whether every layer has its own table of relative positions, not the first alone.

    ``attention`` is the name of its attention to itself.
    """
    width, heads = s.size("d_model"), s.size("num_heads")
    projected = heads * s.size("d_kv")
    names = (attention, "EncDecAttention") if side == "decoder" else (attention,)
    layers = s.optional_size("num_decoder_layers") if side == "decoder" else None
    yield from embedding(f"{side}.embed_tokens", s.vocab, width)
    for index in range(layers or s.size("num_layers")):
        path = f"{side}.block.{index}.layer"
        for number, name in enumerate(names):
            yield from linear(f"{path}.{number}.{name}", projected, width, "q", "k", "v")
            yield from linear(f"{path}.{number}.{name}.o", width, projected)
            yield from norm(f"{path}.{number}.layer_norm", width)
        if every_bias or index == 0:
            buckets = s.size("relative_attention_num_buckets")
            yield from embedding(f"{path}.0.{attention}.relative_attention_bias", buckets, heads)
        last = f"{path}.{len(names)}"
        yield from feed(s, last, side, index)
        yield from norm(f"{last}.layer_norm", width)
    yield from norm(f"{side}.final_layer_norm", width)


def _longt5_side(s: Settings, side: str) -> Named:
    """T5, whose encoder attends to what is near, and may attend to summaries of the rest."""
    if side == "decoder":
        yield from t5_side(s, side)
        return
    summaries = s.value("encoder_attention_type") == "transient-global"
    name = "TransientGlobalSelfAttention" if summaries else "LocalSelfAttention"
    yield from t5_side(s, side, attention=name)
    for index in range(s.size("num_layers")) if summaries else ():
        path = f"encoder.block.{index}.layer.0.{name}"
        yield from norm(f"{path}.global_input_layer_norm", s.size("d_model"))
        if index == 0:
            buckets = s.size("relative_attention_num_buckets")
            yield from embedding(f"{path}.global_relative_attention_bias", buckets, s.size("num_heads"))


def _switch_feed(s: Settings, path: str, side: str, index: int) -> Named:
    """T5's feed-forward block, or in every so many layers several, of which a router chooses one."""
    width, inner = s.size("d_model"), s.size("d_ff")
    layers = (s.optional_size("num_decoder_layers") if side == "decoder" else None) or s.size("num_layers")
    sparse = s.count(f"num_sparse_{side}_layers")
    saved = s.value(f"{side}_sparse_step")
    step = saved if type(saved) is int else layers // sparse if sparse else layers
    if step and (step == 1 or index % step == 1):
        yield from linear(f"{path}.mlp.router.classifier", s.size("num_experts"), width, bias=s.flag("router_bias"))
        blocks = [f"{path}.mlp.experts.expert_{number}" for number in range(s.size("num_experts"))]
    else:
        blocks = [f"{path}.mlp"]
    for block in blocks:
        yield from linear(f"{block}.wi", inner, width)
        yield from linear(f"{block}.wo", width, inner)


def _t5(side_of: Callable[[Settings, str], Named] = t5_side, names: Mapping[str, str] = _T5_NAMES) -> Build:
    def build(raw: Settings, head: Head) -> Named:
        s = raw.aliased(names)
        width = s.size("d_model")
        before = "transformer." if head in ("sequence-classification", "token-classification") else ""
        yield from embedding(f"{before}shared", s.vocab, width)
        for side in ("encoder",) if head == "token-classification" else ("encoder", "decoder"):
            for path, module in side_of(s, side):
                yield before + path, module
        match head:
            case "causal-lm" | "seq2seq":
                yield from linear("lm_head", s.vocab, width)
            case "sequence-classification":
                yield from linear("classification_head.dense", width, width, bias=True)
                yield from linear("classification_head.out_proj", s.labels(), width, bias=True)
            case "token-classification":
                yield from linear("classifier", s.labels(), width, bias=True)
            case "question-answering":
                yield from linear("qa_outputs", s.labels(), width, bias=True)
            case "none":
                return

    return build


def _pix2struct(s: Settings, _head: Head) -> Named:
    (text, modules), (vision, _) = _PIX_TEXT_PART.of(s), _PIX_VISION_PART.of(s)
    sizes = vision.size("d_kv"), vision.size("d_ff"), vision.size("seq_len")
    yield from below("encoder", pix2struct_visual(vision, *sizes))
    yield from below("decoder", modules(text))


def _pix2struct_text(s: Settings) -> Named:
    """T5's decoder under other names, with its head."""
    inner = s.size("d_ff")
    yield from embedding("embed_tokens", s.vocab, s.hidden)
    for index in range(s.size("num_layers")):
        path = f"layer.{index}"
        for name in ("self_attention", "encoder_decoder_attention"):
            yield from linear(f"{path}.{name}.attention", s.hidden, s.hidden, "query", "key", "value", "output")
            yield from norm(f"{path}.{name}.layer_norm", s.hidden)
        if index == 0:
            table = f"{path}.self_attention.attention.relative_attention_bias"
            yield from embedding(table, s.size("relative_attention_num_buckets"), s.size("num_heads"))
        yield from linear(f"{path}.mlp.DenseReluDense", inner, s.hidden, "wi_0", "wi_1")
        yield from linear(f"{path}.mlp.DenseReluDense.wo", s.hidden, inner)
        yield from norm(f"{path}.mlp.layer_norm", s.hidden)
    yield from norm("final_layer_norm", s.hidden)
    yield from linear("lm_head", s.vocab, s.hidden)


def _udop(s: Settings, head: Head) -> Named:
    """T5, whose sides embed patches too, and whose encoder knows where on the page a word stands."""
    s = s.aliased({"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"})
    width, positions = s.size("d_model"), s.size("max_2d_position_embeddings")
    patch = (width, s.size("num_channels"), *s.pair("patch_size"))
    # What the file says is gated does not count: the name of the activation decides.
    gated = str(s.value("feed_forward_proj")).startswith("gated-") if "is_gated_act" not in s.raw else None
    s = s if gated is None else s.with_fields(is_gated_act=gated)
    yield from embedding("shared", s.vocab, width)
    yield from conv("patch_embed.proj", patch, bias=True)
    for side in ("encoder", "decoder"):
        yield from t5_side(s, side)
        yield from conv(f"{side}.embed_patches.proj", patch, bias=True)
        for index, own in enumerate(_udop_buckets(s)):
            # In the class that writes, the first table is tied to that of the attention.
            buckets = s.size("relative_attention_num_buckets") if index == 0 and head != "none" else own
            yield from embedding(
                f"{side}.relative_bias.biases.{index}.relative_attention_bias", buckets, s.size("num_heads")
            )
    for name in ("x_position_embeddings", "y_position_embeddings"):
        yield from embedding(f"encoder.cell_2d_embedding.{name}", positions, width)
    if head != "none":
        yield from linear("lm_head", s.vocab, width)


def _udop_buckets(s: Settings) -> list[int]:
    """The number of buckets of each kind of relative position."""
    kinds = s.filled("relative_bias_args").value("relative_bias_args")
    found = []
    for kind in kinds if isinstance(kinds, list | tuple) else ():
        fields = Settings(kind if isinstance(kind, Mapping) else {}, "udop")
        more = 2 if fields.flag("prefix_bucket") and not fields.flag("expand") else 0
        found.append(fields.size("relative_attention_num_buckets") + more)
    return found


_PIX_NAMES = {
    **dict.fromkeys(("num_attention_heads", "decoder_attention_heads", "encoder_attention_heads"), "num_heads"),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "decoder_layers"), "num_layers"),
}
_PIX_TEXT_PART = fixed("text_config", Tower("pix2struct_text_model", _pix2struct_text), attribute_map=_PIX_NAMES)
_PIX_VISION_PART = fixed("vision_config", Tower("pix2struct_vision_model", lambda _: iter(())))

ARCHITECTURES: Architectures = {
    "t5": declared(_t5(), targets=("q", "v"), input_embedding="shared", encoder_decoder=True),
    "mt5": like("t5"),
    "umt5": declared(_t5(partial(t5_side, every_bias=True)), input_embedding="shared", encoder_decoder=True),
    "switch_transformers": declared(
        _t5(partial(t5_side, feed=_switch_feed), {name: _T5_NAMES[name] for name in _T5_NAMES if name != "head_dim"}),
        input_embedding="shared",
        encoder_decoder=True,
    ),
    "longt5": declared(_t5(_longt5_side), input_embedding="shared", encoder_decoder=True),
    "pix2struct": composite(_pix2struct),
    "udop": declared(_udop, input_embedding="shared"),
}
