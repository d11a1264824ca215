"""What was checked is what is packed, and how far packing has come."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from packager_support import TINY, adapter

from lora_packer.cli.common import Format, Output
from lora_packer.cli.progress import ProgressDisplay
from lora_packer.errors import PackError
from lora_packer.packager import pack
from lora_packer.packager.meter import Meter, Stopped, aside

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
CHECKED = {name: hashlib.sha256((TINY / name).read_bytes()).hexdigest() for name in (CONFIG, WEIGHTS)}

ways = pytest.mark.parametrize("compress", [False, True])


# --- what was checked -----------------------------------------------------------------------------------------------


@ways
def test_the_files_that_were_checked_are_packed(tmp_path: Path, compress: bool) -> None:
    upper = {name: digest.upper() for name, digest in CHECKED.items()}
    for expect in (CHECKED, upper, {WEIGHTS: CHECKED[WEIGHTS]}, {}):
        members = pack(TINY, tmp_path / "a.zip", expect=expect, compress=compress).members
        assert {member.name: member.sha256 for member in members} == CHECKED


@ways
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_changed_since_it_was_checked_is_refused(
    tmp_path: Path, suffix: str, name: str, compress: bool
) -> None:
    folder = adapter(tmp_path / "a")
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    (tmp_path / "out").mkdir()
    with pytest.raises(PackError, match=f"{name} is not the file that was checked") as caught:
        pack(folder, tmp_path / "out" / f"a{suffix}", expect=CHECKED, compress=compress)
    assert caught.value.hint
    assert os.listdir(tmp_path / "out") == []


def test_a_checked_file_that_is_not_packed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"README\.md was checked but is not packed"):
        pack(TINY, tmp_path / "a.zip", expect={**CHECKED, "README.md": "0" * 64})
    assert os.listdir(tmp_path) == []


# --- how far --------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_progress_grows_to_the_total(tmp_path: Path, suffix: str, compress: bool) -> None:
    folder = adapter(tmp_path / "a")
    (folder / WEIGHTS).write_bytes(bytes(3_000_000))
    told: list[tuple[int, int]] = []
    pack(folder, tmp_path / f"a{suffix}", compress=compress, progress=lambda done, total: told.append((done, total)))
    total = 2 * (3_000_000 + (folder / CONFIG).stat().st_size)
    assert {stated for _, stated in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total)
    assert len(told) > 6


def test_work_aside_ends_when_the_block_fails() -> None:
    meter, entered = Meter(), threading.Event()

    def work() -> None:
        while True:
            entered.set()
            meter.add(1)

    def fail() -> None:
        assert entered.wait(60)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), aside(meter, work) as future:
        fail()
    assert isinstance(future.exception(), Stopped)


def test_work_aside_gives_its_result_or_its_error() -> None:
    with aside(Meter(), len, "four") as future:
        assert future.result() == 4
    with aside(Meter(), int, "four") as future, pytest.raises(ValueError, match="four"):
        future.result()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """What 10 steps of 100 MB print, one second after the other."""
    monkeypatch.setattr("sys.stderr", stream)
    display = ProgressDisplay(Output(**options), "pack", clock=map(float, count()).__next__)
    for step in range(1, 11):
        display(step * 100_000_000, 1_000_000_000)
    display.clear()
    return stream.getvalue()


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(Terminal(), monkeypatch)
    assert "\n" not in text
    *_, last, after = text.split("\r\x1b[K")
    assert last.startswith("pack      [########################] 1,000 of 1,000 MB")
    assert " MB/s, 0 s left" in last
    assert after == ""


@pytest.mark.parametrize(
    ("stream", "options"),
    [
        (io.StringIO, {}),
        (Terminal, {"quiet": True}),
        (io.StringIO, {"quiet": True, "format": Format.json}),
    ],
)
def test_a_pipe_and_a_quiet_command_get_nothing(
    stream: Callable[[], io.StringIO], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(stream(), monkeypatch, **options) == ""


def test_json_gets_one_event_on_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [json.loads(line) for line in shown(io.StringIO(), monkeypatch, format=Format.json).splitlines()]
    assert events[-1] == {"event": "progress", "stage": "pack", "done": 1_000_000_000, "total": 1_000_000_000}
    assert len(events) == 10


def test_steps_that_follow_at_once_are_not_all_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    display = ProgressDisplay(Output(Format.json), "pack", clock=lambda: 0.0)
    for done in range(1, 1001):
        display(done, 1000)
    assert [json.loads(line)["done"] for line in stream.getvalue().splitlines()] == [1, 1000]


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_compresses(cli: Callable[..., Any], tmp_path: Path) -> None:
    result = cli("pack", TINY, "--no-check", "--compress", "--output", tmp_path / "a.zip", "--format", "json")
    assert result.code == 0
    assert json.loads(result.out)["archive"]["size"] == (tmp_path / "a.zip").stat().st_size
    stored = cli("pack", TINY, "--no-check", "--output", tmp_path / "b.zip", "--format", "json")
    assert json.loads(stored.out)["archive"]["size"] > json.loads(result.out)["archive"]["size"]


def test_the_command_tells_events_on_stderr(cli: Callable[..., Any], tmp_path: Path) -> None:
    result = cli("pack", TINY, "--no-check", "--output", tmp_path / "a.zip", "--format", "json")
    events = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "progress"
    assert events[-1]["done"] == events[-1]["total"] > 0
    assert "{" not in cli("pack", TINY, "--no-check", "--output", tmp_path / "a.zip").err


def test_the_help_says_what_is_reproducible(cli: Callable[..., Any]) -> None:
    text = " ".join(cli("pack", "--help").out.replace("│", " ").split())
    assert "same compressor version" in text
    assert "The same adapter gives the same bytes" in text


def test_the_command_says_so_where_isal_is_missing(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_packer.packager.compressor_name", lambda: "zlib")
    options = ("pack", TINY, "--no-check", "--output", tmp_path / "a.zip")
    assert "isal is not installed" in cli(*options, "--compress").err
    assert "isal" not in cli(*options).err
