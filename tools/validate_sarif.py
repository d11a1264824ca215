"""Hold real SARIF outputs of ``check`` against Microsoft's own validator, with its rules for GitHub's code scanning.

usage: python tools/validate_sarif.py [FOLDER]
       FOLDER is where npm installs ``@microsoft/sarif-multitool-linux`` (default: build/sarif-multitool). It needs npm,
       and a network for the first run. Exit 1 where the validator reports an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BASE = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
BROKEN = ROOT / "fixtures" / "broken"
PACKAGE = "@microsoft/sarif-multitool-linux"
# Folders that adapters are in: what a path may hold on one system or another.
NAMES = (
    "plain",
    "with space",
    "C:\\adapters\\mine",
    "a,b;c=d%20e",
    "größe 数",
    "::error::x",
    "line\nbreak",
    "a[1](b){0}",
    "-x",
)


def _validator(folder: Path) -> Path:
    """Install the validator where it is not there yet, and return its program."""
    program = folder / "node_modules" / PACKAGE / "Sarif.Multitool"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--no-save", "--prefix", folder, PACKAGE], check=True, capture_output=True)
    program.chmod(0o755)
    return program


def _outputs(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield what is checked in one call: its name, and the arguments of ``check``, relative to a folder."""
    config = (TINY / "adapter_config.json").read_text(encoding="utf-8")
    for at, name in enumerate(NAMES):
        shutil.copytree(TINY, folder / name)
        (folder / name / "adapter_config.json").write_text(
            config.replace("{", '{\n  "brand_new": 1,\n  "odd\\n::name [x](y) {0}": 2,', 1), encoding="utf-8"
        )
        yield f"name-{at}", ["--base-config", str(BASE), "--", name]
    with zipfile.ZipFile(folder / "an archive.zip", "w") as archive:
        for file in (BROKEN / "nan").iterdir():
            archive.write(file, file.name)
    yield "archive", ["an archive.zip", "--base-config", str(BASE)]
    yield "outside", [str(BROKEN / "nan"), "--base-config", str(BASE)]
    yield "several", ["plain", str(BROKEN / "missing-lora-b"), "nowhere", str(TINY), "--base-config", str(BASE)]
    yield "targets", ["plain", "--base-config", str(BASE), "--target", "together,vllm@0.31.0,sglang,mlx"]
    yield "all-targets", ["plain", "--base-config", str(BASE), "--target", "all"]
    yield "header-only", ["plain", "--base-config", str(BASE), "--no-weights"]
    yield "no-base", ["plain", "--base-config", "nowhere.json"]
    yield "no-adapter", ["nowhere"]
    yield "usage", ["--no-such-option"]
    yield "fine", [str(TINY), "--base-config", str(BASE)]


def main() -> int:
    """Write the outputs, validate them together, and print what the validator says."""
    program = _validator(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "sarif-multitool"))
    with tempfile.TemporaryDirectory() as name:
        folder, written = Path(name), Path(name) / "sarif"
        written.mkdir()
        for called, arguments in _outputs(folder):
            command = [sys.executable, "-m", "lora_packer", "check", "--format", "sarif", *arguments]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
            (written / f"{called}.sarif").write_text(done.stdout, encoding="utf-8")
        shutil.copy(ROOT / "tests" / "report" / "golden" / "every-rule.sarif", written)
        files = sorted(map(str, written.iterdir()))
        rules = ["--rule-kind", "Sarif;Ghas"]
        done = subprocess.run([program, "validate", *rules, *files], capture_output=True, text=True)
    said = re.findall(r"([\w.-]+\.sarif)\S*: (error|warning) (\w+): (.*)", done.stdout)
    for file, level, rule, text in said:
        sys.stdout.write(f"{file}: {level} {rule}: {text[:200]}\n")
    errors = [item for item in said if item[1] == "error"]
    sys.stdout.write(
        f"{len(files)} files, {len(errors)} errors, {len(said) - len(errors)} warnings; exit {done.returncode}\n"
    )
    return 1 if errors or done.returncode or f"{len(files)} files scanned" not in done.stdout else 0


if __name__ == "__main__":
    sys.exit(main())
