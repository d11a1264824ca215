"""Qwen4: a gated delta rule, several residual streams and embeddings of n-grams; with and without a tower."""

from __future__ import annotations

from collections.abc import Iterator

from lora_packer.base_model.architecture import Architectures, declared
from lora_packer.base_model.blocks.attention import gated_attention
from lora_packer.base_model.blocks.composite import Tower
from lora_packer.base_model.blocks.experts import qwen_mixture
from lora_packer.base_model.blocks.frames import framed
from lora_packer.base_model.blocks.layers import chain, depthwise, embedding, linear, norm
from lora_packer.base_model.blocks.projectors import seeing_inside
from lora_packer.base_model.blocks.qwen_visual import qwen3_visual_without_deepstack
from lora_packer.base_model.blocks.recurrent import delta_net
from lora_packer.base_model.models.qwen.decoders import every_fourth
from lora_packer.base_model.module import Named
from lora_packer.base_model.settings import Settings
from lora_packer.errors import InputError

# A bound on the primes that a config can ask for; Qwen4 needs sixteen for a layer with embeddings of its own.
_MAX_HASHED_HEADS = 4096
# Enough for the Miller-Rabin test to be exact below 3.3e24 (https://oeis.org/A014233).
_WITNESSES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


def qwen4_exp(s: Settings) -> Named:
    """Qwen4's text decoder: several residual streams, and embeddings of n-grams on some layers."""
    streams = s.size("hc_count")
    attends = every_fourth(s)
    layers_with_embeddings = {layer - 1: place for place, layer in enumerate(sorted(s.indices("ple_layer_ids")))}
    rows = _hashed_rows(s, len(layers_with_embeddings))

    def mixer(prefix: str, *, injects: bool = True) -> Named:
        yield from norm(f"{prefix}.hc_norm", streams * s.hidden)
        yield from chain(
            prefix,
            (streams * s.hidden, s.size("hc_lowrank"), streams * s.hidden),
            "input_mix_weight_down",
            "input_mix_weight_up",
        )
        if injects:
            yield from linear(f"{prefix}.block_inject_weight", streams, streams * s.hidden)

    def embeddings(prefix: str, place: int) -> Named:
        width, heads = s.optional_size("ple_embed_dim") or s.hidden, _hashed_heads(s)
        yield from embedding(f"{prefix}.ple_embedding.ngram_embedding", rows[place], width // heads)
        yield from linear(f"{prefix}.key_proj", streams * s.hidden, width)
        yield from linear(f"{prefix}.value_proj", s.hidden, width)
        yield from norm(prefix, streams * s.hidden, "norm_key", "norm_query", "norm_conv")
        yield from depthwise(f"{prefix}.conv1d", streams * s.hidden, s.size("ple_conv_kernel_size"))

    def layer(prefix: str, index: int) -> Named:
        if attends(index) == "linear_attention":
            yield from delta_net(s, f"{prefix}.linear_attn", fused=False)
        else:
            yield from gated_attention(s, f"{prefix}.self_attn")
            path, size = f"{prefix}.self_attn.indexer", s.size("indexer_head_dim")
            yield from linear(
                f"{path}.index_qk_proj", (s.size("indexer_n_heads") + s.size("indexer_kv_heads")) * size, s.hidden
            )
            yield from norm(path, size, "q_layernorm", "k_layernorm")
        yield from qwen_mixture(s, f"{prefix}.mlp")
        if index in layers_with_embeddings:
            yield from embeddings(f"{prefix}.ple", layers_with_embeddings[index])
        yield from mixer(f"{prefix}.attn_hyper_connection")
        yield from mixer(f"{prefix}.mlp_hyper_connection")

    yield from embedding("embed_tokens", s.vocab, s.hidden)
    for index in range(s.layers):
        yield from layer(f"layers.{index}", index)
    yield from mixer("hyper_connection_mixer", injects=False)


def _hashed_heads(s: Settings) -> int:
    return (s.size("ngram_size") - 1) * s.size("heads_per_ngram")


def _hashed_rows(s: Settings, layers: int) -> list[int]:
    """The rows of each layer's embedding of n-grams: every hashed head has the next prime number of them."""
    if not layers:
        return []
    heads, divisor = _hashed_heads(s), s.size("make_ngram_vocab_size_divisible_by")
    if not 0 < heads * layers <= _MAX_HASHED_HEADS:
        raise InputError(
            f"the base config asks for {heads * layers} hashed n-gram heads; 1 to {_MAX_HASHED_HEADS} are read.",
            hint="Use the base model's own config.json.",
        )
    primes = _primes_from(s.size("ngram_vocab_size_base"))
    totals = [sum(next(primes) for _ in range(heads)) for _ in range(layers)]
    return [-(-total // divisor) * divisor for total in totals]


def _primes_from(number: int) -> Iterator[int]:
    while True:
        if _is_prime(number):
            yield number
        number += 1


def _is_prime(number: int) -> bool:
    """Whether a number is prime, by the Miller-Rabin test."""
    if number < 2 or any(number % prime == 0 for prime in _WITNESSES):
        return number in _WITNESSES
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    odd >>= twos

    def passes(witness: int) -> bool:
        power = pow(witness, odd, number)
        return power in (1, number - 1) or any(pow(power, 2**i, number) == number - 1 for i in range(1, twos))

    return all(passes(witness) for witness in _WITNESSES)


ARCHITECTURES: Architectures = {
    "qwen4_exp_text": declared(framed(qwen4_exp)),
    "qwen4_exp": seeing_inside("qwen4_exp_text", Tower("qwen4_exp_vision", qwen3_visual_without_deepstack)),
}
