"""How a command ends where it has no result: one sentence, an exit code of its own, and JSON where it was asked for.

Only a failed check ends in 1. A bug, a full disk and a standard output that is closed are no verdict: they end in 70.
"""

from __future__ import annotations

import errno
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from lora_packer.cli.help import Misuse, write_rows
from lora_packer.cli.plain_values import take_plain_values
from lora_packer.cli.settings import default_format, forget
from lora_packer.cli.streams import folded, is_stdout_closed, leave_stdout
from lora_packer.errors import InternalError, Interrupted, LoraPackerError, OutputError, UsageError
from lora_packer.files import is_no_room
from lora_packer.redact import escape, fit, inert, inert_json, scrub, without_own

NO_VERDICT = InternalError.exit_code
# What was typed behind `lora-packer`.
_given: ContextVar[tuple[str, ...]] = ContextVar("given", default=())


class Commands(TyperGroup):
    """The command line itself: it remembers what was typed, and tells a wrong command line as every other error."""

    def main(  # type: ignore[override]  # the rest goes on as it is
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run a command; ends in SystemExit."""
        given = tuple(sys.argv[1:] if args is None else args)
        _given.set(given)
        forget()
        extra["standalone_mode"] = False
        try:
            sys.exit(super().main(list(given), prog_name or "lora-packer", **extra) or 0)
        except typer.Abort:
            sys.exit(fail(Interrupted(), form=asked_form(given)))
        except Misuse as error:
            sys.exit(_misuse(error, given))
        except LoraPackerError as error:  # in the settings, before the command runs
            sys.exit(fail(error, form=asked_form(given)))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before a command."""
        take_plain_values(self.get_params(ctx), self.callback)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and then the commands, in a narrow terminal each below its name."""
        records = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
        with formatter.section("Options"):
            write_rows(formatter, [record for record in records if record is not None])
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write each command with its first sentence, whole."""
        rows = [(name, _first_sentence(self.commands[name].help or "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            write_rows(formatter, rows)


def _first_sentence(text: str) -> str:
    return f"{' '.join(text.split()).partition('. ')[0].rstrip('.')}."


def same_command() -> str:
    """Return the command line that runs, quoted for the shell."""
    return shlex.join(("lora-packer", *_given.get()))


def command_line(*words: str) -> str:
    """Return a command line of ours, quoted for the shell."""
    return shlex.join(("lora-packer", *words))


_FORMS = ("sarif", "junit", "github")  # of `check`


def asked_form(given: Sequence[str]) -> str:
    """Return the format that a command line asks for, which may be one that cannot be parsed; the last one counts."""
    options = given[: given.index("--")] if "--" in given else given
    words = [option.removeprefix("--format=") for option in options if option.startswith("--format=")]
    words += [after for option, after in pairwise(options) if option == "--format"]
    last = words[-1] if words else default_format()
    return last if last == "json" or (last in _FORMS and given[0] == "check") else "text"


def fail(error: LoraPackerError, *, form: str) -> int:
    """Tell an error, in the format that was asked for too, and return the exit code that it has."""
    message, hint = fit(error.message), fit(error.hint) if error.hint else None
    if form in _FORMS and not isinstance(error, OutputError):
        from lora_packer.report.formats import render_error

        with suppress(OutputError):
            print_result(render_error(form, error), as_it_is=True)
    if form == "json" and not isinstance(error, OutputError):
        body = {"type": type(error).__name__, "message": message, "hint": hint, "exit_code": error.exit_code}
        report = getattr(error, "report", None)
        checked = {"check": report.to_dict()} if report is not None else {}
        with suppress(OutputError):
            print_result(inert_json(json.dumps({"schema_version": 1, "error": body, **checked}, indent=2)))
    if message:
        label = "" if isinstance(error, Interrupted) else "error: "
        told = f"{label}{message}\n" + "".join(f"  {line}\n" for line in (hint or "").splitlines())
        sys.stderr.write(folded(told, sys.stderr))
    return error.exit_code


def _misuse(error: Any, given: Sequence[str]) -> int:
    """Tell a command line that the parser does not take, and return the exit code."""
    if not given:  # it is the help that is raised
        error.show()
        return UsageError.exit_code
    message = error.format_message().replace("Value error, ", "")
    message = f"{message[:1].upper()}{message[1:]}".rstrip(".")
    where = error.ctx.command_path.split()[1:] if error.ctx is not None else list(given[:1])
    hint = "`lora-packer --help` lists the commands."
    if where and not where[0].startswith("-"):
        hint = f"`{command_line(where[0], '--help')}` has every option."
    return fail(UsageError(message if message.endswith("?") else f"{message}.", hint=hint), form=asked_form(given))


def crash(error: Exception, *, form: str) -> int:
    """Tell what nobody raised on purpose, and return the exit code: no verdict on anything."""
    if isinstance(error, OSError) and error.errno == errno.EBADF and is_stdout_closed():
        return fail(OutputError.because(error), form="text")
    if isinstance(error, OSError) and is_no_room(error):
        place = f" '{escape(error.filename)}'" if isinstance(error.filename, str) else ""
        return fail(OutputError(f"There is no room to write{place}: {error.strerror}."), form=form)
    if isinstance(error, MemoryError):
        return fail(InternalError("There is not enough memory for this."), form=form)
    import traceback

    sys.stderr.write(inert(scrub(without_own(traceback.format_exc()))))
    what = f"{type(error).__name__}: {escape(str(error))}"
    return fail(
        InternalError(
            f"This is a bug in lora-packer, and no verdict on what was given ({what}).",
            hint="Report it with the lines above.",
        ),
        form=form,
    )


def print_result(text: str, *, as_it_is: bool = False) -> None:
    """Write to standard output. Raises OutputError where that is closed or full; nothing is written there then.

    No line of it is one that a CI system takes for a command, unless it is meant to be: ``as_it_is``.
    """
    told = without_own(text, in_urls=False)
    try:
        sys.stdout.write(f"{told if as_it_is else inert(told)}\n")
        sys.stdout.flush()
    except OSError as error:
        leave_stdout()
        raise OutputError.because(error) from None


def end(code: int) -> NoReturn:
    """Leave with an exit code."""
    leave_stdout()
    sys.exit(code)
