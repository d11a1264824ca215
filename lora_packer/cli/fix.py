"""``lora-packer fix``: what can be mended without loss, into a new folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.options import AdapterArgument, BaseConfigOption, BaseModelOption, TargetOption, targets
from lora_packer.cli.progress import ProgressDisplay
from lora_packer.errors import InputError
from lora_packer.files import names_stdout

_LARGE = 256_000_000  # bytes
EXIT_CODES = {"fixed": 0, "unchanged": 0, "failed": 1, "inconclusive": 3}


@command
def fix(
    *,
    adapter: AdapterArgument,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="The new folder; it must not be there yet, or be empty. Default: ADAPTER-fixed, beside the adapter.",
        ),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Show what would be changed, and write nothing.")] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="NAME",
            help="Also a repair that loses something (rank-from-tensors, bfloat16, svd-rank=N), or another form of the "
            "same adapter (plain-scale, listed-targets, fused-experts, per-expert, mlx, kohya, torchtune, megatron); "
            "may be repeated.",
        ),
    ] = None,
    base_weights: Annotated[
        Path | None,
        typer.Option(
            "--base-weights",
            metavar="PATH",
            help="The base model's own weights, a folder or a .safetensors file: copies of them are taken out.",
        ),
    ] = None,
    base_model: BaseModelOption = None,
    base_config: BaseConfigOption = None,
    target: TargetOption = None,
    output: Output,
) -> None:
    """Mend what can be mended without loss, into a new folder, and check what came out.

    The adapter itself is never changed. Each repair says what it did and why nothing is lost by it; what cannot be
    mended says why, and what to do instead.

    Exit 0: the result passes its check. 1: it still fails. 2: nothing could be read. 3: a required check could not run.
    """
    from lora_packer.pipeline.fix import fix as run_fix
    from lora_packer.report.fix import render

    if folder is not None and names_stdout(folder):
        raise InputError(
            "A mended adapter is a folder, and none can be written to standard output.",
            hint="Name a new folder with --output.",
        )
    display = ProgressDisplay(output, "copy")

    def progress(done: int, total: int) -> None:
        if total >= _LARGE:
            display(done, total)

    fixed = run_fix(
        adapter,
        folder,
        base_config=base_config,
        base_model=base_model,
        target=targets(target),
        allow=[name for item in allow or [] for name in item.replace(",", " ").split()],
        base_weights=base_weights,
        diff=diff,
        progress=progress,
    )
    display.clear()
    output.result(render(fixed, output, diff=diff) if output.is_text else "", fixed.to_dict())
    raise typer.Exit(EXIT_CODES[fixed.status])
