"""Write ``docs/rules/``: a page for each rule, from its declaration and an example that is a test.

usage: python tools/make_docs.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(ROOT), str(ROOT / "tests" / "support")]

from every_rule import CASES, GOOD, Case, example  # noqa: E402
from generated import plain, settle  # noqa: E402
from rule_pages import PRINTED, Example, build, library_reads  # noqa: E402

from lora_packer.cli import build as build_cli  # noqa: E402
from lora_packer.inspector import RULES  # noqa: E402
from lora_packer.inspector.rules import Rule  # noqa: E402

PAGES = ROOT / "docs" / "rules"
GROUPS = {
    "1": "Files",
    "2": "The config",
    "3": "Tensors against the base model",
    "4": "Values",
    "5": "The place that loads it",
}
NEEDS = {
    "files": "the adapter's files",
    "base": "the base model's config",
    "values": "the tensors' values",
}
_COMMAND = "lora-packer check my-adapter"
_WORDS = {"error": "an error", "warning": "a warning", "info": "a note"}


def rule_page(rule: Rule, case: Case) -> str:
    """Return a rule's page."""
    parts = [
        f"# {rule.code} {rule.name}",
        f"**{plain(rule.summary)}**",
        f"This is {_WORDS[rule.severity]}, where the target does not say otherwise. To find it, `check` needs "
        f"{NEEDS[rule.needs]}.",
        "## Why it matters",
        plain(rule.why),
        "## What to do",
        plain(rule.fix),
    ]
    if rule.fixable:
        parts.append("Where a finding says that it is fixable, [`lora-packer fix`](../fix.md) mends it without loss.")
    explained = dict.fromkeys(effect.code for effect in rule.explains if effect.code in RULES.keys() - {rule.code})
    if explained:
        links = ", ".join(f"[{code}]({code}.md) {RULES[code].name}" for code in explained)
        parts += [
            "## What else it causes",
            f"These follow from it, and are then not told as findings of their own: {links}.",
        ]
    parts += [
        "## Look for it alone, or leave it out",
        f"```sh\n{_COMMAND} --select {rule.code}\n{_COMMAND} --ignore {rule.code}\n```",
        "## An example",
        "What `check` says of a small adapter with this fault, and all that it is made of. A test builds it from here.",
    ]
    return "\n\n".join([*parts, shown(rule.code, case)])


def shown(name: str, case: Case) -> str:
    """Return an example: the command, what it prints, and what the adapter is made of."""
    with tempfile.TemporaryDirectory() as made:
        text = example(name, case, Path(made))
    return text.replace(PRINTED, printed(text))


def printed(text: str) -> str:
    """Return what the command of a page's example prints, on what the page says."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}):
        said, other = build(text, Path())
        with library_reads(other, Path()):
            return run(said)


def run(said: Example) -> str:
    """Return what a command prints in the working folder."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        build_cli()(said.command.split())
    return out.getvalue()


def index() -> str:
    """Return the page that lists the rules by group."""
    parts = ["# Rules", "Each finding of `check` has the code of a rule. A code never changes its meaning."]
    for group, title in GROUPS.items():
        lines = ["| code | name | severity | what it finds |", "|---|---|---|---|"]
        for rule in RULES.values():
            if rule.code[2] == group:
                cells = f"[{rule.code}]({rule.code}.md)", rule.name, rule.severity, plain(rule.summary)
                lines.append(f"| {' | '.join(cells)} |")
        parts += [f"## {title}", "\n".join(lines)]
    parts += ["## A good adapter", "The examples of the rules are this one with a fault.", shown("good-adapter", GOOD)]
    return "\n\n".join(parts)


def main() -> int:
    """Write the pages, or check them."""
    if missing := sorted(set(RULES) - set(CASES)):
        sys.stderr.write(f"tests/support/every_rule.py has no case for {', '.join(missing)}\n")
        return 1
    os.environ["NO_COLOR"] = "1"
    made: dict[Path, str | bytes] = {PAGES / "index.md": index()}
    made |= {PAGES / f"{code}.md": rule_page(rule, CASES[code]) for code, rule in RULES.items()}
    return settle(made, only=PAGES.glob("*.md"))


if __name__ == "__main__":
    sys.exit(main())
