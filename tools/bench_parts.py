"""Part size by concurrency: what a publication takes with parts of so many MiB, so many at a time, over each link.

usage: python tools/bench_parts.py [--sizes MB,MB] [--links NAMES] [--parts MIB,MIB] [--threads N,N] [--runs N]

Each cell is the median of the runs' seconds, of whole processes, and the most memory that one of them took; the runs of
all cells of a table take turns. On a machine with other work the link is no longer what is waited for: no cell means
anything there.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from itertools import product
from pathlib import Path

from bench_upload import LINKS, Adapter, Cost, Way, make, measure, reached, ways

from lora_packer.sandbox.s3 import LocalS3

OURS = """
import sys
from lora_packer.cli import main
from lora_packer.publisher import client, multipart, upload
part, threads = int(sys.argv[1]) << 20, int(sys.argv[2])
upload.__kwdefaults__["part_size"] = part
multipart._THREADS = threads
client._CONNECTIONS = max(client._CONNECTIONS, threads)
del sys.argv[1:3]
main()
"""
Cell = tuple[int, int]


def run(chosen: str, cells: list[Cell], rounds: int, work: Path, adapter: Adapter) -> dict[Cell, list[Cost]]:
    """Publish once for each cell in each round, each time to a server of its own, which keeps all in memory."""
    costs: dict[Cell, list[Cost]] = {cell: [] for cell in cells}
    for _ in range(rounds):
        for cell in cells:
            with LocalS3() as server, reached(server, LINKS[chosen]) as endpoint:
                ours = ways(server, endpoint, adapter)[0][0].command
                options = ours[ours.index("publish") :]
                command = [sys.executable, "-c", OURS, *map(str, cell), *options]
                costs[cell].append(measure(Way("ours", command), server, work, adapter.folder))
    return costs


def table(costs: dict[Cell, list[Cost]]) -> list[str]:
    """Return the lines of a table in Markdown: a row for each part size, a column for each number of threads."""
    sizes, threads = sorted({part for part, _ in costs}), sorted({count for _, count in costs})
    lines = [
        "| part | " + " | ".join(f"{count} at a time" for count in threads) + " |",
        "|---" * (len(threads) + 1) + "|",
    ]
    for part in sizes:
        told = []
        for count in threads:
            of_cell = costs[part, count]
            seconds = statistics.median(cost.seconds for cost in of_cell)
            told.append(f"{seconds:.2f} s, {max(cost.memory for cost in of_cell):.0f} MB")
        lines.append(f"| {part} MiB | {' | '.join(told)} |")
    return lines


def main() -> int:
    """Print a table for each link and size."""
    parser = argparse.ArgumentParser(description="Part size by concurrency, over the links.")
    parser.add_argument("--sizes", default="160,671", metavar="MB,MB", help="of the weights, about")
    parser.add_argument("--links", default="1gbit,200mbit", metavar="NAMES", help="of what lies in between")
    parser.add_argument("--parts", default="5,8,16,32", metavar="MIB,MIB", help="bytes in a part")
    parser.add_argument("--threads", default="4,6,8,12", metavar="N,N", help="how many parts are under way at a time")
    parser.add_argument("--runs", type=int, default=3, help="of each cell")
    options = parser.parse_args()
    cells = [*product(map(int, options.parts.split(",")), map(int, options.threads.split(",")))]
    for size in map(int, options.sizes.split(",")):
        with tempfile.TemporaryDirectory(prefix="lora-packer-bench-") as name:
            work = Path(name) / "work"
            work.mkdir()
            adapter = make(Path(name), size)
            for chosen in options.links.split(","):
                print(f"\n{size} MB, {LINKS[chosen] or 'loopback'}:\n", flush=True)
                print("\n".join(table(run(chosen, cells, options.runs, work, adapter))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
