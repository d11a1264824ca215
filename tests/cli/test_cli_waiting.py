"""The line that counts while a command waits: on a terminal, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest
from together_support import FakeTime

from lora_packer.cli.common import Format, Output
from lora_packer.cli.waiting import WaitingLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def slept(output: Output, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, seconds: float) -> FakeTime:
    time = FakeTime()
    monkeypatch.setattr(sys, "stderr", stream)
    line = WaitingLine(output, clock=time.clock, sleep=time.sleep)
    line.state = "Running"
    line.sleep(seconds)
    return time


def test_it_counts_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    time = slept(Output(), stream, monkeypatch, 62.5)
    shown = stream.getvalue().split("\r\x1b[K")
    assert shown[0] == shown[-1] == ""
    assert [text[2:] for text in shown[1:4]] == ["Running, 0 s", "Running, 1 s", "Running, 2 s"]
    assert len({text[0] for text in shown[1:-1]}) == 4
    assert len(shown) == 63 + 2
    assert sum(time.slept) == pytest.approx(62.5)


@pytest.mark.parametrize(
    ("output", "stream"),
    [
        (Output(), io.StringIO()),
        (Output(quiet=True), Terminal()),
        (Output(Format.json), Terminal()),
    ],
)
def test_it_only_sleeps(output: Output, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    time = slept(output, stream, monkeypatch, 20.0)
    assert stream.getvalue() == ""
    assert time.slept == [20.0]


def test_an_interrupt_leaves_no_line_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    line = WaitingLine(Output(), sleep=interrupt)
    with pytest.raises(KeyboardInterrupt):
        line.sleep(5.0)
    assert stream.getvalue().endswith("\r\x1b[K")
