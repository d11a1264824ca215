"""What a deployed adapter answers, and whether that is what was expected, written into the receipt."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lora_packer.errors import InconclusiveError, SmokeTestError
from lora_packer.pipeline.notes import DONE_BEFORE
from lora_packer.pipeline.receipt import Receipt, timestamp
from lora_packer.pipeline.service import Run

if TYPE_CHECKING:
    from lora_packer.together import Questions, Smoke


def ask(run: Run, record: Receipt, questions: Questions) -> Receipt:
    """Ask the deployed adapter, unless the receipt has the answers.

    Raises ServiceError; SmokeTestError where an answer is not as expected or the adapter seems to have no effect, and
    InconclusiveError where the base model could not be asked, both after the receipt has them.
    """
    if questions.is_test:
        return _test(run, record, questions)
    (only,) = questions.prompts
    if (record.answer or {}).get("prompt") == only.text:
        run.note("ask", DONE_BEFORE)
        return record
    answer = run.api.ask(run.client, record.asked_name, only.text, questions.asking)
    run.note("ask", f"{answer.model} answered")
    return record.with_(answer={"prompt": only.text, **answer.to_dict(), "at": timestamp()})


def _test(run: Run, record: Receipt, questions: Questions) -> Receipt:
    """Judge the answers, and those of the base model where that is asked for."""
    from lora_packer.together import run_smoke

    asked = _asked(questions)
    earlier = record.smoke or {}
    if earlier.get("verdict") == "passed" and earlier.get("asked") == asked:
        run.note("ask", f"{DONE_BEFORE}: {earlier.get('summary')}")
        return record
    name, base = record.asked_name, record.base_model
    smoke = run_smoke(
        run.api,
        run.client,
        name,
        questions,
        bases=lambda: (*run.api.base_names(run.client, name), base),
        tell=lambda said: run.note("ask", said),
    )
    first = smoke.trials[0]
    record = record.with_(
        answer={"prompt": first.prompt.text, **first.answer.to_dict(), "at": timestamp()},
        smoke={**smoke.to_dict(receipt=True), "asked": asked, "at": timestamp()},
    )
    run.note("test", smoke.summary)
    _judge(smoke)
    return record


def _asked(questions: Questions) -> dict[str, Any]:
    """What a later run has to ask too, for this one's verdict to hold."""
    prompts = [{"sha256": one.digest, "expect": one.expect} for one in questions.prompts]
    return {**asdict(questions.asking), "prompts": prompts, "compare_base": questions.compare_base}


def _judge(smoke: Smoke) -> None:
    """Raise where the verdict is not that it passed."""
    from lora_packer.together import LIMITS

    if smoke.failures:
        raise SmokeTestError(" ".join(smoke.failures), hint=LIMITS if smoke.base else None)
    if smoke.compare_base and smoke.base is None:
        raise InconclusiveError(
            f"The adapter was not compared with its base model: {smoke.why_not}",
            hint="Deploy the base model too and ask again, or leave --compare-base out.",
        )
