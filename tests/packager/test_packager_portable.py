"""The packager where the operating system's ``os`` lacks what Windows and macOS do not have."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from packager_support import TINY_BASE, adapter

MACOS = ["copy_file_range", "sched_getaffinity", "posix_fadvise", "O_TMPFILE"]
WINDOWS = [*MACOS, "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "pread", "preadv", "fchmod", "mkfifo"]
PROGRAM = """
import os, sys
from pathlib import Path
names, folder, output, base = sys.argv[1:]
for name in names.split(","):
    if hasattr(os, name):
        delattr(os, name)
import lora_packer
from lora_packer.files import write_whole
from lora_packer.packager import pack
report = lora_packer.check(folder, base_config=base)
write_whole(Path(output).with_name("report"), report.status, private=True)
for suffix in (".zip", ".tar.gz"):
    for compress in (True, False):
        print(pack(Path(folder), Path(f"{output}{compress}{suffix}"), compress=compress).sha256)
"""


@pytest.mark.parametrize("lacking", [["nothing"], MACOS, WINDOWS], ids=["linux", "macos", "windows"])
def test_the_same_archives_come_of_it(lacking: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, ",".join(lacking)]
    command += [str(adapter(tmp_path / "adapter")), str(tmp_path / "archive"), str(TINY_BASE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    told = done.stdout.split()
    written = [tmp_path / f"archive{compress}{suffix}" for suffix in (".zip", ".tar.gz") for compress in (True, False)]
    assert told == [hashlib.sha256(path.read_bytes()).hexdigest() for path in written]
    assert (tmp_path / "report").read_text() == "ok"
