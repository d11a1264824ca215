"""``ask``: one question to a deployed model."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.options import ApiOption, ApiVersion
from lora_packer.cli.service import connected


@command
def ask(
    *,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="The endpoint's id, or the name of the model it serves.")
    ],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask.")],
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """Ask a deployed model one question and print the answer (at most 128 tokens)."""
    with connected(output, api, endpoint) as (client, choice):
        answer = choice.api.ask(client, endpoint, prompt)
    if answer.finish_reason == "length":
        output.note("the answer was cut off at 128 tokens")
    output.detail(f"answered by {answer.model}")
    output.result(answer.text, {"schema_version": 1, "api": choice.name, "answer": answer.to_dict()})
