"""``ask``: questions to a deployed model, and whether its answers are as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.options import BaseModelOption
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import ApiOption, ApiVersion, Asked
from lora_packer.errors import InconclusiveError, SmokeTestError

if TYPE_CHECKING:
    from lora_packer.together import Smoke


@command
def ask(
    *,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, or the name of the model it serves.")
    ],
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask. May be left out with --prompts.")
    ] = None,
    asked: Asked,
    base_model: BaseModelOption = None,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Ask a deployed model, and judge its answers.

    Exits 7 where an answer is not as expected, or where the adapter seems to have no effect.
    """
    from lora_packer.together import run_smoke

    questions = asked.questions(prompt)
    with connected(output, api, endpoint) as (client, choice):
        if not questions.is_test:
            (only,) = questions.prompts
            answer = choice.api.ask(client, endpoint, only.text, questions.asking)
            if answer.finish_reason == "length":
                output.note(f"the answer was cut off at {questions.asking.max_tokens} tokens")
            output.detail(f"answered by {answer.model}")
            data = {"schema_version": 1, "api": choice.name, "answer": answer.to_dict()}
            output.result(answer.text, data, as_it_is=True)
            return
        smoke = run_smoke(
            choice.api,
            client,
            endpoint,
            questions,
            bases=lambda: (base_model,) if base_model else choice.api.base_names(client, endpoint),
            tell=output.detail,
        )
    data = {"schema_version": 1, "api": choice.name, "smoke": smoke.to_dict()}
    if len(smoke.trials) == 1:
        data["answer"] = smoke.trials[0].answer.to_dict()
    output.result(smoke_text(smoke), data)
    judge(smoke, output)


def smoke_text(smoke: Smoke) -> str:
    """Return what a test found, question by question, and the verdict as the last line."""
    from lora_packer.redact import escape

    lines = []
    for number, one in enumerate(smoke.trials, 1):
        lines.append(f"prompt {number:<3}{escape(one.prompt.text, 200)}")
        lines += _block("answer", one.answer.text)
        if one.met is not None:
            lines.append(f"expect    {'met' if one.met else 'NOT met'}: {escape(one.prompt.expect or '', 200)}")
        if one.base is not None:
            lines += _block("base", one.base.text)
            lines.append(f"differs   {one.difference}")
    return "\n".join([*lines, f"verdict   {smoke.summary}"])


def _block(name: str, text: str) -> list[str]:
    first, *rest = text.splitlines() or [""]
    return [f"{name:<10}{first}".rstrip(), *(f"          {line}" for line in rest)]


def judge(smoke: Smoke, output: Output) -> None:
    """Say what the verdict can and cannot prove; end with 7 where it failed, with 3 where it could not be had."""
    from lora_packer.together import LIMITS, PROOF

    if smoke.failures:
        error = SmokeTestError(" ".join(smoke.failures), hint=LIMITS if smoke.base else None)
    elif smoke.compare_base and smoke.base is None:
        missing = InconclusiveError(
            f"The adapter was not compared with its base model: {smoke.why_not}",
            hint="Say with --base-model by which name it can be asked, or deploy it too.",
        )
        if output.is_text:
            raise missing
        raise typer.Exit(missing.exit_code)
    else:
        if smoke.base:
            output.note(PROOF)
        return
    if output.is_text:
        raise error
    raise typer.Exit(error.exit_code)
