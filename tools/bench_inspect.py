"""``make bench``: what a check costs as adapters grow: many tensors, many bytes, many of them.

Every adapter is made here, sparse on disk: a check without values reads the header alone.

usage: python tools/bench_inspect.py [RUNS]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench_rows import Row, against_best, header, line
from bench_start import processor_ms

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "fixtures" / "base-configs"
LLAMA = CONFIGS / "meta-llama--Llama-3.1-8B-Instruct.json"
KIMI = CONFIGS / "moonshotai--Kimi-K2-Instruct.json"
LLAMA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXPERT_TARGETS = ["gate_proj", "up_proj", "down_proj"]
# The header's own cost: what Python's JSON parser takes for it, in a process of its own.
PARSE = "import json, sys; f = open(sys.argv[1], 'rb'); json.loads(f.read(int.from_bytes(f.read(8), 'little')))"


def make_adapter(folder: Path, config: Path, targets: list[str], rank: int, dialect: str | None = None) -> int:
    """Write an adapter for the targets of a base model, its weights a hole in the file; return its tensors."""
    from lora_packer import BaseModel

    base = BaseModel.load(config)
    modules = base.modules if dialect is None else base.dialects[dialect]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for path, module in modules.items():
        if module.kind != "linear" or path.rpartition(".")[2] not in targets:
            continue
        rows, columns = module.weight_shape
        for part, shape in (("lora_A", [rank, columns]), ("lora_B", [rows, rank])):
            size = 2 * shape[0] * shape[1]
            name = f"base_model.model.{path}.{part}.weight"
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
            end += size
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    folder.mkdir()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    fields = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank, "target_modules": targets}
    fields |= {"base_model_name_or_path": config.stem.replace("--", "/")}
    (folder / "adapter_config.json").write_text(json.dumps(fields), encoding="utf-8")
    return len(header) - 1


def process_seconds(command: list[str]) -> float:
    """Return the wall time of one whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def in_process_seconds(folder: Path, config: Path) -> float:
    """Return the processor time of one call of ``check`` without values, warm."""
    import lora_packer

    started = time.process_time()
    report = lora_packer.check(folder, base_config=config, target="peft", weights=False)
    taken = time.process_time() - started
    assert report.ok, report.findings
    return taken


def rows(runs: int, *, adapters: int = 1000) -> Iterator[Row]:
    """Make the adapters, and run what is compared in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield _in_bytes(folder, runs)
        yield _in_tensors(folder, runs)
        yield _in_number(folder, runs, adapters)


def _in_bytes(folder: Path, runs: int) -> Row:
    """The same tensors, a thousand times as large: a header is a header."""
    ranks = (2, 2048)
    count = 0
    for rank in ranks:
        count = make_adapter(folder / f"rank{rank}", LLAMA, LLAMA_TARGETS, rank)
        in_process_seconds(folder / f"rank{rank}", LLAMA)
    times = [[in_process_seconds(folder / f"rank{rank}", LLAMA) for rank in ranks] for _ in range(4 * runs)]
    small, large = ([taken[index] for taken in times] for index in (0, 1))
    sizes = [(folder / f"rank{rank}" / "adapter_model.safetensors").stat().st_size / 1e6 for rank in ranks]
    compared = f"{sizes[0]:,.0f} MB"
    what = f"check --no-weights, {count} tensors, {sizes[1]:,.0f} MB"
    return against_best(what, {what: large, compared: small}, what, limit=1.1)


def _in_tensors(folder: Path, runs: int) -> Row:
    """As many tensors as an adapter of all experts has, beside what Python takes to parse its header."""
    count = make_adapter(folder / "kimi", KIMI, EXPERT_TARGETS, 8, "transformers-4")
    command = [sys.executable, "-m", "lora_packer", "check", str(folder / "kimi"), "--base-config", str(KIMI)]
    command += ["--target", "together", "--no-weights"]
    parse = [sys.executable, "-c", PARSE, str(folder / "kimi" / "adapter_model.safetensors")]
    pairs = [(processor_ms(command) / 1000, processor_ms(parse) / 1000) for _ in range(runs)]
    what, peer = f"check --no-weights, {count:,} tensors, processor", "json.loads of its header"
    return against_best(what, {what: [ours for ours, _ in pairs], peer: [theirs for _, theirs in pairs]}, what)


def _in_number(folder: Path, runs: int, adapters: int) -> Row:
    """Many adapters in one call, beside one in one call."""
    names = [f"adapter-{number}" for number in range(adapters)]
    make_adapter(folder / "first", LLAMA, LLAMA_TARGETS, 16)
    for name in names:
        shutil.copytree(folder / "first", folder / name, copy_function=os.link)
    command = [sys.executable, "-m", "lora_packer", "check", "--base-config", str(LLAMA), "--target", "peft"]
    command += ["--no-weights", "--quiet"]
    many = [*command, *(str(folder / name) for name in names)]
    one = [*command, str(folder / "first")]
    pairs = [(process_seconds(many), process_seconds(one)) for _ in range(runs)]
    what, peer = f"check --no-weights of {adapters:,} adapters", "of one adapter"
    figures = {what: [ours for ours, _ in pairs], peer: [theirs for _, theirs in pairs]}
    return against_best(what, figures, what, limit=15.0 if adapters == 1000 else None)


def main() -> int:
    """Print the table."""
    print(header())
    for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(line(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
