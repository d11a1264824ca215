"""What every command shares: options, output, and the one place that turns errors into sentences and exit codes."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, NoReturn, ParamSpec, TextIO, TypeVar

import typer

from lora_packer.errors import LoraPackerError
from lora_packer.redact import scrub

P = ParamSpec("P")
T = TypeVar("T")


class Format(StrEnum):
    """How a command prints its result."""

    text = "text"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say more about each step.")]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="No colours (also: NO_COLOR=1).")]
BaseModelOption = Annotated[
    str | None,
    typer.Option("--base-model", metavar="ID", help="The id under which the service hosts the base model."),
]
BaseConfigOption = Annotated[
    str | None,
    typer.Option(
        "--base-config",
        metavar="PATH_OR_HUB_ID",
        help="The base model's config.json, a folder with one, or a Hub id. Default: the catalogue entry for "
        "--base-model, else what adapter_config.json names.",
    ),
]
TargetOption = Annotated[
    str, typer.Option("--target", metavar="NAME", help="The place that will load the adapter: together or peft.")
]

_COLORS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command prints: results on stdout, notes on stderr, one JSON object where JSON was asked for."""

    format: Format = Format.text
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False

    @property
    def is_text(self) -> bool:
        """Whether the result is text for a person."""
        return self.format is Format.text

    def result(self, text: str, data: dict[str, Any]) -> None:
        """Print the command's result: ``text``, or ``data`` as one JSON object."""
        if self.is_text:
            sys.stdout.write(text.rstrip("\n") + "\n")
        else:
            sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=True) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a line for the person at the terminal: what is being done, and what it proved."""
        if not self.quiet:
            sys.stderr.write(scrub(text) + "\n")
            sys.stderr.flush()

    def detail(self, text: str) -> None:
        """Print a line that only ``--verbose`` shows."""
        if self.verbose:
            self.note(text)

    def style(self, text: str, *names: str, stream: TextIO | None = None) -> str:
        """Return ``text`` in colour where the stream (default: stdout) is a terminal and colours are wanted."""
        target = stream or sys.stdout
        if self.no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not target.isatty():
            return text
        return f"\x1b[{';'.join(_COLORS[name] for name in names)}m{text}\x1b[0m"


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """Turn errors raised on purpose into a sentence and an exit code; let bugs keep their traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except LoraPackerError as error:
            _fail(error, as_json=kwargs.get("output_format") is Format.json)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise typer.Exit(130) from None

    return run


def _fail(error: LoraPackerError, *, as_json: bool) -> NoReturn:
    message, hint = scrub(error.message), scrub(error.hint) if error.hint else None
    if as_json:
        kind = type(error).__name__
        body = {"type": kind, "message": message, "hint": hint, "exit_code": error.exit_code}
        report = getattr(error, "report", None)
        checked = {"check": report.to_dict()} if report is not None else {}
        sys.stdout.write(json.dumps({"schema_version": 1, "error": body, **checked}, indent=2) + "\n")
    sys.stderr.write(f"error: {message}\n" + (f"  {hint}\n" if hint else ""))
    raise typer.Exit(error.exit_code)


def interrupt_on_sigterm() -> None:
    """Make SIGTERM unwind like Ctrl-C, so that nothing half-written stays behind."""

    def interrupt(_signum: int, _frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
