"""``make bench``: what a command costs, side by side with a peer in the same run.

usage: python tools/bench.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADAPTER = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BASE_CONFIG = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"

BARE = """
import typer

app = typer.Typer(add_completion=False)


@app.command()
def main(name: str = "world") -> None:
    print(f"hello {name}")


app()
"""


def seconds(command: list[str]) -> float:
    """Return the wall time of one whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def side_by_side(commands: dict[str, list[str]], runs: int) -> dict[str, list[float]]:
    """Time the commands in turn, so that a slow moment of the machine meets them all; one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for round_number in range(runs + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if round_number:
                times[name].append(taken)
    return times


def main() -> int:
    """Print the table of start-up costs."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        check = [sys.executable, "-m", "lora_packer", "check", str(ADAPTER), "--base-config", str(BASE_CONFIG)]
        times = side_by_side(
            {
                "a bare typer program": [sys.executable, str(bare)],
                "check --no-weights": [*check, "--no-weights"],
                "check": check,
            },
            runs,
        )
    peer = times["a bare typer program"]
    print(f"lora-packer check on a folder: whole processes, {runs} runs in turn")
    print(f"{'':<24}{'min ms':>8}{'median':>8}{'max':>8}   ratio to the bare program (median of pairs)")
    for name, taken in times.items():
        ratio = statistics.median(a / b for a, b in zip(taken, peer, strict=True))
        low, middle, high = (1000 * value for value in (min(taken), statistics.median(taken), max(taken)))
        print(f"{name:<24}{low:>8.0f}{middle:>8.0f}{high:>8.0f}   {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
