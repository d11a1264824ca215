"""A first test of a deployed adapter: are its answers as expected, and is the adapter in effect at all?

A service can answer 200 with the base model's own text. So the base model is asked the same, always for the likeliest
answer (temperature 0), and what both say is compared.

- No difference on any prompt is an alarm: the adapter seems not to be in effect. It may also be that the adapter
  changes nothing on these prompts.
- A difference shows that something else than the base model answers. It does not show that the adapter is the right
  one, and a base that is served on other hardware or in another precision may differ by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lora_packer.errors import InputError, ServiceError
from lora_packer.frozen import frozen
from lora_packer.redact import escape
from lora_packer.together.asking import Answer, Asking
from lora_packer.together.client import Client
from lora_packer.together.endpoints import EndpointApi
from lora_packer.together.questions import Prompt, Questions

SAME_LOGPROB = 0.01
"""Up to this much a token's log-probability may differ and still count as the same: two servers of one model round
differently. The number is this project's own."""

PASSED, FAILED, NOT_COMPARED = "passed", "failed", "not compared"


@frozen
class Trial:
    """One question and what came of it.

    Attributes:
        prompt: the question.
        answer: the adapter's answer.
        met: whether it is as expected; None where nothing is.
        base: the base model's answer; None where it was not asked.
        shift: the greatest difference of a token's log-probability; None where the two cannot be compared.
    """

    prompt: Prompt
    answer: Answer
    met: bool | None = None
    base: Answer | None = None
    shift: float | None = None

    @property
    def differs(self) -> bool | None:
        """Whether the base model says something else, or the same with another probability; None where not asked."""
        if self.base is None:
            return None
        same = _said(self.answer) == _said(self.base)
        return not same or (self.shift is not None and self.shift > SAME_LOGPROB)

    @property
    def difference(self) -> str:
        """What differs, in words."""
        if self.base is None:
            return "not compared"
        if _said(self.answer) != _said(self.base):
            return "another text"
        if self.shift is None:
            return "none: the same text (log-probabilities are not told)"
        if self.shift > SAME_LOGPROB:
            return f"the same text, log-probabilities differ by up to {self.shift:.3g}"
        return "none: the same text and the same log-probabilities"

    def to_dict(self, *, receipt: bool = False) -> dict[str, Any]:
        """Return it as the JSON output has it; a receipt has the prompt's digest only."""
        asked = (
            {"sha256": self.prompt.digest} if receipt else {"prompt": self.prompt.text, "sha256": self.prompt.digest}
        )
        return asked | {
            "answer": self.answer.text,
            "finish_reason": self.answer.finish_reason,
            "expect": self.prompt.expect,
            "met": self.met,
            "base_answer": self.base.text if self.base else None,
            "differs": self.differs,
            "difference": self.difference,
            "logprob_shift": self.shift,
        }


@frozen
class Smoke:
    """What a test found.

    Attributes:
        model: who was asked.
        trials: each question and what came of it.
        compare_base: whether the base model should be asked too.
        base: by which name it was; None where it was not.
        why_not: why it could not be asked; empty where it was.
    """

    model: str
    trials: tuple[Trial, ...]
    compare_base: bool = False
    base: str | None = None
    why_not: str = ""

    @property
    def verdict(self) -> str:
        """``passed``, ``failed`` or ``not compared``."""
        if self.failures:
            return FAILED
        return NOT_COMPARED if self.compare_base and self.base is None else PASSED

    @property
    def failures(self) -> tuple[str, ...]:
        """What is not as it should be, one sentence each."""
        found = [
            f"The answer to prompt {number} is not what is expected: nothing in it matches "
            f"'{escape(one.prompt.expect or '', 100)}'."
            for number, one in enumerate(self.trials, 1)
            if one.met is False
        ]
        if self.base is not None and not any(one.differs for one in self.trials):
            found.append(f"The adapter seems not to be in effect: {self.base} answers every prompt the same.")
        return tuple(found)

    @property
    def summary(self) -> str:
        """The verdict with what it rests on, in words."""
        parts = []
        expected = [one.met for one in self.trials if one.met is not None]
        if expected:
            parts.append(f"{sum(expected)} of {len(expected)} answers as expected")
        if self.base is not None:
            differing = sum(bool(one.differs) for one in self.trials)
            parts.append(f"{differing} of {len(self.trials)} differ from what {self.base} says")
        elif self.compare_base:
            parts.append(f"the base model was not compared: {self.why_not}")
        return f"{self.verdict}: {'; '.join(parts)}" if parts else self.verdict

    def to_dict(self, *, receipt: bool = False) -> dict[str, Any]:
        """Return it as the JSON output has it; a receipt has the prompts' digests only."""
        return {
            "model": self.model,
            "base": self.base,
            "verdict": self.verdict,
            "summary": self.summary,
            "failures": list(self.failures),
            "not_compared": self.why_not or None,
            "prompts": [one.to_dict(receipt=receipt) for one in self.trials],
        }


