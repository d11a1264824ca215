"""Every option that several commands share, declared once; what goes together is a group that a command spreads.

A command takes a group as one parameter (``store: Store``), and ``common.command`` makes options of its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_packer.cli.settings import suppressions

if TYPE_CHECKING:
    from lora_packer.pipeline.check import CheckOptions
    from lora_packer.together import Questions

# --- what is named ---------------------------------------------------------------------------------------------------

AdapterArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADAPTER",
        help="A folder with PEFT's two files, a finished .zip or .tar.gz, or an address: hf://org/repo[@revision], "
        "s3://bucket/prefix/, s3://bucket/key.zip, or the https:// URL of an archive.",
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name as the upload printed it: account/name.")
]
BaseModelOption = Annotated[
    str | None,
    typer.Option("--base-model", metavar="ID", help="The id under which the service hosts the base model."),
]
BaseConfigOption = Annotated[
    str | None,
    typer.Option(
        "--base-config",
        metavar="PATH_OR_HUB_ID",
        help="The base model's config.json, a folder with one, or a Hub id. Default: that of --base-model, from "
        "the catalogue or the Hub; without --base-model, what adapter_config.json names.",
    ),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NAMES",
        help="Who will load it: together (default), peft, vllm, vllm@0.31.0, ...; commas or repeated; all is a table.",
    ),
]


@dataclass(frozen=True, slots=True)
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


# --- the check -------------------------------------------------------------------------------------------------------


class FailOn(StrEnum):
    """The severities at which a check can fail."""

    error = "error"
    warning = "warning"


@dataclass(frozen=True, slots=True)
class Against:
    """What an adapter is checked against, and by which rules."""

    base_config: BaseConfigOption = None
    target: TargetOption = None
    target_file: Annotated[
        Path | None,
        typer.Option(
            "--target-file",
            metavar="FILE",
            help="A server of your own as TOML: engine, version, max_rank, modules, dtypes, max_bytes.",
        ),
    ] = None
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="CODES", help="Only these rules (LP3 means all LP3xx).")
    ] = None
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these rules; commas or repeated.")
    ] = None
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="The severity at which the check fails: exit 1.")] = (
        FailOn.error
    )

    def arguments(self) -> dict[str, Any]:
        """Return it as the arguments of ``check``."""
        return {
            "base_config": self.base_config,
            "target": targets(self.target),
            "target_file": self.target_file,
            "select": _codes(self.select),
            "ignore": _codes(self.ignore),
            "suppress": suppressions(),
            "fail_on": "warning" if self.fail_on is FailOn.warning else "error",
        }


def targets(values: list[str] | None) -> str:
    """Return the targets as ``check`` takes them."""
    return "together" if values is None else ",".join(values)


def _codes(values: list[str] | None) -> list[str]:
    return [code for value in values or [] for code in value.replace(",", " ").split()]


@dataclass(frozen=True, slots=True)
class Many:
    """How many adapters are checked."""

    manifest: Annotated[
        str | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="Check what this CSV or JSON Lines file lists, too: adapter, and where given base_model, base_config, "
            "target. - is standard input.",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", min=1, help="How many at a time. Default: one for each processor."),
    ] = None
    executor: Annotated[
        str | None,
        typer.Option("--executor", metavar="URL", help="Check on a cluster: dask://host:port or ray://host:port."),
    ] = None


@dataclass(frozen=True, slots=True)
class CheckFirst(Against):
    """The check before something else."""

    no_check: Annotated[bool, typer.Option("--no-check", help="Go on without checking the adapter first.")] = False

    def of(self, base_model: str | None) -> CheckOptions:
        """Return how to check."""
        from lora_packer.pipeline.check import CheckOptions

        return CheckOptions(base_model=base_model, skip=self.no_check, **self.arguments())


ExtrasOption = Annotated[
    bool, typer.Option("--include-extras", help="Also pack what loaders use besides: README, tokenizer files.")
]


# --- the store -------------------------------------------------------------------------------------------------------


class Verify(StrEnum):
    """How much of the object the proof of a URL downloads."""

    ends = "ends"
    full = "full"


@dataclass(frozen=True, slots=True)
class Store:
    """A store, and how a URL for what is there is minted."""

    expires_in: Annotated[
        str, typer.Option("--expires-in", metavar="DURATION", help="How long the URL shall live: 100m to 7d.")
    ] = "12h"
    endpoint_url: Annotated[
        str | None, typer.Option("--endpoint-url", metavar="URL", help="The endpoint of an S3-compatible store.")
    ] = None
    allow_private_endpoint: Annotated[
        bool,
        typer.Option(
            "--allow-private-endpoint",
            help="Take an endpoint that the internet does not reach, or plain http, too: for a service of your own in "
            "the same network.",
        ),
    ] = False

    def place(self) -> dict[str, Any]:
        """Return the endpoint, as the publisher's functions take it."""
        return {"endpoint_url": self.endpoint_url, "allow_private_endpoint": self.allow_private_endpoint}


@dataclass(frozen=True, slots=True)
class MintedUrl:
    """What becomes of a URL that was minted."""

    verify: Annotated[
        Verify,
        typer.Option(
            "--verify", help="What the proof downloads: the first and last bytes, or everything, and hashes it."
        ),
    ] = Verify.ends
    url_file: Annotated[
        Path | None,
        typer.Option(
            "--url-file",
            metavar="FILE",
            help="Write the URL into this file, mode 0600; - is standard output, which then has the URL alone.",
        ),
    ] = None
    show_url: Annotated[
        bool, typer.Option("--show-url", help="Print the URL. It is a secret: whoever has it can download.")
    ] = False


# --- the service -----------------------------------------------------------------------------------------------------


class ApiVersion(StrEnum):
    """The versions of the service's API."""

    auto = "auto"
    v1 = "v1"
    v2 = "v2"


@dataclass(frozen=True, slots=True)
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
