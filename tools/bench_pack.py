"""``make bench``: packing an adapter, side by side with what people use today, in one run on one disk.

usage: python tools/bench_pack.py [--size MB] [--runs N] [--folder FOLDER]

The adapters have the shapes of Llama-3.1-8B in bf16: seven modules at rank 128 are 671 MB, at rank 32 168 MB, q_proj
and v_proj at rank 16 13.6 MB. Their values are random and normal, as those of trained weights nearly are. Peers that
are not installed are left out by name. Each figure is of one whole process, with all processes that it starts, in turn.

A stored archive is held against ``cp`` and ``sha256sum`` of the same weights, one after the other: it is written,
hashed and read back. A compressed one is held against the fastest of ``igzip -1 -T N`` (ISA-L's own program, Debian's
package ``isal``; N: the processors), ``pigz -1``, ``zip -1`` and ``tar czf``, none of which reads back what it wrote.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench_rows import Row, against_best, header, line

LAYERS, HIDDEN, KEY_VALUE, MLP = 32, 4096, 1024, 14336
MODULES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KEY_VALUE),
    "self_attn.v_proj": (HIDDEN, KEY_VALUE),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, MLP),
    "mlp.up_proj": (HIDDEN, MLP),
    "mlp.down_proj": (MLP, HIDDEN),
}
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TOOLS = Path(__file__).resolve().parent
BASE_CONFIG = TOOLS.parent / "fixtures" / "base-configs" / "meta-llama--Llama-3.1-8B-Instruct.json"
# By about how many MB of weights: the rank, and the modules. All are of 32 layers.
ADAPTERS = {13: (16, ("self_attn.q_proj", "self_attn.v_proj")), 160: (32, tuple(MODULES)), 671: (128, tuple(MODULES))}

THREADS = str(os.cpu_count() or 1)
STORED = ("pack zip", "pack tar.gz", "check + pack zip")
COMPRESSED = ("pack --compress zip", "pack --compress tar.gz")
COMPRESSING = (f"igzip -1 -T {THREADS}", "pigz -1", "zip -1", "tar czf")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to make something of the adapter; ``output`` is the file that it writes."""

    name: str
    command: list[str]
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a whole process took: seconds, those of all processors, peak resident memory in MB, bytes written."""

    seconds: float
    processor: float
    memory: float
    size: int


def make_adapter(folder: Path, size: int) -> None:
    """Write the adapter of about this many MB."""
    import numpy as np

    rank, modules = ADAPTERS[size]
    header: dict[str, object] = {}
    tensors: list[tuple[int, float]] = []
    offset = 0
    for layer in range(LAYERS):
        for module in modules:
            inputs, outputs = MODULES[module]
            for part, shape, scale in (("lora_A", (rank, inputs), 0.02), ("lora_B", (outputs, rank), 0.005)):
                end = offset + 2 * shape[0] * shape[1]
                name = f"base_model.model.model.layers.{layer}.{module}.{part}.weight"
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
                tensors.append((shape[0] * shape[1], scale))
                offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    random = np.random.default_rng(0)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for count, scale in tensors:
            values = random.standard_normal(count, dtype=np.float32) * np.float32(scale)
            file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "meta-llama/Llama-3.1-8B",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [module.split(".")[1] for module in modules],
    }
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def ways(scratch: Path, base_config: Path) -> list[Way]:
    """Return all ways; they run in the adapter's folder."""

    def ours(name: str, suffix: str, *options: str) -> Way:
        output = str(scratch / f"ours.{suffix}")
        command = [sys.executable, "-m", "lora_packer", "pack", ".", "--quiet", "--output", output, *options]
        return Way(name, command, output)

    def peer(name: str, suffix: str, *command: str) -> Way:
        output = str(scratch / f"peer.{suffix}")
        return Way(name, [output if part == "OUT" else part for part in command], output)

    files = (CONFIG, WEIGHTS)
    return [
        peer("cp", "copy", "cp", WEIGHTS, "OUT"),
        Way("sha256sum", ["sha256sum", WEIGHTS]),
        ours("pack zip", "zip", "--no-check"),
        ours("pack tar.gz", "tar.gz", "--no-check"),
        ours("check + pack zip", "zip", "--base-config", str(base_config), "--target", "peft"),
        ours("pack --compress zip", "zip", "--no-check", "--compress"),
        ours("pack --compress tar.gz", "tar.gz", "--no-check", "--compress"),
        peer("zip -1", "1.zip", "zip", "-q", "-1", "OUT", *files),
        peer(f"igzip -1 -T {THREADS}", "igz", "igzip", "-1", "-T", THREADS, "-k", "-f", "-o", "OUT", WEIGHTS),
        peer("pigz -1", "pigz.tar.gz", "tar", "-I", "pigz -1", "-cf", "OUT", *files),
        peer("tar czf", "tar.gz", "tar", "czf", "OUT", *files),
    ]


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """While the block runs, look every 10 ms how much memory a process and those that it started hold together (MB).

    The list that is given has the highest seen so far as its last element. Linux only; elsewhere nothing is seen.
    """
    peaks = [0.0, 0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peaks.append(max(peaks.pop(), sum(resident(member) for member in tree(pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()


def tree(pid: int) -> Iterator[int]:
    """A process and those that it started, and so on."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                yield from tree(int(child))


def resident(pid: int) -> float:
    """Resident memory of a process in MB, mapped pages of files included; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    except (OSError, IndexError):
        return 0.0


def measure(way: Way, folder: Path) -> Cost:
    """Run one whole process, then remove what it wrote. Raises CalledProcessError where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(way.command, cwd=folder, stdout=subprocess.DEVNULL)
    with watched(process.pid) as peaks:
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, way.command)
    size = 0
    if way.output is not None:
        size = Path(way.output).stat().st_size
        Path(way.output).unlink()
    return Cost(seconds, usage.ru_utime + usage.ru_stime, max(usage.ru_maxrss / 1024, *peaks), size)


def yardstick(costs: dict[str, list[Cost]]) -> list[float]:
    """What cp and sha256sum take one after the other, in each round."""
    return [copy.seconds + hashed.seconds for copy, hashed in zip(costs["cp"], costs["sha256sum"], strict=True)]


def rows(size: int, runs: int, where: Path | None = None) -> Iterator[Row]:
    """Make the adapter, run every way in turn. Ways that are not installed are told on stderr."""
    with tempfile.TemporaryDirectory(dir=where, prefix="lora-packer-bench-") as name:
        folder, scratch = Path(name) / "adapter", Path(name) / "out"
        folder.mkdir()
        scratch.mkdir()
        # In a process of its own: a child's peak memory begins with that of the process which starts it.
        subprocess.run([sys.executable, __file__, "--make", str(folder), "--size", str(size)], check=True)
        found: list[Way] = []
        missing: list[Way] = []
        for way in ways(scratch, BASE_CONFIG):
            tool = "pigz" if way.name.startswith("pigz") else way.command[0]
            (found if shutil.which(tool) else missing).append(way)
        if missing:
            print(f"not installed, left out: {', '.join(way.name for way in missing)}", file=sys.stderr)
        costs: dict[str, list[Cost]] = {way.name: [measure(way, folder)] for way in found}
        for _ in range(runs - 1):
            for way in found:
                costs[way.name].append(measure(way, folder))
    beside = yardstick(costs)
    for ours in STORED:
        taken = {ours: [cost.seconds for cost in costs[ours]], "cp + sha256sum": beside}
        yield against_best(f"{ours} {size} MB", taken, ours, limit=1.0, more=_said(costs[ours]))
    peers = [peer for peer in COMPRESSING if peer in costs]
    for ours in COMPRESSED:
        taken = {name: [cost.seconds for cost in costs[name]] for name in (ours, *peers)}
        smallest = min(costs[peer][-1].size for peer in peers)
        more = f"{_said(costs[ours])}, {costs[ours][-1].size / smallest:.4f} of the smallest peer's bytes"
        yield against_best(f"{ours} {size} MB", taken, ours, limit=1.0, more=more)
        busy = {name: [cost.processor for cost in costs[name]] for name in taken}
        yield against_best(f"{ours} {size} MB, processor", busy, ours)


def _said(costs: list[Cost]) -> str:
    processor, memory = min(cost.processor for cost in costs), max(cost.memory for cost in costs)
    return f"processor {processor:.2f} s, peak {memory:.0f} MB"


def main() -> int:
    """Make the adapter, run every way in turn, print the table."""
    parser = argparse.ArgumentParser(description="Packing, side by side with its peers.")
    parser.add_argument("--size", type=int, default=671, choices=ADAPTERS, metavar="MB", help="of the weights, about")
    parser.add_argument("--runs", type=int, default=5, help="of each way")
    parser.add_argument("--folder", type=Path, help="where to work: the disk that is measured")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_adapter(options.make, options.size)
        return 0
    print(header(), flush=True)
    for row in rows(options.size, options.runs, options.folder):
        print(line(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
