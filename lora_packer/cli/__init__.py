"""The command line: parse, call one function, render, exit code. No rule, no S3 and no HTTP lives here."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from lora_packer.cli import ends, streams
from lora_packer.cli.help import Command, help_width
from lora_packer.cli.settable import Settable, settable
from lora_packer.errors import Interrupted


def _version(value: bool) -> None:
    if value:
        from lora_packer import __version__

        typer.echo(f"lora-packer {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Check a LoRA adapter against its base model, pack it, publish it to S3 and submit it to Together AI."""


# Command -> (module below lora_packer.cli, function), in the order of the help.
COMMANDS = {
    "check": ("check", "check"),
    "fix": ("fix", "fix"),
    "diff": ("diff", "diff"),
    "pack": ("pack", "pack"),
    "publish": ("publish", "publish"),
    "presign": ("presign", "presign"),
    "submit": ("submit", "submit"),
    "status": ("status", "status"),
    "wait": ("status", "wait"),
    "hardware": ("hardware", "hardware"),
    "deploy": ("deploy", "deploy"),
    "ask": ("ask", "ask"),
    "stop": ("stop", "stop"),
    "models": ("models", "models"),
    "endpoints": ("endpoints", "endpoints"),
    "release": ("release", "release"),
    "verify": ("verify", "verify"),
    "identify": ("identify", "identify"),
    "rule": ("rule", "rule"),
    "sandbox": ("sandbox", "sandbox"),
}


def _every_option() -> dict[str, dict[str, Settable]]:
    """Return the options of every command."""
    found = {}
    for name, (module, function) in COMMANDS.items():
        found[name] = settable(getattr(import_module(f"lora_packer.cli.{module}"), function))
    return found


def build(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the command line with these commands; each takes its share of the start-up time."""
    app = typer.Typer(
        name="lora-packer",
        help="Check a LoRA adapter against its base model, pack it, publish it to S3 and submit it to Together AI.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "terminal_width": help_width(), "obj": _every_option},
        cls=ends.Commands,
    )
    app.callback()(root)
    for name in names:
        module, function = COMMANDS[name]
        app.command(name, cls=Command)(getattr(import_module(f"lora_packer.cli.{module}"), function))
    return app


# After how many new objects Python looks for cycles; a greater number saves nothing, not even with 140,000 tensors.
_NEW_OBJECTS = 200_000


def _spare() -> None:
    """Spare this process what it has no use for.

    - NumPy's BLAS starts threads that wait for work by spinning, and the products of --stats are too small for several:
      on a busy machine they took 2 minutes with all threads, and 8 seconds with one.
    - By default Python looks for cycles each time some hundreds of objects are new. A check makes hundreds of
      thousands, none of them in a cycle; the looking took a third of the time of a big one, and a twentieth of any
      start.
    - A thread that reads or hashes waits for Python's lock at each piece, while another one loads modules: by default
      5 ms, in which it could hash 7 MB. With half a millisecond 671 MB were published in 6.53 s instead of 6.63.
    - When Python ends it looks through all objects, which the system frees anyway: frozen ones it leaves out.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.setswitchinterval(0.0005)
    gc.set_threshold(_NEW_OBJECTS)
    gc.enable()
    atexit.register(gc.freeze)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line (the ``lora-packer`` console script); a bug prints its traceback and exits with 70."""
    given = sys.argv[1:] if arguments is None else arguments
    streams.open_standard_streams()
    _spare()
    stdout = sys.stdout
    try:
        commands = build(given[:1] if given and given[0] in COMMANDS else COMMANDS)
        streams.interrupt_on_signals()
        commands(given)
    except SystemExit:
        if sys.stdout is not stdout:  # typer found it closed, put something else in its place, and would end in 1
            ends.end(ends.NO_VERDICT)
        raise
    except KeyboardInterrupt:
        ends.end(ends.fail(Interrupted(), form=ends.asked_form(given)))
    except Exception as error:  # noqa: BLE001 - Python itself would exit with 1, which says that a check failed
        form = ends.asked_form(given)
        # Before 3.12 Python wraps what comes while a class is made (type_new_set_names in Objects/typeobject.c).
        is_interrupt = isinstance(error.__cause__, KeyboardInterrupt)
        ends.end(ends.fail(Interrupted(), form=form) if is_interrupt else ends.crash(error, form=form))
