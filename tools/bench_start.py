"""``make bench``: what a command costs before it does anything, beside a bare typer program, and what takes the time.

usage: python tools/bench_start.py [RUNS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench_rows import Row, against_best, header, line

ROOT = Path(__file__).resolve().parent.parent
ADAPTER = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BASE_CONFIG = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
CHECK = [sys.executable, "-m", "lora_packer", "check", str(ADAPTER), "--base-config", str(BASE_CONFIG)]

BARE = """
import typer

app = typer.Typer(add_completion=False)


@app.command()
def main(name: str = "world") -> None:
    print(f"hello {name}")


app()
"""
_IMPORT = "import time:"


def processor_ms(command: list[str]) -> float:
    """Return the processor time of one whole process, in ms: it is the same on a busy machine."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return 1000 * (usage.ru_utime + usage.ru_stime)


def rows(runs: int) -> Iterator[Row]:
    """Run all of them in turn; the first round warms up."""
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        commands = {
            "a bare typer program": [sys.executable, str(bare)],
            "check --no-weights": [*CHECK, "--no-weights"],
            "check": CHECK,
        }
        costs: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(runs + 1):
            for name, command in commands.items():
                taken = processor_ms(command)
                if number:
                    costs[name].append(taken)
    peer, *ours = costs
    for name in ours:
        pair = {name: costs[name], peer: costs[peer]}
        yield against_best(f"{name} of 8 kB, processor", pair, name, unit="ms")


def imports(runs: int) -> Counter[str]:
    """Return the microseconds that a check's imports take by package, the least of the runs for each module."""
    least: dict[str, int] = {}
    for _ in range(runs):
        command = [sys.executable, "-X", "importtime", *CHECK[1:]]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        for said in told.splitlines():
            own, _, module = said.removeprefix(_IMPORT).split("|") if said.count("|") == 2 else ("", "", "")
            if own.strip().isdigit():
                least[module.strip()] = min(int(own), least.get(module.strip(), int(own)))
    packages: Counter[str] = Counter()
    for module, taken in least.items():
        packages[".".join(module.split(".")[: 2 if module.startswith("lora_packer.") else 1])] += taken
    return packages


def main() -> int:
    """Print the table, and the imports that take 1 ms and more."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    print(header())
    for row in rows(runs):
        print(line(row), flush=True)
    packages = imports(min(runs, 7))
    print(f"\nthe imports of a check, {sum(packages.values()) / 1000:.0f} ms; of them, by package:")
    print(", ".join(f"{name} {taken / 1000:.1f}" for name, taken in packages.most_common() if taken >= 1000))
    return 0


if __name__ == "__main__":
    sys.exit(main())
