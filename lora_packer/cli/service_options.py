"""The options of commands that speak with the service."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.frozen import frozen

if TYPE_CHECKING:
    from lora_packer.together import Questions

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name as the upload printed it: account/name.")
]


@frozen
class Names:
    """What the service is told of a new adapter."""

    model_name: Annotated[
        str, typer.Option("--model-name", metavar="NAME", help="The new adapter's name, without the account's.")
    ]
    base_model: Annotated[
        str, typer.Option("--base-model", metavar="ID", help="The id under which the service hosts the base model.")
    ]
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="A description of the adapter.")
    ] = None


class ApiVersion(StrEnum):
    """The versions of the service's API."""

    auto = "auto"
    v1 = "v1"
    v2 = "v2"


@frozen
class Asked:
    """How a deployed model is asked, and how its answers are judged."""

    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="The system's message before each question.")
    ] = None
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", min=1, help="How long an answer may be, in tokens.")
    ] = 128
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", metavar="T", min=0, help="0 is the likeliest answer. Default: what the service has."
        ),
    ] = None
    completions: Annotated[
        bool,
        typer.Option(
            "--completions", help="Ask through completions: for a model without a chat template, the prompt as it is."
        ),
    ] = False
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="REGEX", help="Exit 7 where this is not found in the answer."),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Ask each line of this JSON Lines file (- is standard input): prompt, and expect.",
        ),
    ] = None
    compare_base: Annotated[
        bool,
        typer.Option(
            "--compare-base",
            help="Ask the base model the same at temperature 0; exit 7 where it answers every prompt the same.",
        ),
    ] = False

    def questions(self, prompt: str | None) -> Questions:
        """Return what is asked. Raises InputError where nothing is, or it does not go together."""
        from dataclasses import replace

        from lora_packer.together import Asking, Prompt, Questions, read_prompts

        asked: tuple[Prompt, ...] = () if prompt is None else (Prompt(prompt, self.expect),)
        listed = () if self.prompts is None else read_prompts(self.prompts)
        asked += tuple(replace(one, expect=self.expect) if one.expect is None else one for one in listed)
        asking = Asking(self.system, self.max_tokens, self.temperature, self.completions)
        return Questions(asked, asking, self.compare_base)

    @property
    def is_used(self) -> bool:
        """Whether anything beside a question was asked for."""
        return self != Asked()


AttachOption = Annotated[
    str | None,
    typer.Option(
        "--attach",
        metavar="ENDPOINT|DEPLOYMENT",
        help="Attach the adapter to this endpoint or deployment of its base model, which runs already, instead of "
        "creating an endpoint.",
    ),
]
ApiOption = Annotated[
    ApiVersion,
    typer.Option("--api", help="The version of the service's API; auto is v2 where the key has a project, else v1."),
]
SkipOption = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Exit 0 where the model name exists and its upload is complete with the same bytes. Where they differ, or "
        "cannot be proven to be the same, it stays an error: exit 5.",
    ),
]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the job, like 60m or 2h.")
]
HardwareOption = Annotated[
    str | None,
    typer.Option("--hardware", metavar="ID", help="What to serve it on. Default: the cheapest that can be had."),
]
