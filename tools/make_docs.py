"""Write the table of rules into ``README.md``, from the rules' own declarations.

usage: python tools/make_docs.py [--check]     (--check: exit 1 where the table is not current)
"""

from __future__ import annotations

import sys
from pathlib import Path

from lora_packer.inspector import RULES

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- rules -->", "<!-- /rules -->"


def with_table(text: str) -> str:
    """Return the README with the table between its marks replaced."""
    rows = [f"| {rule.code} | {rule.name} | {rule.severity} | {rule.summary} |" for rule in RULES.values()]
    table = "\n".join([BEGIN, "| code | name | severity | what it finds |", "|---|---|---|---|", *rows, END])
    before, _, rest = text.partition(BEGIN)
    return before + table + rest.partition(END)[2]


def main() -> int:
    """Write the table, or check it."""
    text = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        return 0 if with_table(text) == text else 1
    README.write_text(with_table(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
