"""Write ``docs/targets.md``: what every target makes of adapters that PEFT wrote, one for each of its features.

usage: python tools/make_targets.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from facts_not_run import not_run
from generated import settle

import lora_packer
from lora_packer.adapter import REQUIRED
from lora_packer.adapter.adapter import read_adapter
from lora_packer.adapter.source import FolderSource
from lora_packer.targets import NAMES, find_target
from lora_packer.targets.features import used_features

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "targets.md"
CORPUS, OF = ROOT / "fixtures" / "peft-adapters.tar.xz", "peft-0.21-transformers-5.23/"
# Patterns of ranks of which two match a module: PEFT sorts them as it saves, and its own file does not load.
OVERLAP = ROOT / "fixtures" / "rankpat-overlap"
HEAD = """# What each target makes of an adapter

Every row is an adapter that PEFT 0.21 wrote for a small Llama with one of its features (`tparams`: for a small
Mixtral), and every cell what `check --target NAME` says of it: `ok`, the first warning (`~`), or the first error.
`lora-packer rule CODE` explains a code. `tools/make_targets.py` writes this page.

"""
READ = """
## What was read and not run

`make proof-targets` has vLLM, SGLang, llama.cpp's converter, MLX-LM and PEFT read these adapters and others, and a
check has to say what their own code does. The facts below were read, in the lines named, and no code was run for them.

| target | releases | feature | effect | where |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the page as it has to be."""
    lines = [f"| adapter | {' | '.join(NAMES)} |", f"|---|{'---|' * len(NAMES)}"]
    shown: set[str] = set()
    with tempfile.TemporaryDirectory() as work, tarfile.open(CORPUS) as archive:
        wanted = [item for item in archive if item.name.startswith((f"{OF}llama-", f"{OF}mixtral-tparams"))]
        archive.extractall(work, wanted, filter="data")
        shutil.copytree(OVERLAP, Path(work, OF, "llama-rankpat_overlap"))
        for folder in sorted(Path(work, OF).iterdir(), key=lambda folder: folder.name.partition("-")[2]):
            base = (folder / "base_config.json").rename(folder.with_suffix(".json"))
            for beside in set(folder.iterdir()) - {folder / name for name in REQUIRED}:
                beside.unlink()
            report = lora_packer.check(folder, base_config=base, target=NAMES, weights=False)
            cells = [_cell(report, find_target(name).label) for name in NAMES]
            lines.append(f"| {folder.name.partition('-')[2]} | {' | '.join(cells)} |")
            adapter = read_adapter(FolderSource(folder))
            assert adapter.config is not None
            shown |= set(used_features(adapter.config, adapter.tensors, adapter.files))
    read = "".join(f"| {' | '.join(_escaped(part) for part in fact)} |\n" for fact in not_run(shown))
    return HEAD + "\n".join(lines) + "\n" + READ + read


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _cell(report: lora_packer.Report, label: str) -> str:
    found = [item for item in report.findings if item.targets is None or label in item.targets]
    errors = [item.code for item in found if item.severity == "error"]
    warnings = [item.code for item in found if item.severity == "warning"]
    return errors[0] if errors else f"~ {warnings[0]}" if warnings else "ok"


def main() -> int:
    """Write the page, or check it."""
    return settle({PAGE: page()})


if __name__ == "__main__":
    sys.exit(main())
