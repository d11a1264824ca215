"""Write what every format says of an adapter for every rule into ``tests/report/golden/``.

usage: python tools/make_goldens.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests" / "support"))

from every_rule import CASES, reports  # noqa: E402
from generated import settle  # noqa: E402

from lora_packer.inspector import RULES, Report  # noqa: E402
from lora_packer.redact import inert  # noqa: E402
from lora_packer.report import formats, github, json, several  # noqa: E402

GOLDEN = ROOT / "tests" / "report" / "golden"


class _Plain:
    """No colours, and everything that is told without --verbose."""

    quiet = verbose = False

    def style(self, text: str, *_names: str) -> str:
        return text


def documents(told: list[Report]) -> dict[str, str]:
    """Return the name of each golden file with what belongs into it."""
    machines = {name: formats.render(name, told, exit_code=1) for name in ("sarif", "junit", "github")}
    return {
        "every-rule.txt": inert("\n".join(several.block(item, _Plain()) for item in told)),
        "every-rule.json": json.render_many(told),
        # The project's address is what its installed package says, which may be an older one.
        "every-rule.sarif": re.sub(r'\n *"informationUri": .*', "", machines["sarif"]),
        "every-rule.junit.xml": machines["junit"],
        "every-rule.github.txt": machines["github"],
        "every-rule.summary.md": github.summary(told),
    }


def _made() -> dict[str, str]:
    os.environ.pop("GITHUB_WORKSPACE", None)
    with tempfile.TemporaryDirectory() as folder:
        told = reports(Path(folder))
        here = Path.cwd()
        os.chdir(folder)  # the places of findings are told relative to it
        try:
            return {name: f"{text}\n" for name, text in documents(list(told.values())).items()}
        finally:
            os.chdir(here)


def main() -> int:
    """Write the files, or check them."""
    if missing := sorted(set(RULES) - set(CASES)):
        sys.stderr.write(f"tests/support/every_rule.py has no case for {', '.join(missing)}\n")
        return 1
    return settle({GOLDEN / name: text for name, text in _made().items()})


if __name__ == "__main__":
    sys.exit(main())