LIMITS = (
    "The service may serve the base model alone, or the adapter changes nothing on these prompts: ask about what it "
    "was trained on."
)
"""What an alarm can mean."""

PROOF = (
    "A difference shows that more than the base model answers; it does not show that the adapter is the right one, and "
    "a base on other hardware may differ by itself."
)
"""What a difference proves and what not."""


def run_smoke(
    api: EndpointApi,
    client: Client,
    name: str,
    questions: Questions,
    *,
    bases: Callable[[], Sequence[str]] = tuple,
    tell: Callable[[str], None] = lambda _: None,
) -> Smoke:
    """Ask a deployed adapter every question, and its base model the same where that is asked for.

    ``bases`` returns by which names the base model may be asked; the first that answers is taken. That none does is no
    error, but told in the result. Raises ServiceError where the adapter does not answer.
    """
    asking = questions.asking
    if questions.compare_base:
        asking = replace(asking, temperature=0.0, logprobs=True)
    trials = []
    asked = api.asked_name(client, name)  # looked up once, not for each prompt
    for prompt in questions.prompts:
        answer = api.ask(client, asked, prompt.text, _for(prompt, asking))
        tell(f"{answer.model} answered")
        trials.append(Trial(prompt, answer, prompt.is_met(answer)))
    if not questions.compare_base:
        return Smoke(name, tuple(trials))
    try:
        names = [one for one in dict.fromkeys(bases()) if one not in (name, asked)]
    except ServiceError as error:
        return Smoke(name, tuple(trials), True, why_not=error.message)
    if not names:
        return Smoke(name, tuple(trials), True, why_not="it is not known by which name the base model is asked")
    return _compared(api, client, name, trials, names, asking, tell)


def _compared(
    api: EndpointApi,
    client: Client,
    name: str,
    trials: Sequence[Trial],
    names: Sequence[str],
    asking: Asking,
    tell: Callable[[str], None],
) -> Smoke:
    refusals = []
    for base in names:
        try:
            found = []
            for one in trials:
                answer = api.ask(client, base, one.prompt.text, _for(one.prompt, asking))
                tell(f"{base}, the base model, answered")
                found.append(replace(one, base=answer, shift=_shift(one.answer, answer)))
            return Smoke(name, tuple(found), True, base)
        except (ServiceError, InputError) as error:
            refusals.append(error.message)
    return Smoke(name, tuple(trials), True, why_not=" ".join(refusals))


def _for(prompt: Prompt, asking: Asking) -> Asking:
    return replace(asking, system=prompt.system) if prompt.system is not None else asking


def _said(answer: Answer) -> tuple[str, str]:
    return answer.reasoning.strip(), answer.text.strip()


def _shift(ours: Answer, theirs: Answer) -> float | None:
    """The greatest difference of a token's log-probability; None where the two say something else or tell none."""
    if ours.logprobs is None or theirs.logprobs is None or _said(ours) != _said(theirs):
        return None
    if len(ours.logprobs) != len(theirs.logprobs):
        return None
    return max((abs(one - other) for one, other in zip(ours.logprobs, theirs.logprobs, strict=True)), default=None)
