"""The sandbox's chat completions: no model thinks here, so the answer says whose place it takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection
from typing import Any

from lora_packer.sandbox.answers import Refused, Request


def complete(request: Request, serving: Collection[str], unrouted: Collection[str] = ()) -> tuple[int, dict[str, Any]]:
    """Answer a question to a model that is deployed: ChatCompletionResponse of the service's openapi.yaml."""
    body = request.json("model")
    request.require(body, "model", "messages")
    messages = body["messages"]
    asked = messages[-1] if isinstance(messages, list) else None
    content = asked.get("content") if isinstance(asked, dict) else None
    if not isinstance(content, str):
        raise Refused(422, "messages must be a list of messages with content", param="messages")
    model = body["model"]
    if model in unrouted:
        raise Refused(503, f"no deployment of {model} receives traffic", "routing_error", code="routing_error")
    if model not in serving:
        # What the real service is reported to say for a model that has no endpoint.
        message = f"Unable to access non-serverless model {model}. Create a dedicated endpoint for it first."
        raise Refused(400, message, code="model_not_available")
    said = f"The sandbox answers for {model}: it has no GPU, but your question of {len(content)} characters arrived."
    usage = {"prompt_tokens": len(content.split()), "completion_tokens": len(said.split())}
    return 200, {
        "id": f"sandbox-{uuid.uuid4()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "prompt": [],
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said, "tool_calls": []}}
        ],
        "usage": {**usage, "total_tokens": sum(usage.values())},
    }
