"""What a model answers, which both versions of the API tell alike."""

from __future__ import annotations

from typing import Any

from lora_packer.redact import escape, scrub
from lora_packer.together import refusal
from lora_packer.together.answers import count, fields, objects, text
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.refusal import Purpose

_MAX_TEXT = 20_000  # characters
_LARGEST = 1e9  # of a logarithm of a probability; JSON can name whole numbers that are too large to be calculated with


def answer_in(answer: Any, model: str, asking: Asking, purpose: Purpose) -> Answer:
    """Return what the model said, escaped line by line. Raises ServiceError where it said nothing."""
    item = fields(answer)
    choice = next(iter(objects(item.get("choices"))), {})
    message = fields(choice.get("message"))
    said = choice.get("text") if asking.completions else message.get("content")
    thought = message.get("reasoning") or message.get("reasoning_content")
    if not isinstance(said, str):
        if not isinstance(thought, str):
            raise refusal.without(purpose, answer, "holds no answer")
        said = ""  # the answer's tokens were all used for thinking
    return Answer(
        text=_shown(said),
        model=text(item.get("model")) or model,
        finish_reason=text(choice.get("finish_reason")),
        tokens=count(fields(item.get("usage")).get("completion_tokens")),
        reasoning=_shown(thought) if isinstance(thought, str) else "",
        logprobs=_logprobs(choice.get("logprobs")),
    )


def _shown(said: str) -> str:
    return "\n".join(escape(line, _MAX_TEXT) for line in scrub(said[:_MAX_TEXT]).splitlines())


def _logprobs(value: Any) -> tuple[float, ...] | None:
    """The log-probability of each token: a list of its own (together 3.1.1, types/log_probs.py), or one object a token,
    as others write it."""
    told = fields(value)
    each = told.get("token_logprobs")
    if not isinstance(each, list):
        each = [one.get("logprob") for one in objects(told.get("content"))]
    found = tuple(float(one) for one in each if _is_finite(one))
    return found if found and len(found) == len(each) else None


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
