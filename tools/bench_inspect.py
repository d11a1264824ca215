"""``make bench``: what a check costs as adapters grow: many tensors, many bytes.

Every adapter is made here, sparse on disk: a check without values reads the header alone.

usage: python tools/bench_inspect.py [RUNS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

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
    """Return the time of one call of ``check`` without values, warm."""
    import lora_packer

    started = time.perf_counter()
    report = lora_packer.check(folder, base_config=config, target="peft", weights=False)
    taken = time.perf_counter() - started
    assert report.ok, report.findings
    return taken


def row(name: str, taken: Iterable[float], what: str) -> None:
    """Print one line of the table."""
    times = [1000 * seconds for seconds in taken]
    print(f"{name:<52}{min(times):>9.1f}{statistics.median(times):>9.1f}{max(times):>9.1f}   {what}")


def main() -> int:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"lora-packer check --no-weights as adapters grow, {runs} runs")
    print(f"{'':<52}{'min ms':>9}{'median':>9}{'max':>9}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = make_adapter(folder / "llama", LLAMA, LLAMA_TARGETS, 16)
        plain = [in_process_seconds(folder / "llama", LLAMA) for _ in range(4 * runs)]
        row(f"{count} tensors, in process", plain[1:], "")
        sizes = {}
        for rank in (2, 2048):
            make_adapter(folder / f"rank{rank}", LLAMA, LLAMA_TARGETS, rank)
            size = (folder / f"rank{rank}" / "adapter_model.safetensors").stat().st_size
            sizes[rank] = [in_process_seconds(folder / f"rank{rank}", LLAMA) for _ in range(4 * runs)][1:]
            row(f"{count} tensors, {size / 1e6:,.0f} MB, in process", sizes[rank], "")
        ratio = statistics.median(sizes[2048]) / statistics.median(sizes[2])
        print(f"{'':<52}large to small: {ratio:.2f}")
        count = make_adapter(folder / "kimi", KIMI, EXPERT_TARGETS, 8, "transformers-4")
        command = [sys.executable, "-m", "lora_packer", "check", str(folder / "kimi"), "--base-config", str(KIMI)]
        command += ["--target", "peft", "--no-weights"]
        parse = [sys.executable, "-c", PARSE, str(folder / "kimi" / "adapter_model.safetensors")]
        pairs = [(process_seconds(command), process_seconds(parse)) for _ in range(runs)]
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
        row(f"{count:,} tensors, whole process", [ours for ours, _ in pairs], f"{ratio:.1f} x the header's parse")
        row("json.loads of that header, whole process", [theirs for _, theirs in pairs], "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
