"""Write the table of rules into ``README.md``, and that of remote code into ``docs/supported-models.md``.

Each is made of declarations: of the rules, and of the model types that transformers does not have.

usage: python tools/make_docs.py [--check]     (--check: exit 1 where a table is not current)
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lora_packer.base_model import ARCHITECTURES  # noqa: E402
from lora_packer.inspector import RULES  # noqa: E402

README, MODELS = ROOT / "README.md", ROOT / "docs" / "supported-models.md"
BEGIN, END = "<!-- rules -->", "<!-- /rules -->"


def with_table(text: str) -> str:
    """Return the README with the table between its marks replaced."""
    rows = [f"| {rule.code} | {rule.name} | {rule.severity} | {rule.summary} |" for rule in RULES.values()]
    table = "\n".join([BEGIN, "| code | name | severity | what it finds |", "|---|---|---|---|", *rows, END])
    before, _, rest = text.partition(BEGIN)
    return before + table + rest.partition(END)[2]


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
    """Write the tables, or check them."""
    stale = 0
    for path, current in ((README, with_table), (MODELS, with_remote_code)):
        text = path.read_text(encoding="utf-8")
        if "--check" in sys.argv[1:]:
            stale |= current(text) != text
        else:
            path.write_text(current(text), encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
