"""The sandbox's completions: no model thinks here, so the answer says whose place it takes."""

from __future__ import annotations

import time
import uuid
from typing import Any

from lora_packer.sandbox.answers import Refused, Request
from lora_packer.sandbox.serving import served
from lora_packer.sandbox.state import State


def complete(state: State, request: Request, *, chat: bool = True) -> tuple[int, dict[str, Any]]:
    """Answer a question to a model that is deployed: ChatCompletionResponse or CompletionResponse of the service's
    openapi.yaml. Raises Refused."""
    body = request.json("model")
    request.require(body, "model", "messages" if chat else "prompt")
    content = _asked(body) if chat else body["prompt"]
    if not isinstance(content, str):
        name = "messages" if chat else "prompt"
        raise Refused(
            422, f"{name} must be a list of messages with content" if chat else "prompt must be text", param=name
        )
    model = body["model"]
    if model in state.deployments.names(routed=False):
        raise Refused(503, f"no deployment of {model} receives traffic", "routing_error", code="routing_error")
    found = served(state).get(model)
    if found is None:
        # What the real service is reported to say for a model that has no endpoint.
        refusal = f"Unable to access non-serverless model {model}. Create a dedicated endpoint for it first."
        raise Refused(400, refusal, code="model_not_available")
    # Where adapters are ignored it is the base model's own text that comes, whatever was asked by which name.
    who = (found.base or found.model) if state.faults.ignores_adapters else model
    said = f"The sandbox answers for {who}: it has no GPU, but your question of {len(content)} characters arrived."
    words = said.split()
    usage = {"prompt_tokens": len(content.split()), "completion_tokens": len(words)}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice |= {"message": {"role": "assistant", "content": said, "tool_calls": []}} if chat else {"text": said}
    if body.get("logprobs"):
        choice["logprobs"] = {"tokens": words, "token_logprobs": [-len(word) / 100 for word in words]}
    return 200, {
        "id": f"sandbox-{uuid.uuid4()}",
        "object": "chat.completion" if chat else "text.completion",
        "created": int(time.time()),
        "model": model,
        "prompt": [],
        "choices": [choice],
        "usage": {**usage, "total_tokens": sum(usage.values())},
    }


def _asked(body: dict[str, Any]) -> Any:
    messages = body["messages"]
    asked = messages[-1] if isinstance(messages, list) else None
    return asked.get("content") if isinstance(asked, dict) else None
