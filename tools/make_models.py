"""Write the table of remote code into ``docs/supported-models.md``, from the declarations of these model types.

usage: python tools/make_models.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from generated import settle  # noqa: E402

from lora_packer.base_model import ARCHITECTURES  # noqa: E402

PAGE = ROOT / "docs" / "supported-models.md"
_HEADING = "\n## Types of remote code\n"
_REMOTE = f"""{_HEADING}
Transformers has no class of these: their code is in the models' own repositories (`trust_remote_code`). *Built*: that
file was built on the meta device, and every module compared under 20 random configs (`make proof-remote`). *Read*: the
definition was written from that file, and nothing was built. A check says which (LP324).

| model type | how | from |
|---|---|---|
"""


def with_remote_code(text: str) -> str:
    """Return the page of base models with its table of remote code."""
    held = {name: ARCHITECTURES[name].proof for name in sorted(ARCHITECTURES)}
    rows = [f"| {name} | {proof.how} | {proof.source} |\n" for name, proof in held.items() if proof is not None]
    return text.partition(_HEADING)[0] + _REMOTE + "".join(rows)


def main() -> int:
    """Write the table, or check it."""
    return settle({PAGE: with_remote_code(PAGE.read_text(encoding="utf-8"))})


if __name__ == "__main__":
    sys.exit(main())
