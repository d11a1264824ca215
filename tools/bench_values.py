"""What reading an adapter's values costs in a check, against reading its bytes alone; part of ``make bench``.

usage: python tools/bench_values.py WEIGHTS [RUNS]

All of it in one process, in turn, from the page cache. The least of the runs is shown.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lora_packer.adapter.safetensors_header import read_header
from lora_packer.inspector.values import scan
from lora_packer.packager.checked import BUFFERS, HashingReader
from lora_packer.packager.digest import Digests

READ_LOOP_BUFFER = 1 << 20


def read_loop(path: Path) -> None:
    """Read every byte into one buffer, and do nothing with it."""
    buffer = bytearray(READ_LOOP_BUFFER)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def scan_values(path: Path, digests: Digests | None = None) -> None:
    """Read the header, then all values, as a check does."""
    with path.open("rb") as file:
        header = read_header(file, path.stat().st_size)
        if digests is None:
            scan(file, header)
            return
        with digests.aside(BUFFERS) as take:
            scan(HashingReader(file, take), header, BUFFERS)


def seconds(task: Callable[[], None]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def main() -> int:
    """Print the table."""
    path, runs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    tasks: dict[str, Callable[[], None]] = {
        "read loop": lambda: read_loop(path),
        "values": lambda: scan_values(path),
        "values and checksums": lambda: scan_values(path, Digests()),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(runs + 1):  # the first one warms up
        for name, task in tasks.items():
            times[name].append(seconds(task))
    least = min(times["read loop"][1:])
    print(f"check: the values of {path.stat().st_size:,} bytes in one process, {runs} runs in turn\n")
    print(f"{'':<28}{'seconds':>9}{'ratio to the read loop':>25}{'MB/s':>15}")
    for name, taken in times.items():
        best = min(taken[1:])
        print(f"{name:<28}{best:>9.2f}{best / least:>25.2f}{path.stat().st_size / best / 1e6:>15,.0f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak resident memory of the process, NumPy included: {peak:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
