"""One question to a deployed model through chat completions or completions, which both versions of the API share."""

from __future__ import annotations

from typing import Any

from lora_packer.errors import ServiceError
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.client import Client
from lora_packer.together.refusal import Purpose
from lora_packer.together.told_chat import answer_in


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

    def post(body: dict[str, Any]) -> Any:
        return client.request("POST", path, body, retry=True, purpose=purpose, inference=inference)

    try:
        answer = post(body)
    except ServiceError as error:
        if not asking.logprobs or error.status not in (400, 422) or "logprob" not in error.message.lower():
            raise
        answer = post({name: value for name, value in body.items() if name != "logprobs"})
    return answer_in(answer, model, asking, purpose)


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
