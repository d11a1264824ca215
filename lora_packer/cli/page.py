"""``check --html``: where the page goes, and what is printed beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lora_packer.cli.common import Output
from lora_packer.cli.named_files import require_place, takes_stdout, write_named
from lora_packer.errors import InputError
from lora_packer.files import followed, is_stream, names_stdout
from lora_packer.frozen import frozen
from lora_packer.redact import escape

if TYPE_CHECKING:
    from lora_packer.inspector.many import Result


@frozen
class Page:
    """A page to look at, beside the report."""

    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write one page to look at: verdict, findings, how large each module's update is; - is standard "
            "output, which then has the page alone.",
        ),
    ] = None

    def require(self, output_file: Path | None, output: Output) -> None:
        """Raise InputError where the page and the report would go to the same place."""
        if self.html is None:
            return
        if output_file is None:
            takes_stdout(self.html, output, "--html")
        elif _is_one_place(self.html, output_file):
            raise InputError(
                f"--html and --output would both write to '{escape(str(self.html))}'.",
                hint="Name another file with one of them.",
            )

    def require_place(self, adapter: str) -> None:
        """Raise InputError where the page could not be written there, or is the adapter's own file."""
        require_place(self.html, "--html", adapter)

    @property
    def is_stdout(self) -> bool:
        """Whether standard output has the page and nothing else."""
        return self.html is not None and names_stdout(self.html)

    def sizes(self, *, asked: bool, weights: bool) -> bool | Literal["if-read"]:
        """Return how ``check`` is asked for the sizes of the updates, which the page shows where they can be had."""
        return asked or ("if-read" if self.html is not None and weights else False)

    def write(self, results: Sequence[Result]) -> None:
        """Write the page. Raises InputError and OutputError as every file that an option names."""
        if self.html is None:
            return
        from lora_packer.report import html

        write_named(self.html, html.render(results), "--html")


def without_sizes(result: Result, *, asked: bool) -> Result:
    """Return a report as it is without a page: the sizes are told only where they were asked for."""
    from lora_packer.inspector.report import Report

    return replace(result, stats=None) if isinstance(result, Report) and not asked else result


def _is_one_place(one: Path, other: Path) -> bool:
    if names_stdout(one) or names_stdout(other):
        return names_stdout(one) and names_stdout(other)
    return not is_stream(one) and followed(one) == followed(other)
