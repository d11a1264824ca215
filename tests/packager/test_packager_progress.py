"""How far packing has come: on a terminal, in a pipe, and as events for a program."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from packager_support import ROOT, TINY, TINY_BASE, adapter

from lora_packer.cli.common import Format, Output
from lora_packer.cli.progress import ProgressDisplay, line
from lora_packer.packager import CheckedFile, pack
from lora_packer.packager.digest import digest
from lora_packer.packager.meter import Meter, Stopped
from lora_packer.packager.source import Source

OPTIONS = ROOT / "docs" / "options.md"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
ways = pytest.mark.parametrize("compress", [False, True])


# --- how far --------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_progress_grows_to_the_total(tmp_path: Path, suffix: str, compress: bool) -> None:
    folder = adapter(tmp_path / "a")
    (folder / WEIGHTS).write_bytes(bytes(3_000_000))
    told: list[tuple[int, int]] = []
    pack(folder, tmp_path / f"a{suffix}", compress=compress, progress=lambda done, total: told.append((done, total)))
    content = 3_000_000 + (folder / CONFIG).stat().st_size
    # Compressed and read back; what is stored is also read for its checksums, and its headers are written.
    total = 2 * content + (0 if compress else (tmp_path / f"a{suffix}").stat().st_size)
    assert {stated for _, stated in told} == {total}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (total, total)
    assert len(told) > 6


@pytest.mark.parametrize("sha256", [True, False])
def test_only_what_a_check_read_for_its_sha256_is_not_read_again(tmp_path: Path, sha256: bool) -> None:
    found = [Source.at(TINY / name) for name in (CONFIG, WEIGHTS)]
    checked = {source.name: CheckedFile(source.state, digest(source, sha256=sha256)) for source in found}
    told: list[tuple[int, int]] = []
    archive = pack(TINY, tmp_path / "a.zip", checked=checked, progress=lambda *step: told.append(step))
    content = sum(source.size for source in found)
    assert told[-1] == (archive.size + (1 if sha256 else 2) * content,) * 2


def test_a_stopped_meter_ends_who_counts_with_it() -> None:
    meter = Meter()
    meter.add(1)
    meter.stop()
    with pytest.raises(Stopped):
        meter.add(1)


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
    assert last.startswith("pack      [######")
    assert last.endswith("#] 1.0 of 1.0 GB, 100 MB/s, 0 s left")
    assert after == ""


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (160, "upload    [#######.................] 0.6 of 2.0 GB, 45 MB/s, 32 s left"),
        (80, "upload    [#######.................] 0.6 of 2.0 GB, 45 MB/s, 32 s left"),
        (60, "upload    [####..........] 0.6 of 2.0 GB, 45 MB/s, 32 s left"),
        (50, "upload    [###..........] 30 %, 45 MB/s, 32 s left"),
        (40, "upload 30 %, 45 MB/s, 32 s left"),
        (31, "upload 30 %, 45 MB/s, 32 s left"),
        (30, "upload 30 %, 32 s left"),
        (12, "upload 30 %"),
        (5, "uploa"),
    ],
)
def test_a_line_fits_whatever_the_width(width: int, expected: str) -> None:
    assert line("upload", 600_000_000, 2_000_000_000, 45e6, width)[: len(expected)] == expected
    for rate in (None, 1.0, 45e6, 2e9):
        for done in (0, 1, 600_000_000, 2_000_000_000):
            for narrower in range(1, width + 1):
                assert len(line("upload", done, 2_000_000_000, rate, narrower)) <= narrower


def test_minutes_and_gigabytes() -> None:
    told = line("upload", 10**9, 80 * 10**9, 20e6, 100)
    assert told.endswith("] 1.0 of 80 GB, 20 MB/s, 1 h 5 min left")


def test_there_is_no_time_left_before_the_second_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    display = ProgressDisplay(Output(), "upload", clock=map(float, count()).__next__)
    display(0, 1000)
    assert "left" not in stream.getvalue()
    assert "/s" not in stream.getvalue()
    display(100, 1000)
    assert stream.getvalue().endswith("100 B/s, 9 s left")


def test_what_an_earlier_run_did_is_not_in_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    display = ProgressDisplay(Output(), "upload", clock=map(float, count()).__next__)
    display(900_000_000, 1_000_000_000)
    display(910_000_000, 1_000_000_000)
    assert stream.getvalue().endswith("10 MB/s, 9 s left")
    display(0, 1_000_000_000)  # an upload that begins anew
    assert "left" not in stream.getvalue().rpartition("\r")[2]


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


@pytest.mark.parametrize("options", [["--no-check"], ["--base-config", TINY_BASE]])
def test_the_command_tells_events_on_stderr(cli: Callable[..., Any], tmp_path: Path, options: list[Any]) -> None:
    command = ("pack", TINY, *options, "--output", tmp_path / "a.zip")
    result = cli(*command, "--format", "json")
    events = [json.loads(line) for line in result.err.splitlines() if line.startswith("{")]
    example = next(line for line in OPTIONS.read_text().splitlines() if line.startswith('{"event": "progress"'))
    for event in events:
        assert {name: type(value) for name, value in event.items()} == {
            name: type(value) for name, value in json.loads(example).items()
        }
        assert (event["event"], event["stage"]) == ("progress", "pack")
    assert [event["done"] for event in events] == sorted(event["done"] for event in events)
    assert events[-1]["done"] == events[-1]["total"] > 0
    assert json.loads(result.out)["archive"]["size"] > 0
    assert "{" not in cli(*command).err
    assert "{" not in cli(*command, "--format", "json", "--quiet").err


def test_the_help_says_what_is_reproducible(cli: Callable[..., Any]) -> None:
    text = " ".join(cli("pack", "--help").out.replace("│", " ").split())
    assert "same compressor version" in text
    assert "The same adapter gives the same bytes" in text


def test_the_command_says_so_where_isal_is_missing(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_packer.pipeline.pack.compressor_name", lambda: "zlib")
    options = ("pack", TINY, "--no-check", "--output", tmp_path / "a.zip")
    assert "isal is not installed" in cli(*options, "--compress").err
    assert "isal" not in cli(*options).err
