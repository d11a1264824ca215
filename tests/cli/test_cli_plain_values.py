"""Values of a command line that need no validator: they come out as typer's own would have them."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from builders import TINY, TINY_BASE
from typer.testing import CliRunner

from lora_packer.cli.plain_values import spare_validators


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def outcome(given: list[str], command: type[Any] | None) -> tuple[int, str, list[Any]]:
    app, seen = typer.Typer(add_completion=False), []

    @app.command(cls=command)
    def run(
        name: Annotated[str, typer.Argument()],
        path: Annotated[Path | None, typer.Option()] = None,
        word: Annotated[list[str] | None, typer.Option()] = None,
        colour: Annotated[Colour, typer.Option()] = Colour.RED,
        count: Annotated[int, typer.Option(min=1)] = 3,
        wait: Annotated[bool | None, typer.Option("--wait/--no-wait")] = None,
        loud: Annotated[bool, typer.Option()] = False,
    ) -> None:
        seen.extend((name, path, word, colour, count, wait, loud))

    done = CliRunner().invoke(app, given)
    return done.exit_code, done.output, [(type(item), item) for item in seen]


@pytest.mark.parametrize(
    "given",
    [
        ["a"],
        ["a", "--path", "some/where", "--word", "b", "--word", "c", "--colour", "blue", "--count", "2", "--loud"],
        ["a", "--path", "", "--no-wait"],
        ["a", "--path", "/proc/self/mem"],
        ["a", "--colour", "BLUE"],
        ["a", "--colour", "green"],
        ["a", "--count", "0"],
        ["a", "--count", "two"],
        ["a\udc80"],
        ["a", "--path", "a\udc80"],
        ["a", "--word", "a\udc80"],
        [],
    ],
)
def test_they_are_what_typer_makes_of_them(given: list[str]) -> None:
    class Alone(typer.core.TyperCommand):
        pass

    class Ours(typer.core.TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            spare_validators(self.params)
            return super().parse_args(ctx, args)

    assert outcome(given, Ours) == outcome(given, Alone)


def test_a_check_loads_no_validator() -> None:
    command = ["check", TINY, "--base-config", TINY_BASE, "--format", "json", "--target", "peft"]
    program = (
        "import sys; from lora_packer.__main__ import main\n"
        "try: main()\nexcept SystemExit: print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
