"""Write ``docs/targets.md``: what every target makes of adapters that PEFT wrote, one for each of its features.

usage: python tools/make_targets.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

from generated import settle

import lora_packer
from lora_packer.adapter import REQUIRED
from lora_packer.targets import NAMES, find_target

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "targets.md"
CORPUS, OF = ROOT / "fixtures" / "peft-adapters.tar.xz", "peft-0.21-transformers-5.23/llama-"
HEAD = """# What each target makes of an adapter

Every row is an adapter that PEFT 0.21 wrote for a small Llama with one of its features, and every cell what
`check --target NAME` says of it: `ok`, the first warning (`~`), or the first error. `lora-packer rule CODE` explains
a code. `tools/make_targets.py` writes this page.

"""


def page() -> str:
    """Return the page as it has to be."""
    lines = [f"| adapter | {' | '.join(NAMES)} |", f"|---|{'---|' * len(NAMES)}"]
    with tempfile.TemporaryDirectory() as work, tarfile.open(CORPUS) as archive:
        archive.extractall(work, [item for item in archive if item.name.startswith(OF)], filter="data")
        for folder in sorted(Path(work, *OF.split("/")[:-1]).iterdir()):
            base = (folder / "base_config.json").rename(folder.with_suffix(".json"))
            for beside in set(folder.iterdir()) - {folder / name for name in REQUIRED}:
                beside.unlink()
            report = lora_packer.check(folder, base_config=base, target=NAMES, weights=False)
            cells = [_cell(report, find_target(name).label) for name in NAMES]
            lines.append(f"| {folder.name.partition('-')[2]} | {' | '.join(cells)} |")
    return HEAD + "\n".join(lines) + "\n"


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
