"""``make bench``: all figures in one table, each beside the best peer of the same run and its limit.

usage: python tools/bench.py [--only PART,PART] [--quick] [--keep FILE] [--folder FOLDER]

The parts are ``start``, ``grow`` (many tensors, many bytes, many adapters), ``pack`` and ``upload``; each is a file
``bench_*.py`` with a table of its own. ``--quick`` takes the small adapter alone, and few rounds. ``--keep`` says where
the ratios of an earlier run are: what is slower by more than noise is told, and they are replaced. It holds ratios
only, as seconds are those of one machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_inspect
import bench_pack
import bench_start
import bench_upload
from bench_rows import Row, header, keep, line, slower

Part = Callable[[bool, Path | None], Iterator[Row]]


def start(quick: bool, _folder: Path | None) -> Iterator[Row]:
    """What a command costs before it does anything."""
    return bench_start.rows(5 if quick else 15)


def grow(quick: bool, _folder: Path | None) -> Iterator[Row]:
    """What a check costs as adapters grow in tensors, bytes and number."""
    return bench_inspect.rows(3 if quick else 5, adapters=100 if quick else 1000)


def pack(quick: bool, folder: Path | None) -> Iterator[Row]:
    """What an archive costs."""
    return bench_pack.rows(160 if quick else 671, 3 if quick else 5, folder)


def upload(quick: bool, folder: Path | None) -> Iterator[Row]:
    """What check, pack, upload and proof cost together."""
    sizes, links = ([13], ["loopback", "1gbit"]) if quick else (list(bench_pack.ADAPTERS), list(bench_upload.LINKS))
    return bench_upload.rows(sizes, links, 3 if quick else 9, folder)


# The last checks in this very process, and the peak of a process that is started begins with that of this one.
PARTS: dict[str, Part] = {"start": start, "pack": pack, "upload": upload, "grow": grow}


def main() -> int:
    """Run the parts, print the table as it grows, keep the ratios."""
    parser = argparse.ArgumentParser(description="All figures in one table, each beside the best peer and its limit.")
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,PART", help="of start, grow, pack and upload")
    parser.add_argument("--quick", action="store_true", help="small adapters and few rounds")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="compare with its ratios, then replace them")
    parser.add_argument("--folder", type=Path, help="where the adapters lie: the disk that is measured")
    options = parser.parse_args()
    busy = f", {os.getloadavg()[0]:.1f} others at work on it" if hasattr(os, "getloadavg") else ""
    print(f"{os.cpu_count()} processors{busy}; medians of rounds in turn, ratios are those of each round")
    print(header(), flush=True)
    rows: list[Row] = []
    for name in options.only.split(","):
        for row in PARTS[name](options.quick, options.folder):
            print(line(row), flush=True)
            rows.append(row)
    over = [row.name for row in rows if row.verdict == "OVER"]
    print(f"over their limit: {', '.join(over) or 'none'}")
    if options.keep:
        told = slower(rows, options.keep)
        print("slower than the kept ratios:" if told else "none is slower than the kept ratios", *told, sep="\n  ")
        keep(rows, options.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())
