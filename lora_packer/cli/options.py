"""Every option that several commands share, declared once; what goes together is a group that a command spreads.

A command takes a group as one parameter (``against: Against``), and ``common.command`` makes options of its fields.
Those of a store are in ``store_options.py``, those of the service in ``service_options.py``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_packer.cli.settings import suppressions
from lora_packer.frozen import frozen

if TYPE_CHECKING:
    from lora_packer.pipeline.check import CheckOptions

# --- what is named ---------------------------------------------------------------------------------------------------

AdapterArgument = Annotated[
    str,
    typer.Argument(
        metavar="ADAPTER",
        help="A folder with PEFT's two files, a finished .zip or .tar.gz, or an address: hf://org/repo[@revision], "
        "s3://bucket/prefix/, s3://bucket/key.zip, or the https:// URL of an archive.",
    ),
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


# --- the check -------------------------------------------------------------------------------------------------------


class FailOn(StrEnum):
    """The severities at which a check can fail."""

    error = "error"
    warning = "warning"


@frozen
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


@frozen
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


@frozen
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
