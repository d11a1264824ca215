"""``make bench``: packing an adapter, side by side with what people use today, in one run on one disk.

usage: python tools/bench_pack.py [--size MB] [--runs N] [--folder FOLDER]

The adapter has the shapes of Llama-3.1-8B, seven modules, bf16, rank 128: 671 MB. ``--size`` makes one with fewer
layers. Its values are random and normal, as those of trained weights nearly are. Peers that are not installed are left
out by name. Each figure is of one whole process; the least of the runs is shown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
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
    """What a whole process took: seconds, peak resident memory in MB, bytes written."""

    seconds: float
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


def ways(scratch: Path) -> list[Way]:
    """Return all ways; they run in the adapter's folder."""

    def ours(name: str, *options: str) -> Way:
        output = str(scratch / f"ours.{name}")
        command = [sys.executable, "-m", "lora_packer", "pack", ".", "--no-check", "--quiet", "--output", output]
        return Way(f"lora-packer {name} {' '.join(options)}".strip(), [*command, *options], output)

    def peer(name: str, suffix: str, *command: str) -> Way:
        output = str(scratch / f"peer.{suffix}")
        return Way(name, [output if part == "OUT" else part for part in command], output)

    files = (CONFIG, WEIGHTS)
    return [
        peer("cp", "copy", "cp", WEIGHTS, "OUT"),
        Way("sha256sum", ["sha256sum", WEIGHTS]),
        ours("zip"),
        ours("tar.gz"),
        ours("zip", "--compress"),
        ours("tar.gz", "--compress"),
        peer("Python zipfile, stored", "py.zip", sys.executable, "-c", ZIPFILE, "OUT", *files),
        peer("Python tarfile, plain", "py.tar", sys.executable, "-c", TARFILE, "OUT", *files),
        peer("zip -0", "0.zip", "zip", "-q", "-0", "OUT", *files),
        peer("zip -1", "1.zip", "zip", "-q", "-1", "OUT", *files),
        peer("pigz -1", "pigz.tar.gz", "tar", "-I", "pigz -1", "-cf", "OUT", *files),
        peer("tar czf", "tar.gz", "tar", "czf", "OUT", *files),
    ]


def measure(way: Way, folder: Path) -> Cost:
    """Run one whole process, then remove what it wrote. Raises CalledProcessError where it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(way.command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, way.command)
    size = 0
    if way.output is not None:
        size = Path(way.output).stat().st_size
        Path(way.output).unlink()
    return Cost(seconds, usage.ru_maxrss / 1024, size)


def print_table(costs: dict[str, list[Cost]], weights: int) -> None:
    """Print one line for each way."""
    yardstick = sum(min(cost.seconds for cost in costs[name]) for name in ("cp", "sha256sum"))
    print(f"{'':<28}{'seconds':>9}{'ratio to cp + sha256sum':>25}{'size':>15}{'of weights':>12}{'peak MB':>9}")
    for name, runs in costs.items():
        seconds, last = min(cost.seconds for cost in runs), runs[-1]
        size = f"{last.size:,}" if last.size else ""
        share = f"{last.size / weights:.3f}" if last.size else ""
        memory = max(cost.memory for cost in runs)
        print(f"{name:<28}{seconds:>9.2f}{seconds / yardstick:>25.2f}{size:>15}{share:>12}{memory:>9.0f}")


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
        for way in ways(scratch):
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
    print("peak MB: resident memory; what is below that of the bench itself, some 15 MB, shows as that")
    if missing:
        print(f"not installed, left out: {', '.join(way.name for way in missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
