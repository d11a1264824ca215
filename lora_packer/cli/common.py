"""What every command is made with: its output, its options, and the one place where errors become exit codes."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, TextIO, get_type_hints

import typer

from lora_packer import __version__
from lora_packer.cli.ends import fail, print_result
from lora_packer.cli.settings import in_force
from lora_packer.cli.streams import folded
from lora_packer.errors import Interrupted, LoraPackerError
from lora_packer.frozen import frozen
from lora_packer.redact import fit, inert_json


class Format(StrEnum):
    """How a command prints its result."""

    text = "text"
    json = "json"


@frozen
class Configured:
    """Where options come from that are not given; ``help.Command`` reads it before they are."""

    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE", help="Read options from this TOML file instead of the project's; see the docs."
        ),
    ] = None
    isolated: Annotated[bool, typer.Option("--isolated", help="Read no options from any file.")] = False


class CheckFormat(StrEnum):
    """How ``check`` prints its result."""

    text = "text"
    json = "json"
    sarif = "sarif"
    junit = "junit"
    github = "github"


_COLORS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@frozen
class Output:
    """Where a command prints: results on stdout, notes on stderr, one JSON object where JSON was asked for."""

    format: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.text
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more: versions, details, how long it took.")] = (
        False
    )
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours, as with NO_COLOR=1; FORCE_COLOR=1 asks for them.")
    ] = False

    @property
    def is_text(self) -> bool:
        """Whether the result is text for a person."""
        return self.format.value == "text"

    @property
    def words(self) -> tuple[str, ...]:
        """The words that ask another command for the same output."""
        chosen = ("--quiet", self.quiet), ("--verbose", self.verbose), ("--no-color", self.no_color)
        form = () if self.is_text else ("--format", self.format.value)
        return (*form, *(word for word, is_given in chosen if is_given))

    def result(self, text: str, data: dict[str, Any], *, as_it_is: bool = False) -> None:
        """Print the command's result: ``text``, or ``data`` as one JSON object.

        On a terminal text is folded to its width, unless it is shown ``as_it_is``: what somebody else wrote.
        """
        if not self.is_text:
            print_result(inert_json(json.dumps(data, indent=2, ensure_ascii=True)))
            return
        told = text.rstrip("\n")
        print_result(told if as_it_is else folded(told, sys.stdout))

    def note(self, text: str) -> None:
        """Print a line for the person at the terminal: what is being done, and what it proved."""
        if not self.quiet:
            sys.stderr.write(folded(fit(text, styled=sys.stderr.isatty()), sys.stderr) + "\n")
            sys.stderr.flush()

    def detail(self, text: str) -> None:
        """Print a line that only ``--verbose`` shows."""
        if self.verbose:
            self.note(text)

    def style(self, text: str, *names: str, stream: TextIO | None = None) -> str:
        """Return ``text`` in colour where the stream (default: stdout) is a terminal and colours are wanted."""
        target = stream or sys.stdout
        if self.no_color or os.environ.get("NO_COLOR"):
            return text
        if not os.environ.get("FORCE_COLOR") and (os.environ.get("TERM") == "dumb" or not target.isatty()):
            return text
        return f"\x1b[{';'.join(_COLORS[name] for name in names)}m{text}\x1b[0m"


@frozen
class CheckOutput(Output):
    """Where ``check`` prints, and in which of its formats."""

    format: Annotated[
        CheckFormat,
        typer.Option(
            "--format",
            help="How to print the result: sarif is for code scanning, junit for a CI's tests, github for annotations.",
        ),
    ] = CheckFormat.text  # type: ignore[assignment]  # it takes more of them


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return a function as typer takes it: groups of options are spread, and errors become sentences.

    A parameter whose type is a dataclass is a group: each of its fields is an option of the command. What was raised on
    purpose is told in a sentence and ends in its exit code; bugs are left to ``main``.
    """
    spread: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and is_dataclass(kind):
            groups[parameter.name] = kind
            spread += _options(kind)
        else:
            spread.append(parameter)
    spread += _options(Configured)

    def run(**given: Any) -> None:
        _made(Configured, given)
        made = {name: _made(group, given) for name, group in groups.items()}
        output = next((group for group in made.values() if isinstance(group, Output)), Output())
        began = time.monotonic()
        if output.verbose:
            from lora_packer.http import proxy_words

            output.note(_versions())
            if settings := in_force():
                output.note(f"settings  {settings.where()}")
            if proxies := proxy_words():
                output.note(f"proxy     {proxies}")
        try:
            function(**given, **made)
        except LoraPackerError as error:
            raise typer.Exit(fail(error, form=output.format.value)) from None
        except KeyboardInterrupt:
            raise typer.Exit(fail(Interrupted(), form=output.format.value)) from None
        finally:
            output.detail(f"took {time.monotonic() - began:.1f} s")

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(spread)  # type: ignore[attr-defined]
    return run


def _versions() -> str:
    """What a report of a fault needs to say."""
    from importlib.metadata import version
    from platform import platform, python_version

    parts = ", ".join(f"{name} {version(name)}" for name in ("huggingface_hub", "boto3", "numpy"))
    return f"lora-packer {__version__}, Python {python_version()}, {parts}, {platform()}"


def _made(group: type[Any], given: dict[str, Any]) -> Any:
    """Take a group's values out of what was given, and return the group."""
    return group(**{item.name: given.pop(item.name) for item in fields(group)})


@cache
def _options(group: type[Any]) -> tuple[inspect.Parameter, ...]:
    """The fields of a group as parameters; to evaluate their types takes a tenth of a start, were it done each time."""
    hints = get_type_hints(group, include_extras=True)
    return tuple(
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if item.default is MISSING else item.default,
            annotation=hints[item.name],
        )
        for item in fields(group)
    )
