"""The command line: parse, call one function, render, exit code. No rule, no S3 and no HTTP lives here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lora_packer.cli import common

app = typer.Typer(
    name="lora-packer",
    help="Check a LoRA adapter against its base model, pack it, publish it to S3 and submit it to Together AI.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from lora_packer import __version__

        typer.echo(f"lora-packer {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Check a LoRA adapter against its base model, pack it, publish it to S3 and submit it to Together AI."""


def _register() -> None:
    """Add the commands. Their modules import nothing heavy: boto3, numpy and HTTP wait for the call that needs them."""


_register()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (the ``lora-packer`` console script)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    common.interrupt_on_sigterm()
    app(arguments)
