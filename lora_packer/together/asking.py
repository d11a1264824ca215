"""A question to a model, and its answer."""

from __future__ import annotations

from typing import Any

from lora_packer.frozen import frozen

MAX_TOKENS = 128
"""How long an answer may be, in tokens: that of the service's own example."""


@frozen
class Asking:
    """How a question is asked.

    Attributes:
        system: what goes before the question as the system's message.
        max_tokens: how long an answer may be, in tokens.
        temperature: 0 is the likeliest answer each time; None is the service's own default.
        completions: whether to ask through completions instead of chat completions, which need a chat template.
        logprobs: whether to ask for the log-probabilities of the answer's tokens.
    """

    system: str | None = None
    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    completions: bool = False
    logprobs: bool = False


@frozen
class Answer:
    """What a model said to a prompt.

    Attributes:
        text: as it came, escaped line by line.
        model: who answered.
        finish_reason: why it ended there; None where not told.
        tokens: how many tokens it took; None where not told.
        reasoning: what it thought before, where the service tells that beside the answer.
        logprobs: the log-probability of each of its tokens; None where not told.
    """

    text: str
    model: str
    finish_reason: str | None = None
    tokens: int | None = None
    reasoning: str = ""
    logprobs: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON output has it."""
        told = {name: getattr(self, name) for name in ("text", "model", "finish_reason", "tokens")}
        return told | ({"reasoning": self.reasoning} if self.reasoning else {})
