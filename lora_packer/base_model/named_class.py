"""The class that a base model's config names, and what that says: its head, and whether it only drafts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lora_packer.base_model.architecture import Head

_HEAD_OF_CLASS: Mapping[str, Head] = {
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "ForMaskedLM": "causal-lm",
    "ForCTC": "causal-lm",
    "ForConditionalGeneration": "seq2seq",
    "MarianMTModel": "seq2seq",
    "ForSequenceClassification": "sequence-classification",
    # It classifies with the language model's head; its names are a dialect.
    "ShieldGemma2ForImageClassification": "causal-lm",
    "ForImageClassification": "sequence-classification",
    "ForAudioClassification": "sequence-classification",
    "ForTokenClassification": "token-classification",
    "ForAudioFrameClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "EncoderModel": "encoder",
    "Model": "none",
}
# What classes are called that draft tokens for another model, whose model type their configs have: EAGLE, Medusa,
# multi-token prediction, and the like (vllm/model_executor/models/registry.py, _SPECULATIVE_DECODING_MODELS).
_DRAFTS = re.compile("(?i:eagle|medusa|draft|speculator)|MTP")


def head_of(config: Mapping[str, Any], default: Head = "causal-lm") -> Head:
    """The head that the config's ``architectures`` names, or the default where it names none."""
    named = class_named_by(config) or ""
    return next((head for suffix, head in _HEAD_OF_CLASS.items() if named.endswith(suffix)), default)


def class_named_by(config: Mapping[str, Any]) -> str | None:
    """Return the first of the config's ``architectures``, or None where it names none."""
    names = config.get("architectures")
    first = names[0] if isinstance(names, list) and names else None
    return first if isinstance(first, str) else None


def is_draft(name: str) -> bool:
    """Whether a class of this name drafts tokens for another model."""
    return _DRAFTS.search(name) is not None
