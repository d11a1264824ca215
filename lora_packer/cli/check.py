"""``lora-packer check``: is this adapter fit for that base model and target?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.options import AdapterArgument, Against, BaseModelOption, FailOn
from lora_packer.errors import InputError

if TYPE_CHECKING:
    from lora_packer.finding import Finding
    from lora_packer.inspector import Report

EXIT_CODES = {"ok": 0, "failed": 1, "inconclusive": 3}
_COLORS = {"error": "red", "warning": "yellow", "info": "cyan"}


@command
def check(
    *,
    adapter: AdapterArgument,
    base_model: BaseModelOption = None,
    against: Against,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="Read the header only: no values, so no NaN, infinity or zeros.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Draw how large each module's update is, layers by modules.")
    ] = False,
    select: Annotated[
        list[str] | None, typer.Option("--select", metavar="CODES", help="Only these rules (LP3 means all LP3xx).")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these rules; commas or repeated.")
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="The severity at which the exit code is 1.")
    ] = FailOn.error,
    output_file: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the report to a file instead of stdout.")
    ] = None,
    output: Output,
) -> None:
    """Check an adapter against its base model: files, config, every tensor's name and shape, values.

    Exit 0: checked and fine. 1: findings. 2: nothing could be read. 3: a required check could not run.
    """
    from lora_packer.inspector import check as run_check

    if stats and no_weights:
        raise InputError("--stats reads the values, and --no-weights forbids it.", hint="Leave one of them out.")
    report = run_check(
        adapter,
        base_config=against.base_config,
        base_model=base_model,
        target=against.target,
        weights=not no_weights,
        select=_codes(select),
        ignore=_codes(ignore),
        fail_on="error" if fail_on is FailOn.error else "warning",
        stats=stats,
    )
    if output_file is not None:
        _write(output_file, _rendered(report, replace(output, no_color=True)))
    elif output.is_text:
        output.result(render(report, output), {})
    else:
        output.result("", report.to_dict())
    raise typer.Exit(EXIT_CODES[report.status])


def _codes(values: list[str] | None) -> list[str]:
    return [code for value in values or [] for code in value.replace(",", " ").split()]


def _rendered(report: Report, output: Output) -> str:
    import json

    return render(report, output) if output.is_text else json.dumps(report.to_dict(), indent=2)


def _write(path: Path, text: str) -> None:
    from lora_packer.files import write_whole

    try:
        write_whole(path, text + "\n")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error.strerror}.") from None


def render(report: Report, output: Output) -> str:
    """Return the report as text: what was checked, each finding with what to do, what was not checked, the verdict."""
    lines: list[str] = []
    if not output.quiet:
        lines += [*_heading(report), ""]
    if report.stats is not None:
        from lora_packer.cli.heatmap import heatmap

        lines += [*heatmap(report.stats, output), ""]
    for finding in report.findings:
        lines += _finding_lines(finding, output)
    for codes, reason in _unchecked(report):
        lines.append(f"{output.style('not checked', 'cyan')} {codes}: {reason}")
    if (report.findings or report.unchecked) and not output.quiet:
        lines.append("")
    lines.append(_verdict(report, output))
    return "\n".join(lines)


def _heading(report: Report) -> list[str]:
    adapter, base = report.adapter, report.base_model
    ranks = f", rank {_span(adapter.ranks)}" if adapter.ranks else ""
    dtypes = f", {'/'.join(adapter.dtypes)}" if adapter.dtypes else ""
    size = f"{adapter.tensors} tensors, {adapter.parameters:,} parameters{dtypes}{ranks}, {adapter.bytes:,} bytes"
    lines = [f"adapter     {adapter.source}", f"            {size}"]
    known = f"{base.model_type} ({base.config_source or 'given config'})" if base.model_type else "unknown"
    lines.append(f"base model  {base.id + ', ' if base.id else ''}{known}")
    lines.append(f"target      {report.target}")
    return lines


def _span(ranks: tuple[int, ...]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def _finding_lines(finding: Finding, output: Output) -> list[str]:
    label = output.style(finding.severity, "bold", _COLORS[finding.severity])
    lines = [f"{label} {finding.code} {finding.name}: {finding.message}"]
    if finding.tensor is not None:
        more = f" (and {finding.count - 1} more)" if finding.count > 1 else ""
        lines.append(f"    tensor    {finding.tensor}{more}")
    elif finding.field is not None:
        lines.append(f"    field     {finding.field}")
    if finding.expected is not None:
        lines.append(f"    expected  {_value(finding.expected)}")
    if finding.actual is not None:
        lines.append(f"    actual    {_value(finding.actual)}")
    if finding.hint is not None:
        lines.append(f"    next      {finding.hint}")
    return lines


def _value(value: object) -> str:
    if isinstance(value, list):
        return (
            " x ".join(map(str, value)) if all(isinstance(item, int) for item in value) else ", ".join(map(str, value))
        )
    return str(value)


def _unchecked(report: Report) -> list[tuple[str, str]]:
    """Group what was not checked by its reason: [(codes, reason)]."""
    reasons: dict[str, list[str]] = {}
    for item in report.unchecked:
        reasons.setdefault(item.reason, []).append(item.code)
    return [(", ".join(codes) if len(codes) < 8 else f"{codes[0]} to {codes[-1]}", r) for r, codes in reasons.items()]


def _verdict(report: Report, output: Output) -> str:
    counts = report.summary
    counted = f"{_count(counts['errors'], 'error')}, {_count(counts['warnings'], 'warning')}"
    if report.status == "ok":
        return f"{output.style('ok', 'bold', 'green')}: {counted}"
    if report.status == "failed":
        return f"{output.style('failed', 'bold', 'red')}: {counted}"
    return f"{output.style('inconclusive', 'bold', 'yellow')}: a required check could not run; {counted}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
