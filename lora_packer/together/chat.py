"""One question to a deployed model through chat completions or completions, which both versions of the API share."""

from __future__ import annotations

from typing import Any

from lora_packer.errors import ServiceError
from lora_packer.redact import escape, scrub
from lora_packer.together import refusal
from lora_packer.together.answers import fields, number, objects, text
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose

_MAX_TEXT = 20_000  # characters


def complete(client: Client, model: str, prompt: str, asking: Asking, *, inference: bool = False) -> Answer:
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
    path = "/completions" if asking.completions else "/chat/completions"
    body = _body(model, prompt, asking)

    def post(body: dict[str, Any]) -> dict[str, Any]:
        return fields(client.request("POST", path, body, retry=True, purpose=purpose, inference=inference))

    try:
        answer = post(body)
    except ServiceError as error:
        if not asking.logprobs or error.status not in (400, 422) or "logprob" not in error.message.lower():
            raise
        answer = post({name: value for name, value in body.items() if name != "logprobs"})
    choice = next(iter(objects(answer.get("choices"))), {})
    message = fields(choice.get("message"))
    said = choice.get("text") if asking.completions else message.get("content")
    thought = message.get("reasoning") or message.get("reasoning_content")
    if not isinstance(said, str):
        if not isinstance(thought, str):
            raise refusal.without(purpose, answer, "holds no answer")
        said = ""  # the answer's tokens were all used for thinking
    tokens = number(fields(answer.get("usage")).get("completion_tokens"))
    return Answer(
        text=_shown(said),
        model=text(answer.get("model")) or model,
        finish_reason=text(choice.get("finish_reason")),
        tokens=None if tokens is None else int(tokens),
        reasoning=_shown(thought) if isinstance(thought, str) else "",
        logprobs=_logprobs(choice.get("logprobs")),
    )


def _body(model: str, prompt: str, asking: Asking) -> dict[str, Any]:
    """The request's body, as the vendor's SDK sends it: together 3.1.1, resources/chat/completions.py."""
    body: dict[str, Any] = {"model": model}
    if asking.completions:
        body["prompt"] = f"{asking.system}\n\n{prompt}" if asking.system else prompt
    else:
        system = [{"role": "system", "content": asking.system}] if asking.system else []
        body["messages"] = [*system, {"role": "user", "content": prompt}]
    body["max_tokens"] = asking.max_tokens
    if asking.temperature is not None:
        body["temperature"] = asking.temperature
    if asking.logprobs:
        body["logprobs"] = 1
    return body


def _shown(said: str) -> str:
    return "\n".join(escape(line, _MAX_TEXT) for line in scrub(said[:_MAX_TEXT]).splitlines())


def _logprobs(value: Any) -> tuple[float, ...] | None:
    """The log-probability of each token: a list of its own (together 3.1.1, types/log_probs.py), or one object a token,
    as others write it."""
    told = fields(value)
    each = told.get("token_logprobs")
    if not isinstance(each, list):
        each = [one.get("logprob") for one in objects(told.get("content"))]
    found = tuple(float(one) for one in each if isinstance(one, int | float) and not isinstance(one, bool))
    return found if found and len(found) == len(each) else None
