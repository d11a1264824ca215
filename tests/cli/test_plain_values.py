"""A value that needs no conversion arrives as typer itself would hand it over, or is refused in typer's own words."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand

from lora_packer.cli.help import Command, Misuse


class Word(StrEnum):
    """What there is to choose from."""

    one = "one"
    two = "two"


def taking(
    name: Annotated[str, typer.Argument()],
    more: Annotated[list[str] | None, typer.Option("--more")] = None,
    place: Annotated[Path | None, typer.Option("--place")] = None,
    word: Annotated[Word, typer.Option("--word")] = Word.one,
    number: Annotated[int, typer.Option("--number", min=1)] = 128,
    share: Annotated[float | None, typer.Option("--share", min=0)] = None,
    flag: Annotated[bool, typer.Option("--flag")] = False,
) -> dict[str, Any]:
    """Return what was taken."""
    return dict(locals().items())


def taken(kind: type[TyperCommand], words: list[str]) -> Any:
    """What a command of this class makes of a command line, or the words of its refusal."""
    app = typer.Typer()
    app.command(cls=kind)(taking)
    try:
        made = typer.main.get_command(app).main(words, standalone_mode=False)
    except Misuse as error:
        return str(error)
    return {name: (type(value), value) for name, value in made.items()}


@pytest.mark.parametrize(
    "words",
    [
        ["a"],
        ["a", "--more", "b", "--more", "c"],
        ["a", "--place", "nowhere"],
        ["a", "--place", "."],
        ["a", "--place", "-"],
        ["a", "--place", ""],
        ["a", "--word", "two"],
        ["a", "--word", "one"],
        ["a", "--word", "TWO"],
        ["a", "--word", "three"],
        ["a", "--word", ""],
        ["a", "--number", "128"],
        ["a", "--number", "7"],
        ["a", "--number", "0"],
        ["a", "--number", "x"],
        ["a", "--share", "0.5"],
        ["a", "--share", "-1"],
        ["a", "--flag"],
        [""],
        [],
    ],
)
def test_a_plain_value_is_what_typer_makes_of_it(words: list[str]) -> None:
    assert taken(Command, words) == taken(TyperCommand, words)


def test_a_file_that_may_not_be_read_is_refused_as_typer_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.touch()
    monkeypatch.setattr("os.access", lambda *_args, **_more: False)  # root may read all
    told = taken(Command, ["a", "--place", str(path)])
    assert "is not readable" in told
    assert told == taken(TyperCommand, ["a", "--place", str(path)])
