"""Every option that several commands share, declared once; what goes together is a group that a command spreads.

A command takes a group as one parameter (``store: Store``), and ``common.command`` makes options of its fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lora_packer.pipeline.check import CheckOptions

# --- what is named ---------------------------------------------------------------------------------------------------

AdapterArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADAPTER",
        help="A folder with PEFT's two files, a finished .zip or .tar.gz, or hf://org/repo[@revision].",
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name as the upload printed it: account/name.")
]
BaseModelOption = Annotated[
    str | None,
    typer.Option("--base-model", metavar="ID", help="The id under which the service hosts the base model."),
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
    """What an adapter is checked against."""

    base_config: Annotated[
        str | None,
        typer.Option(
            "--base-config",
            metavar="PATH_OR_HUB_ID",
            help="The base model's config.json, a folder with one, or a Hub id. Default: the catalogue entry for "
            "--base-model, else what adapter_config.json names.",
        ),
    ] = None
    target: Annotated[
        str,
        typer.Option("--target", metavar="NAME", help="The place that will load the adapter: together or peft."),
    ] = "together"


@dataclass(frozen=True, slots=True)
class CheckFirst(Against):
    """The check before something else."""

    no_check: Annotated[bool, typer.Option("--no-check", help="Insist: go on without checking the adapter first.")] = (
        False
    )

    def of(self, base_model: str | None) -> CheckOptions:
        """Return how to check."""
        from lora_packer.pipeline.check import CheckOptions

        return CheckOptions(self.base_config, base_model, self.target, skip=self.no_check)


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


ApiOption = Annotated[
    ApiVersion,
    typer.Option("--api", help="The version of the service's API; auto is v2 where the key has a project, else v1."),
]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the job, like 60m or 2h.")
]
HardwareOption = Annotated[
    str | None,
    typer.Option("--hardware", metavar="ID", help="What to serve it on. Default: the cheapest that can be had."),
]
