"""``lora-packer check``: is this adapter fit for that base model and target? One adapter, or many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lora_packer.cli.common import CheckOutput, Output, command
from lora_packer.cli.documents import Told, tell, text_of
from lora_packer.cli.ends import command_line
from lora_packer.cli.named_files import require_place
from lora_packer.cli.options import Against, BaseModelOption, Many, targets
from lora_packer.cli.page import Page, without_sizes
from lora_packer.cli.progress import ProgressDisplay
from lora_packer.errors import InputError, UsageError

if TYPE_CHECKING:
    from lora_packer.inspector import Report

_LARGE = 256_000_000  # bytes: what takes long enough for somebody to wonder how far it is
EXIT_CODES = {"ok": 0, "failed": 1, "inconclusive": 3}


@command
def check(
    *,
    adapters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ADAPTER...",
            help="A folder with PEFT's two files, a finished .zip or .tar.gz, hf://org/repo[@revision], "
            "s3://bucket/prefix/, s3://bucket/key.zip, or an archive's URL. Several are checked beside each other.",
        ),
    ] = None,
    many: Many,
    base_model: BaseModelOption = None,
    against: Against,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Read the header only: no values, so no NaN, infinity or zeros.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Draw how large each module's update is, layers by modules.")
    ] = False,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the report to this file instead; - is standard output."),
    ] = None,
    page: Page,
    output: CheckOutput,
) -> None:
    """Check an adapter against its base model: files, config, every tensor's name and shape, values.

    Exit 0: checked and fine. 1: findings. 2: nothing could be read. 3: a required check could not run.
    Of several: 1 where any failed or could not be read, else 3 where any was inconclusive.
    """
    if not adapters and many.manifest is None:
        raise UsageError("Missing argument 'ADAPTER...'.", hint="`lora-packer check --help` has every option.")
    if stats and no_weights:
        raise InputError("--stats reads the values, and --no-weights forbids it.", hint="Leave one of them out.")
    page.require(output_file, output)
    for adapter in adapters or ():
        require_place(output_file, "--output", adapter)
        page.require_place(adapter)
    sizes = page.sizes(asked=stats, weights=not no_weights)
    if many.manifest is not None or len(adapters or ()) > 1 or many.executor is not None:
        from lora_packer.cli.check_many import check_them

        options = {**against.arguments(), "base_model": base_model, "weights": not no_weights, "stats": sizes}
        raise typer.Exit(check_them(adapters or [], many, options, output_file, page, output))
    assert adapters
    report = _checked(adapters[0], base_model, against, output, weights=not no_weights, stats=sizes)
    page.write([report])
    told = Told((without_sizes(report, asked=stats),), against.fail_on.value, EXIT_CODES[report.status])
    if output_file is not None or not output.is_text:
        tell(told, output, output_file)
    elif not page.is_stdout:
        mending = fix_command(adapters[0], base_model, against, report)
        output.result(text_of(told, output) + (f"\nfixable: {mending}" if mending else ""), {})
    raise typer.Exit(told.exit_code)


def _checked(
    adapter: str,
    base_model: str | None,
    against: Against,
    output: Output,
    *,
    weights: bool,
    stats: bool | Literal["if-read"],
) -> Report:
    """Check one adapter, and show how far it is where that takes long."""
    from lora_packer.inspector import check as run_check

    display = ProgressDisplay(output, "check")

    def progress(done: int, total: int) -> None:
        if total >= _LARGE:
            display(done, total)

    report = run_check(
        adapter, base_model=base_model, weights=weights, stats=stats, progress=progress, **against.arguments()
    )
    display.clear()
    return report


def fix_command(adapter: str, base_model: str | None, against: Against, report: Report) -> str | None:
    """Return the command that mends what a check found, or None where no finding is fixable."""
    if not any(finding.fixable for finding in report.findings):
        return None
    words = ["fix", adapter]
    given = ("--base-model", base_model), ("--base-config", against.base_config)
    words += [word for name, value in given if value is not None for word in (name, value)]
    if against.target is not None:
        words += ["--target", targets(against.target)]
    return command_line(*words)
