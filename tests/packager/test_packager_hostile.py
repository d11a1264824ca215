"""The command on broken and hostile folders, a full disk and signals: the stated exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import TINY_BASE, raw_safetensors, tiny_config, tiny_tensors, write_adapter
from packager_support import adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Change = Callable[[Path], Any]


def weights(content: bytes) -> Change:
    return lambda folder: (folder / WEIGHTS).write_bytes(content)


def config(text: str) -> Change:
    return lambda folder: (folder / CONFIG).write_text(text)


def settings(**changes: Any) -> Change:
    return config(json.dumps(tiny_config(**changes)))


def header(fields: Any, data: bytes = b"", **options: int) -> Change:
    return weights(raw_safetensors(fields, data, **options))


def tensor(begin: int, end: int, shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": "F16", "shape": shape, "data_offsets": [begin, end]}


def with_tensors(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    return lambda folder: write_adapter(folder, change(tiny_tensors()))


def in_its_place(name: str, make: Change) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return change


def moved_down(folder: Path) -> None:
    (folder / "my-adapter").mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).rename(folder / "my-adapter" / name)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def a_truncated_file(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, (folder / WEIGHTS).stat().st_size // 2)


def a_long_config(folder: Path) -> None:
    os.truncate(folder / CONFIG, 5_000_000)


# The folder's fault, and the exit code of `pack` with and without a check: 1 a rule, 2 not readable, 4 not packable.
# Without a check the content is not looked at (0).
FOLDERS: dict[str, tuple[Change, int, int]] = {
    "no folder": (shutil.rmtree, 2, 2),
    "a pickle": (pickled, 1, 4),
    "no config": (lambda folder: (folder / CONFIG).unlink(), 1, 4),
    "one folder down": (moved_down, 1, 4),
    "empty weights": (weights(b""), 1, 0),
    "a header of no bytes": (header({}, length=0), 1, 0),
    "a header of 100,000,001 bytes": (header({}, length=100_000_001), 1, 0),
    "a header that is not UTF-8": (header(b'{"\xff": 1}'), 1, 0),
    "an array as header": (header([1]), 1, 0),
    "a name twice": (header(b'{"a": {}, "a": {}}'), 1, 0),
    "a hole": (header({"a": tensor(0, 4), "b": tensor(8, 12)}, bytes(12)), 1, 0),
    "one range twice": (header({"a": tensor(0, 4), "b": tensor(0, 4)}, bytes(4)), 1, 0),
    "another size": (header({"a": tensor(0, 4, (3,))}, bytes(4)), 1, 0),
    "a negative dimension": (header({"a": tensor(0, 4, (-2,))}, bytes(4)), 1, 0),
    "deep nesting": (header(b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"), 1, 0),
    "half of the file": (a_truncated_file, 1, 0),
    "a Git LFS pointer": (weights(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), 1, 0),
    "a pickle by another name": (weights(b"\x80\x04\x95" + bytes(100)), 1, 0),
    "an escape in a name": (header({"\x1b[2Ja": tensor(0, 4)}, bytes(4)), 1, 0),
    "a workflow command in a name": (header({"\n::error::a": tensor(0, 4)}, bytes(4)), 1, 0),
    "NaN as alpha": (config(json.dumps(tiny_config(lora_alpha=float("nan")))), 1, 0),
    "a config over the limit": (a_long_config, 2, 0),
    "null as config": (config("null"), 1, 0),
    "a pattern that never ends": (settings(target_modules="([a-z_.0-9]+)+!"), 1, 0),
    "another rank": (settings(r=32), 1, 0),
    "half a pair": (with_tensors(lambda all_: dict(list(all_.items())[1:])), 1, 0),
    "NaN as value": (with_tensors(lambda all_: {k: v * np.array(np.nan, v.dtype) for k, v in all_.items()}), 1, 0),
    "a folder as weights": (in_its_place(WEIGHTS, Path.mkdir), 2, 4),
    "a pipe as config": (in_its_place(CONFIG, os.mkfifo), 2, 4),
    "a pipe as weights": (in_its_place(WEIGHTS, os.mkfifo), 2, 4),
    "a link out of the folder": (in_its_place(CONFIG, lambda path: path.symlink_to(TINY_BASE)), 1, 4),
    "a link to itself": (in_its_place(CONFIG, lambda path: path.symlink_to(path)), 2, 4),
    "a twin in another case": (lambda folder: (folder / "Adapter_Config.json").write_text("{}"), 4, 4),
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where the archive goes, and the folder for temporary files: both must be empty afterwards."""
    made = tmp_path / "out", tmp_path / "tmp"
    for place in made:
        place.mkdir()
    monkeypatch.setenv("TMPDIR", str(made[1]))
    return made


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("is_checked", [True, False])
@pytest.mark.parametrize("fault", FOLDERS)
def test_a_bad_folder(
    cli: Callable[..., Any], tmp_path: Path, places: tuple[Path, Path], fault: str, is_checked: bool, suffix: str
) -> None:
    change, checked, unchecked = FOLDERS[fault]
    folder = adapter(tmp_path / "a")
    change(folder)
    how = ("--base-config", TINY_BASE) if is_checked else ("--no-check",)
    result = cli("pack", folder, *how, "--output", places[0] / f"a{suffix}")
    code = checked if is_checked else unchecked
    assert result.code == code
    assert "\x1b" not in result.text
    assert "\n::error::" not in result.text
    assert os.listdir(places[1]) == []
    assert len(os.listdir(places[0])) == (0 if code else 1)
    assert result.err if code else True


