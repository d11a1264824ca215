"""What several commands share is declared once: names, choices and help agree, and a group comes back as it was given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from lora_packer.cli import build
from lora_packer.cli.common import Output, command
from lora_packer.cli.service_options import ApiVersion
from lora_packer.errors import InputError
from lora_packer.targets import NAMES
from lora_packer.together import CHOICES

Cli = Callable[..., Any]

# Where one name means another thing, or is needed by one command and not by another.
_OF_THEIR_OWN = {
    "output",  # of check: a report; of pack: an archive
    "receipt",  # to be written, or to be read
    "format",  # check has more of them
    "wait",  # for a job, or until an endpoint serves
    "delete",  # of an endpoint, or of a model
    "timeout",  # for a job or an endpoint, or until it has stopped
    "to",  # a Hub repository needs none
    "url-file",  # to be written, or to be read
    "model-name",  # of the object at the store, or at the service
    "base-model",  # the service needs one
}


def options() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for name, one in get_command(build()).commands.items():  # type: ignore[attr-defined]
        for parameter in one.params:
            if parameter.param_type_name == "option":
                found[parameter.opts[0].lstrip("-")].append((name, parameter))
    return found


def test_an_option_is_the_same_in_every_command() -> None:
    for option, places in options().items():
        if option not in _OF_THEIR_OWN:
            kinds = {(one.help, tuple(one.opts), one.metavar, repr(one.default), one.required) for _, one in places}
            assert len(kinds) == 1, (option, [name for name, _ in places])


@pytest.mark.parametrize("name", ["--format", "--quiet", "--verbose", "--no-color"])
def test_every_command_with_a_result_has_the_same_output_options(name: str) -> None:
    having = {command for command, _ in options()[name.removeprefix("--")]}
    assert having == set(get_command(build()).commands) - {"sandbox"}  # type: ignore[attr-defined]


def test_the_choices_are_what_there_is() -> None:
    assert [version.value for version in ApiVersion] == list(CHOICES)
    (_, target), *_ = options()["target"]
    assert {"together", "peft", "vllm"} <= set(NAMES)
    assert all(name in target.help for name in ("together", "peft", "vllm"))


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (("status", "job-1", "--api", "v9"), "'auto', 'v1', 'v2'"),
        (("check", ".", "--fail-on", "info"), "'error', 'warning'"),
        (("fix", ".", "--format", "xml"), "'text', 'json'"),
        (("check", ".", "--format", "xml"), "'text', 'json', 'sarif', 'junit', 'github'"),
    ],
)
def test_a_choice_that_is_none_names_those_there_are(cli: Cli, arguments: tuple[str, ...], choices: str) -> None:
    result = cli(*arguments)
    assert result.code == 2
    assert f"Invalid value for '{arguments[-2]}'" in result.err
    assert f"'{arguments[-1]}' is not one of {choices}." in result.err


@dataclass(frozen=True)
class Group:
    needed: Annotated[str, typer.Option("--needed")]
    number: Annotated[int, typer.Option("--number")] = 3


def call(*arguments: str) -> tuple[int, list[Any]]:
    """Run a command of one group, and return its exit code and what it was given."""
    seen: list[Any] = []
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)

    def function(*, first: Annotated[str, typer.Argument()], group: Group, last: bool = False, output: Output) -> None:
        seen.extend([first, group, last, output.is_text])
        if last:
            raise InputError("enough")

    function.__annotations__ = {"first": Annotated[str, typer.Argument()], "group": Group, "last": bool}
    function.__annotations__ |= {"output": Output, "return": None}
    app.command()(command(function))
    with pytest.raises(SystemExit) as end:
        app(list(arguments))
    return int(end.value.code or 0), seen


def test_a_group_is_spread_and_put_together_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("a", "--needed", "b") == (0, ["a", Group("b"), False, True])
    assert call("a", "--needed", "b", "--number", "4", "--format", "json")[1] == ["a", Group("b", 4), False, False]
    assert call("a")[0] == 2
    assert "Missing option '--needed'" in capsys.readouterr().err


def test_an_error_is_json_where_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("a", "--needed", "b", "--last")[0] == 2
    assert capsys.readouterr() == ("", "error: enough\n")
    assert call("a", "--needed", "b", "--last", "--format", "json")[0] == 2
    assert '"message": "enough"' in capsys.readouterr().out
