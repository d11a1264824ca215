"""``lora-packer pack``: one root-level archive of an adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.named_files import takes_stdout
from lora_packer.cli.options import BaseModelOption, CheckFirst, ExtrasOption
from lora_packer.cli.stages import Stages, show_failed_check
from lora_packer.errors import InputError
from lora_packer.redact import escape

CompressOption = Annotated[
    bool,
    typer.Option(
        "--compress",
        help="Deflate members that get at least 5 % smaller. The members stay equal byte for byte; the archive's own "
        "bytes, and so its SHA-256, are the same again only with the same compressor version on a like processor.",
    ),
]


@command
def pack(
    *,
    adapter: Annotated[
        str,
        typer.Argument(
            metavar="ADAPTER", help="A folder with PEFT's two files; or an adapter elsewhere, as for check."
        ),
    ],
    archive: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The archive; its suffix, .zip or .tar.gz, chooses the format. - is standard output, and a .zip.",
        ),
    ] = None,
    compress: CompressOption = False,
    include_extras: ExtrasOption = False,
    base_model: BaseModelOption = None,
    first: CheckFirst,
    output: Output,
) -> None:
    """Check an adapter and pack it into a .zip or .tar.gz with its files at the root.

    The same adapter gives the same bytes, whatever the clock, umask, order or folder, on every machine: members are
    stored as they are. --compress gives that up for fewer bytes.
    """
    from lora_packer.pipeline.pack import check_and_pack

    stages = Stages(output, "pack")
    on_stdout = takes_stdout(archive, output, "--output")
    if on_stdout and sys.stdout.isatty():
        raise InputError("An archive is no text for a terminal.", hint="Pipe it on, or name a file with --output.")
    with show_failed_check(output), stages:
        packed, report = check_and_pack(
            adapter, archive, first.of(base_model), include_extras, compress, stages.note, stages.progress
        )
    for item in packed.left_out:
        output.detail(f"left out  {item.name}: {item.reason}")
    if packed.left_out and not output.verbose:
        output.note(f"left out  {len(packed.left_out)} other entries of the folder (--verbose names them)")
    name = "standard output" if on_stdout else escape(str(packed.path), 300)
    line = f"{name}  sha256 {packed.sha256}"
    if on_stdout:
        output.note(line)
        return
    check = report.to_dict() if report else None
    output.result(line, {"schema_version": 1, "archive": packed.to_dict(), "check": check})
