"""``lora-packer rule``: the rules, and one rule explained."""

from __future__ import annotations

import sys
import textwrap
from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.streams import columns
from lora_packer.errors import InputError


@command
def rule(
    *,
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="A rule's code or name; all rules without.")
    ] = None,
    output: Output,
) -> None:
    """List the rules, or explain one: what it finds, why it matters, how to fix it."""
    from lora_packer.inspector import RULES

    if code is None:
        rows = [f"{item.code}  {item.severity:<8} {item.name:<22} {item.summary}" for item in RULES.values()]
        output.result("\n".join(rows), {"schema_version": 1, "rules": [item.to_dict() for item in RULES.values()]})
        return
    found = RULES.get(code.upper()) or next((item for item in RULES.values() if item.name == code.lower()), None)
    if found is None:
        raise InputError(f"there is no rule {code!r}.", hint="`lora-packer rule` lists them all.")
    fixable = "A lossless repair exists." if found.fixable else ""
    text = "\n\n".join(
        [
            f"{found.code} {found.name} ({found.severity})",
            _wrapped(f"What it finds: {found.summary}"),
            _wrapped(f"Why it matters: {found.why}"),
            _wrapped(f"How to fix it: {found.fix} {fixable}".rstrip()),
        ]
    )
    output.result(text, {"schema_version": 1, "rule": found.to_dict()})


def _wrapped(text: str) -> str:
    return textwrap.fill(text, min(columns(sys.stdout), 100) if sys.stdout.isatty() else 100)
