"""One question to a deployed model through chat completions, which both versions of the API share."""

from __future__ import annotations

from lora_packer.redact import escape, scrub
from lora_packer.together import refusal
from lora_packer.together.answers import fields, number, objects, text
from lora_packer.together.client import Client
from lora_packer.together.endpoints import Answer
from lora_packer.together.refusal import Purpose

MAX_TOKENS = 128
"""How long an answer may be, in tokens: that of the service's own example."""

_MAX_TEXT = 20_000  # characters


def complete(
    client: Client, model: str, prompt: str, *, max_tokens: int = MAX_TOKENS, inference: bool = False
) -> Answer:
    """Ask the model one question and return its answer, whose text is escaped line by line.

    ``inference`` sends it to the service's host for inference where it has one. The request may go out again after an
    overload: asking twice changes nothing. Raises ServiceError.
    """
    purpose = Purpose(
        action=f"ask {model}",
        hints={
            404: "Check the name, and that its endpoint serves: `lora-packer deploy` prints both.",
            400: "Check that the model is deployed: an adapter answers only while its endpoint serves.",
        },
    )
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    answer = fields(client.request("POST", "/chat/completions", body, retry=True, purpose=purpose, inference=inference))
    choice = next(iter(objects(answer.get("choices"))), {})
    said = fields(choice.get("message")).get("content")
    if not isinstance(said, str):
        raise refusal.without(purpose, answer, "holds no answer")
    tokens = number(fields(answer.get("usage")).get("completion_tokens"))
    lines = scrub(said[:_MAX_TEXT]).splitlines()
    return Answer(
        text="\n".join(escape(line, _MAX_TEXT) for line in lines),
        model=text(answer.get("model")) or model,
        finish_reason=text(choice.get("finish_reason")),
        tokens=None if tokens is None else int(tokens),
    )
