"""``make bench``: packing an adapter, side by side with what people use today, in one run on one disk.

usage: python tools/bench_pack.py [--size MB] [--runs N] [--folder FOLDER]

The adapter has the shapes of Llama-3.1-8B, seven modules, bf16, rank 128: 671 MB. ``--size`` makes one with fewer
layers. Its values are random and normal, as those of trained weights nearly are. Peers that are not installed are left
out by name. Each figure is of one whole process, with all processes that it starts; of the runs the fastest is shown,
and of their peaks the highest. After it comes the table of ``bench_values.py`` for the same weights.
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

LAYERS, RANK, HIDDEN, KEY_VALUE, MLP = 32, 128, 4096, 1024, 14336
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
LAYER_BYTES = 2 * RANK * sum(i + o for i, o in MODULES.values())

ZIPFILE = (
    "import sys, zipfile\n"
    "with zipfile.ZipFile(sys.argv[1], 'w') as archive:\n"
    "    for name in sys.argv[2:]: archive.write(name)"
)
TARFILE = (
    "import sys, tarfile\n"
    "with tarfile.open(sys.argv[1], 'w') as archive:\n"
    "    for name in sys.argv[2:]: archive.add(name)"
)


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


def make_adapter(folder: Path, layers: int) -> None:
    """Write an adapter with this many layers."""
    import numpy as np

    header: dict[str, object] = {}
    tensors: list[tuple[int, float]] = []
    offset = 0
    for layer in range(layers):
        for module, (inputs, outputs) in MODULES.items():
            for part, shape, scale in (("lora_A", (RANK, inputs), 0.02), ("lora_B", (outputs, RANK), 0.005)):
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
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": [module.split(".")[1] for module in MODULES],
    }
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")


def ways(scratch: Path, base_config: Path) -> list[Way]:
    """Return all ways; they run in the adapter's folder."""

    def ours(name: str, suffix: str, *options: str) -> Way:
        output = str(scratch / f"ours.{suffix}")
        command = [sys.executable, "-m", "lora_packer", "pack", ".", "--quiet", "--output", output, *options]
        return Way(f"lora-packer {name}", command, output)

    def peer(name: str, suffix: str, *command: str) -> Way:
        output = str(scratch / f"peer.{suffix}")
        return Way(name, [output if part == "OUT" else part for part in command], output)

    files = (CONFIG, WEIGHTS)
    return [
        peer("cp", "copy", "cp", WEIGHTS, "OUT"),
        Way("sha256sum", ["sha256sum", WEIGHTS]),
        ours("zip", "zip", "--no-check"),
        ours("tar.gz", "tar.gz", "--no-check"),
        ours("check + zip", "zip", "--base-config", str(base_config)),
        ours("zip --compress", "zip", "--no-check", "--compress"),
        ours("tar.gz --compress", "tar.gz", "--no-check", "--compress"),
        peer("Python zipfile, stored", "py.zip", sys.executable, "-c", ZIPFILE, "OUT", *files),
        peer("Python tarfile, plain", "py.tar", sys.executable, "-c", TARFILE, "OUT", *files),
        peer("zip -0", "0.zip", "zip", "-q", "-0", "OUT", *files),
        peer("zip -1", "1.zip", "zip", "-q", "-1", "OUT", *files),
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


def print_table(costs: dict[str, list[Cost]], weights: int) -> None:
    """Print one line for each way."""
    yardstick = sum(min(cost.seconds for cost in costs[name]) for name in ("cp", "sha256sum"))
    columns = ("seconds", "CPU s", "ratio to cp + sha256sum", "size", "of weights", "peak MB")
    print(f"{'':<30}{columns[0]:>8}{columns[1]:>8}{columns[2]:>25}{columns[3]:>15}{columns[4]:>12}{columns[5]:>9}")
    for name, runs in costs.items():
        seconds, last = min(cost.seconds for cost in runs), runs[-1]
        processor = min(cost.processor for cost in runs)
        size = f"{last.size:,}" if last.size else ""
        share = f"{last.size / weights:.3f}" if last.size else ""
        memory = max(cost.memory for cost in runs)
        print(
            f"{name:<30}{seconds:>8.2f}{processor:>8.2f}{seconds / yardstick:>25.2f}{size:>15}{share:>12}{memory:>9.0f}"
        )


def main() -> int:
    """Make the adapter, run every way in turn, print the table."""
    parser = argparse.ArgumentParser(description="Packing, side by side with its peers.")
    parser.add_argument("--size", type=int, default=671, metavar="MB", help="about how large the weights are")
    parser.add_argument("--runs", type=int, default=3, help="of each way; those over 10 s run once")
    parser.add_argument("--folder", type=Path, help="where to work: the disk that is measured")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    layers = max(1, min(LAYERS, round(options.size * 1_000_000 / LAYER_BYTES)))
    if options.make:
        make_adapter(options.make, layers)
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="lora-packer-bench-") as name:
        folder, scratch = Path(name) / "adapter", Path(name) / "out"
        folder.mkdir()
        scratch.mkdir()
        # In a process of its own: a child's peak memory begins with that of the process which starts it.
        subprocess.run([sys.executable, __file__, "--make", str(folder), "--size", str(options.size)], check=True)
        weights = (folder / WEIGHTS).stat().st_size
        found: list[Way] = []
        missing: list[Way] = []
        base_config = Path(name) / "config.json"
        base = json.loads(BASE_CONFIG.read_text(encoding="utf-8"))
        base_config.write_text(json.dumps(base | {"num_hidden_layers": layers}), encoding="utf-8")
        for way in ways(scratch, base_config):
            tool = "pigz" if way.name.startswith("pigz") else way.command[0]
            (found if shutil.which(tool) else missing).append(way)
        print(
            f"pack: weights of {weights:,} bytes, {os.cpu_count()} processors, {options.runs} runs in turn\n",
            flush=True,
        )
        costs: dict[str, list[Cost]] = {way.name: [measure(way, folder)] for way in found}
        for _ in range(options.runs - 1):
            for way in found:
                if costs[way.name][0].seconds < 10:
                    costs[way.name].append(measure(way, folder))
        print_table(costs, weights)
        print("CPU s: of all processors; peak MB: resident, of all processes together, mapped pages included")
        if missing:
            print(f"not installed, left out: {', '.join(way.name for way in missing)} (see make bench-tools)")
        print(flush=True)
        subprocess.run([sys.executable, str(TOOLS / "bench_values.py"), str(folder / WEIGHTS)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
