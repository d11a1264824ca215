"""The base model's vocabulary and the adapter's: LP318 where their sizes differ, LP209 where a token id has no row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from lora_packer.adapter.config import CONFIG_NAME
from lora_packer.adapter.keys import WEIGHTS_NAME
from lora_packer.finding import Finding, Severity
from lora_packer.inspector.case import Case
from lora_packer.inspector.rules.rule import Effect, Rule
from lora_packer.targets import Target

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
    "PEFT raises a size mismatch on the base as it is, and nobody can resize what a service hosts. It is an error for "
    "a target that is known to refuse it, and a warning for one that says nothing about it.",
    "Merge the adapter into the resized base and upload that as a model, or train without new tokens: with "
    "trainable_token_indices on ids that the base has already.",
    needs="base",
    explains=(Effect("LP320"),),
    retold=", vocabulary {actual} instead of {expected}",
)

# What a target's data calls it.
_FEATURE = "resized_vocabulary"

# Added tokens make a vocabulary larger, those of another language by three quarters (Chinese-LLaMA: 32,000 to 55,296).
# Above twice it is another base model's.
_LARGEST_GROWTH = 2

# How far trained tokens may lie behind the vocabulary of a base model that may have been resized.
_NEW_TOKENS = 1.25


def vocabularies_disagree(sizes: Mapping[int, Sequence[str]], vocabulary: int) -> Finding:
    """Return that the file's embeddings have several sizes; ``sizes``: each with the tensors that have it."""
    shown = sorted(sizes)
    message = f"the file's embeddings have different vocabularies: {', '.join(map(str, shown[:4]))}"
    size = next(size for size in sizes if size != vocabulary)
    return _resized(message, "error", sizes[size], size, vocabulary)


def resized_vocabulary(names: Sequence[str], size: int, vocabulary: int) -> Finding:
    """Return that these tensors show another vocabulary than the base model's."""
    if size < vocabulary:
        message = f"the adapter was trained with a vocabulary of {size}, smaller than the base model's {vocabulary}"
        return _resized(message, "error", names, size, vocabulary)
    if size > vocabulary * _LARGEST_GROWTH:
        cannot = f"{vocabulary} of this base model cannot have grown to it"
        message = f"the adapter was trained with a vocabulary of {size}; {cannot}"
        return _resized(message, "error", names, size, vocabulary)
    message = f"the adapter was trained on a base resized from {vocabulary} to {size} tokens"
    return _resized(message, None, names, size, vocabulary)


def _resized(message: str, severity: Severity | None, names: Sequence[str], size: int, vocabulary: int) -> Finding:
    details = {"file": WEIGHTS_NAME, "tensors": names, "expected": vocabulary, "actual": size}
    return RESIZED_VOCABULARY.finding(message, severity=severity, **details)


def at_target(finding: Finding, target: Target, hosted: str | None) -> Finding:
    """Return a finding as the target has it: a grown vocabulary is an error where that is known to refuse it.

    Who hosts the base alone can resize it; else the next step is to do so before the adapter is loaded.
    """
    if finding.code != RESIZED_VOCABULARY.code or finding.severity != "warning":
        return finding
    stake = "PEFT raises a size mismatch on the base as it is"
    if hosted is not None:
        stake += ", and a service's base cannot be resized"
    hint = finding.hint
    refused = target.fact(_FEATURE).effect in ("rejected", "crash")
    if hosted is None and refused:
        resize = f"Call resize_token_embeddings({finding.actual}) on the base before the adapter is loaded"
        hint = f"{resize}, and check it against the resized base's config."
    severity: Severity = "error" if refused else "warning"
    return replace(finding, severity=severity, message=f"{finding.message}: {stake}", hint=hint)


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
