"""Run every hostile case through the command line, and print what came out.

usage: python tools/hostile [--only TEXT] [--jobs N] [--tries N] [--all]

Each runs in a folder of its own, with a bound on time and memory. Wrong is: an exit code that is not the case's, more
than 2 s of the processor's time or 300 MB, a traceback, a control character, a line over 400 characters, a credential,
nothing said, a file left behind. Then every archive that the check takes is held against every reader at hand, and an
adapter is changed while it is read. Prints each case that is wrong (with --all: each case), a table by kind, and
exits 1.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hostile import archives, bases, configs, containers, races, readers, receipts, servers, terminal
from hostile.case import Case, with_config
from hostile.run import Outcome, run

_MUTATIONS = 100
_WAITING = 3  # so many times the jobs of what waits for servers, and has little to do
_PLAIN_CHECK = 0.4  # seconds of processor time
_ROOMS = (configs, containers, archives, bases, terminal, receipts, servers)


def main() -> int:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="only the cases whose kind and name contain this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="print every case, not only the wrong ones")
    parser.add_argument("--tries", type=int, default=20, help="of each race; 200 take some ten minutes")
    arguments = parser.parse_args()
    chosen = [case for room in _ROOMS for case in room.all_cases() if arguments.only in f"{case.kind}: {case.name}"]
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(arguments.jobs) as workers,
        ThreadPoolExecutor(arguments.jobs * _WAITING) as waiters,
    ):
        slowness = _slowness(Path(folder))
        told = functools.partial(_told, root=Path(folder), slowness=slowness, everything=arguments.all)
        begun = [
            (waiters if case.short_deadlines else workers).submit(told, (number, case))
            for number, case in enumerate(chosen)
        ]
        outcomes = [one.result() for one in begun]
    _summary(outcomes)
    right = not any(outcome.wrong for outcome in outcomes)
    if not arguments.only:
        right &= readers.run(_MUTATIONS)
        right &= races.run(arguments.tries)
    for outcome in outcomes:
        if outcome.wrong:
            print(_told_as(outcome), file=sys.stderr)  # once more: of a long output often only the end is kept
    return int(not right)


def _slowness(root: Path) -> float:
    """How much slower a check of a small adapter is here than the 0.4 s of processor time that it takes elsewhere."""
    folder = root / "plain"
    folder.mkdir()
    return max(1.0, run(Case("plain", "plain", with_config({})), folder).seconds / _PLAIN_CHECK)


def _told(numbered: tuple[int, Case], root: Path, slowness: float, everything: bool) -> Outcome:
    number, case = numbered
    folder = root / str(number)
    folder.mkdir()
    outcome = run(case, folder, slowness)
    if outcome.wrong or everything:
        print(_told_as(outcome), flush=True)
    return outcome


def _told_as(outcome: Outcome) -> str:
    first = (
        f"{outcome.case.kind}: {outcome.case.name}: "
        f"exit {outcome.exit}, {outcome.seconds:.1f} s, {outcome.megabytes} MB"
    )
    return "\n    ".join((first, *outcome.wrong))


def _summary(outcomes: list[Outcome]) -> None:
    kinds = Counter(outcome.case.kind for outcome in outcomes)
    print(f"\n{'kind':24} {'cases':>6} {'wrong':>6} {'most s':>7} {'most MB':>8}")
    for kind, count in kinds.items():
        those = [outcome for outcome in outcomes if outcome.case.kind == kind]
        wrong = sum(bool(outcome.wrong) for outcome in those)
        print(f"{kind:24} {count:6} {wrong:6} {max(o.seconds for o in those):7.1f} {max(o.megabytes for o in those):8}")
    print(f"{'all':24} {len(outcomes):6} {sum(bool(o.wrong) for o in outcomes):6}")


if __name__ == "__main__":
    sys.exit(main())