def test_it_is_not_the_folder_that_the_cases_find_fault_with(
    cli: Callable[..., Any], tmp_path: Path, places: tuple[Path, Path]
) -> None:
    folder = adapter(tmp_path / "a")
    assert cli("pack", folder, "--base-config", TINY_BASE, "--output", places[0] / "a.zip").code == 0
    assert zipfile.ZipFile(places[0] / "a.zip").namelist() == [CONFIG, WEIGHTS]


# --- a full disk, and signals ---------------------------------------------------------------------------------------

WAYS = {"zip": [".zip"], "tar.gz": [".tar.gz"], "compressed zip": [".zip", "--compress"]}
WAYS["compressed tar.gz"] = [".tar.gz", "--compress"]


def command(folder: Path, output: Path, way: str) -> list[str]:
    suffix, *options = WAYS[way]
    return ["pack", str(folder), "--base-config", str(TINY_BASE), "--output", f"{output / 'a'}{suffix}", *options]


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


@pytest.mark.parametrize("way", WAYS)
def test_no_room_for_the_archive(tmp_path: Path, places: tuple[Path, Path], way: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lora_packer", *command(adapter(tmp_path / "a"), places[0], way)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert "could not be written: File too large. No part" in done.stderr.replace("\n ", "")
    assert [os.listdir(place) for place in places] == [[], []]


# What stands still until the signal comes: a function of the main thread at each step, and the ways that have it.
STEPS = {
    "the check": ("lora_packer.inspector.values", "_read_into", list(WAYS)),
    "the checksums and the copy": ("lora_packer.packager.layout", "write_all", ["zip", "tar.gz"]),
    "the compression": ("lora_packer.packager.compress", "write_all", ["compressed zip", "compressed tar.gz"]),
    "the read-back": ("lora_packer.packager.verify_zip", "verify_content", ["zip", "compressed zip"]),
    "the read-back of a tar": ("lora_packer.packager.verify_tar_gz", "verify_content", ["tar.gz", "compressed tar.gz"]),
}
STUCK = """
import importlib, sys, time

def stuck(*arguments, **options):
    print("stuck", flush=True)
    while True:  # one long wait would not end for a signal that came just before it
        time.sleep(0.01)

setattr(importlib.import_module(sys.argv[1]), sys.argv[2], stuck)
from lora_packer.cli import main
main(sys.argv[3:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("step", "way"), [(step, way) for step, (_, _, ways) in STEPS.items() for way in ways])
def test_a_signal(tmp_path: Path, places: tuple[Path, Path], step: str, way: str, number: signal.Signals) -> None:
    module, function, _ = STEPS[step]
    folder = adapter(tmp_path / "a")
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, module, function, *command(folder, places[0], way)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err.endswith("interrupted\n")
    assert [os.listdir(place) for place in places] == [[], []]
