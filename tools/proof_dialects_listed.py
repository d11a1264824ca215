"""What ``tools/proof_dialects.py`` finds and is not to be mended, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Listed(NamedTuple):
    """A difference that stays.

    Attributes:
        types: the model types that have it.
        paths: what the paths match from some place on.
        why: why it stays.
        heads: the heads under which they have it, or none for all.
        releases: the releases that have it.
    """

    types: tuple[str, ...]
    paths: str
    why: str
    heads: tuple[str, ...] = ()
    releases: tuple[str, ...] = ("4.57", "4.51")


LISTED = (
    Listed(
        ("aria",),
        r"mlp\.(router|experts)",
        "AriaTextForCausalLM is loaded with an aria_text config, whose definition has the older experts",
        ("text-only",),
    ),
    Listed(
        ("gemma3n",),
        r"self_attn\.(k_proj|v_proj|k_norm\.weight)$",
        "Gemma3nForCausalLM is loaded with a gemma3n_text config, whose definition has what older layers kept unused",
        ("text-only",),
    ),
    Listed(
        ("speech_to_text",),
        r"embed_positions\.weights$",
        "the table of positions, which is computed, was a parameter without a gradient",
        releases=("4.51",),
    ),
    Listed(
        ("wav2vec2",),
        r"lm_head$",
        "transformers 4 had a masked class, which nothing trains, with a head that does not follow output_hidden_size",
        ("masked-lm",),
    ),
    Listed(
        ("gpt_oss",),
        r"mlp\.experts\.",
        "the flag that says (experts, in, out) came with transformers 5; PEFT before 0.19, which went with version "
        "4, swaps the axes of every 3-D parameter, and peft/expectation.py::Era has that layout",
    ),
    Listed(
        ("marian",),
        r"(decoder\.embed_tokens|lm_head)$",
        "with two vocabularies transformers 4 made the decoder's as large as the encoder's until it was resized; the "
        "checkpoints have the size that decoder_vocab_size says",
    ),
    Listed(
        ("udop",),
        r"(decoder\.embed_patches|relative_attention_bias)",
        "the decoder held no patches, which it never reads, and relative_bias_args had buckets of their own, which in "
        "the checkpoints are as many as the config's",
    ),
    Listed(
        ("llama4", "llama4_text"),
        r"self_attn\.[qkvo]_proj$",
        "transformers 4 overwrote attention_bias with false, which every Llama 4 has",
    ),
    Listed(
        ("lfm2", "lfm2_vl", "lfm2_moe"),
        r"feed_forward\.w\d|feed_forward\.wN$",
        "with block_ffn_dim_multiplier null transformers 4 did not round the width up; every LFM2 has a number",
    ),
    Listed(
        ("reformer",),
        r"lm_head\.decoder$",
        "the bias is a parameter of the head, of which the linear had a second name",
    ),
    Listed(("git",), r"img_temp[eo]ral_embedding", "a parameter that PEFT does not adapt was misspelt", (), ("4.51",)),
    Listed(
        ("esm",),
        r"embeddings\.position_embeddings$",
        "4.51 made them for rotary positions too, and read them for absolute ones alone",
        (),
        ("4.51",),
    ),
    Listed(
        ("qwen2_vl", "qwen2_5_vl"),
        r"^visual\.",
        "the bare class was the language model alone: what it has are the same names, and the tower is more",
        ("none",),
        ("4.51",),
    ),
)

# release -> model type -> why none of its models can be built there.
UNBUILT: Mapping[str, Mapping[str, str]] = {
    "4.57": dict.fromkeys(
        ("qwen3_vl_text", "qwen3_vl_moe_text"),
        "their class read rope_scaling, which is null unless the whole model's config fills it in: proven within that",
    )
}


def reason(release: str, model_type: str, head: str, path: str) -> str | None:
    """Return why a difference stays, or None."""
    for item in LISTED:
        held = release in item.releases and model_type in item.types and (not item.heads or head in item.heads)
        if held and re.search(item.paths, path):
            return item.why
    return None
