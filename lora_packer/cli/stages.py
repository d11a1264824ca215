"""What the commands with several steps share: telling each step, the upload's progress, a failed check's report."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from lora_packer.cli.common import Output
from lora_packer.cli.progress import ProgressDisplay
from lora_packer.cli.waiting import WaitingLine
from lora_packer.errors import CheckFailedError, InconclusiveError
from lora_packer.pipeline import DETAIL


class Stages:
    """Tells the steps of a command on stderr, one line each, and how far its longest one is: ``working``.

    As a context it takes the bar off the terminal at the end.

    Attributes:
        is_sending: whether the work whose progress is told has begun.
    """

    def __init__(self, output: Output, working: str = "upload") -> None:
        self._output = output
        self._working = working
        self._display: ProgressDisplay | None = None
        self._line = WaitingLine(output)
        self.is_sending = False

    def note(self, stage: str, text: str) -> None:
        """Tell a step and what it proved; details only where they are asked for."""
        if stage == DETAIL:
            if self._display is not None:
                self._display.clear()
            self._output.detail(text)
            return
        if self._display is not None:
            self._display.clear()
        self._line.state = f"{stage:<7} {text.partition(':')[0]}"
        self._output.note(f"{self._output.style(f'{stage:<9}', 'bold', stream=sys.stderr)} {text}")

    def sleep(self, seconds: float) -> None:
        """Sleep in the middle of a step, and show for how long it goes on."""
        self._line.sleep(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._display is not None:
            self._display.clear()

    def progress(self, sent: int, total: int) -> None:
        """Show how far the work is; its clock begins with the first call."""
        self.is_sending = True
        if self._display is None:
            self._display = ProgressDisplay(self._output, self._working)
        self._display(sent, total)


@contextmanager
def show_failed_check(output: Output) -> Iterator[None]:
    """Print the report of a check that did not pass, before the error goes on its way."""
    try:
        yield
    except (CheckFailedError, InconclusiveError) as error:
        if error.report is not None and output.is_text:
            from lora_packer.report.text import render

            output.result(render(error.report, output), {})
        raise
