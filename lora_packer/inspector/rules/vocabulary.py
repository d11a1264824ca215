"""The base model's vocabulary and the adapter's: LP318 where their sizes differ, LP209 where a token id has no row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lora_packer.adapter.config import CONFIG_NAME
from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.finding import Finding, Severity
from lora_packer.inspector.case import Case
from lora_packer.inspector.rules.rule import Effect, Rule

TOKEN_OUT_OF_RANGE = Rule(
    "LP209",
    "token-out-of-range",
    "error",
    "A trainable token id lies outside the base model's vocabulary.",
    "PEFT raises IndexError at load.",
    "Resize the base model's embeddings first, or correct trainable_token_indices.",
    needs="base",
)
RESIZED_VOCABULARY = Rule(
    "LP318",
    "resized-vocabulary",
    "warning",
    "The adapter was trained on a base with another vocabulary size.",
    "It loads only after resize_token_embeddings on the base; a service that hosts the plain base refuses it.",
    "Resize the base model first, or train without resizing.",
    needs="base",
    explains=(Effect("LP320"),),
    retold=", vocabulary {actual} instead of {expected}",
)

# Added tokens make a vocabulary larger, those of another language by three quarters (Chinese-LLaMA: 32,000 to 55,296).
# Above twice it is another base model's.
_LARGEST_GROWTH = 2

# How far trained tokens may lie behind the vocabulary of a base model that may have been resized.
_NEW_TOKENS = 1.25


def vocabularies_disagree(sizes: Mapping[int, str], vocabulary: int) -> Finding:
    """Return that the file's embeddings have several sizes; ``sizes``: each with a tensor that has it."""
    shown = sorted(sizes)
    message = f"the file's embeddings have different vocabularies: {', '.join(map(str, shown[:4]))}"
    size = next(size for size in sizes if size != vocabulary)
    return _resized(message, "error", sizes[size], size, vocabulary)


def resized_vocabulary(name: str, size: int, vocabulary: int) -> Finding:
    """Return that the tensor ``name`` shows another vocabulary than the base model's."""
    if size < vocabulary:
        message = f"the adapter was trained with a vocabulary of {size}, smaller than the base model's {vocabulary}"
        return _resized(message, "error", name, size, vocabulary)
    if size > vocabulary * _LARGEST_GROWTH:
        cannot = f"{vocabulary} of this base model cannot have grown to it"
        message = f"the adapter was trained with a vocabulary of {size}; {cannot}"
        return _resized(message, "error", name, size, vocabulary)
    message = f"the adapter was trained on a base resized from {vocabulary} to {size} tokens"
    return _resized(message, None, name, size, vocabulary)


def _resized(message: str, severity: Severity | None, name: str, size: int, vocabulary: int) -> Finding:
    details = {"file": WEIGHTS_NAME, "tensor": name, "expected": vocabulary, "actual": size}
    return RESIZED_VOCABULARY.finding(message, severity=severity, **details)


def tokens_out_of_range(case: Case) -> Iterator[Finding]:
    """Token ids past the vocabulary: of added tokens, or wrong.

    Where the embeddings were resized PEFT saves them with the adapter, so that their size shows; but not where the
    vocabulary's size stands in a nested config, which it does not read
    (peft/utils/save_and_load.py::get_peft_model_state_dict).
    """
    for path, tokens in case.expectation.bad_tokens.items():
        vocabulary = case.modules[path].weight_shape[0]
        message = f"token id {tokens[0]} lies outside the vocabulary of {vocabulary}"
        severity = None
        if case.base.vocabulary_is_nested and max(tokens) < _NEW_TOKENS * vocabulary:
            severity = "warning"
            message += "; the file does not show whether its embeddings were resized for training"
        details = {"file": CONFIG_NAME, "field": "trainable_token_indices", "count": len(tokens), "actual": tokens[0]}
        yield TOKEN_OUT_OF_RANGE.finding(message, severity=severity, **details)
