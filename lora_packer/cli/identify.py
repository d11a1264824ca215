"""``lora-packer identify``: which known base models do these tensors fit?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.options import AdapterArgument

if TYPE_CHECKING:
    from lora_packer.inspector.identify import Candidate

_NEAREST = 5


@command
def identify(
    *,
    adapter: AdapterArgument,
    output: Output,
) -> None:
    """Say which known base models an adapter's tensors fit, best first.

    Exit 0: at least one fits. 1: none does. 2: nothing could be read. 3: a pattern could not be evaluated.
    """
    from lora_packer.inspector.identify import identify as run_identify

    found = run_identify(adapter)
    rows = [asdict(item) for item in found]
    output.result(_text(found, output), {"schema_version": 1, "adapter": adapter, "candidates": rows})
    raise typer.Exit(0 if any(item.fits for item in found) else 1)


def _text(found: tuple[Candidate, ...], output: Output) -> str:
    """The ones that fit; the others too with --verbose, and the nearest of them where none fits."""
    fitting = [item for item in found if item.fits]
    others = [item for item in found if not item.fits]
    lines = [f"{output.style('fits', 'bold', 'green')}  {item.id} ({item.model_type})" for item in fitting]
    if not fitting:
        lines.append(f"{output.style('none', 'bold', 'red')}  of the known base models fits these tensors")
    shown = others if output.verbose else others[:_NEAREST] if not fitting else []
    for item in shown:
        off = "1 mismatch" if item.mismatches == 1 else f"{item.mismatches} mismatches"
        lines.append(f"      {item.id} ({item.model_type}): {off}; {item.first_mismatch}")
    if len(fitting) > 1 and not output.quiet:
        lines.append(
            "Models of equal shapes cannot be told apart by their tensors: an instruct model and its base, say."
        )
    return "\n".join(lines)
