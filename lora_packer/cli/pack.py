"""``lora-packer pack``: one root-level archive of an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_packer.cli.common import (
    BaseConfigOption,
    BaseModelOption,
    Format,
    FormatOption,
    NoColorOption,
    Output,
    QuietOption,
    TargetOption,
    VerboseOption,
    guarded,
)
from lora_packer.cli.progress import ProgressDisplay
from lora_packer.cli.stages import NoCheckOption, Stages, check_options, show_failed_check

ExtrasOption = Annotated[
    bool, typer.Option("--include-extras", help="Also pack what loaders use besides: README, tokenizer files.")
]
CompressOption = Annotated[
    bool,
    typer.Option(
        "--compress",
        help="Deflate members that get at least 5 % smaller. The members stay equal byte for byte; the archive's own "
        "bytes, and so its SHA-256, are the same again only with the same compressor version on a like processor.",
    ),
]


@guarded
def pack(
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="A folder with PEFT's two files.")],
    archive: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The archive; its suffix, .zip or .tar.gz, chooses the format."
        ),
    ] = None,
    compress: CompressOption = False,
    no_check: NoCheckOption = False,
    include_extras: ExtrasOption = False,
    base_model: BaseModelOption = None,
    base_config: BaseConfigOption = None,
    target: TargetOption = "together",
    output_format: FormatOption = Format.text,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Check an adapter and pack it into a .zip or .tar.gz with its files at the root.

    The same adapter gives the same bytes, whatever the clock, umask, order or folder, on every machine: members are
    stored as they are. --compress gives that up for fewer bytes.
    """
    from lora_packer.packager import compressor_name
    from lora_packer.packager import pack as write_archive
    from lora_packer.pipeline import adapter_folder, adapter_name, note_packed, run_check

    output = Output(output_format, quiet, verbose, no_color)
    stages = Stages(output)
    folder = adapter_folder(adapter)
    with show_failed_check(output):
        report = run_check(adapter, check_options(base_config, base_model, target, no_check), stages.note)
    if compress and compressor_name() == "zlib":
        output.note("note      isal is not installed, so zlib compresses, many times slower: pip install isal")
    progress = ProgressDisplay(output, "pack")
    try:
        packed = write_archive(
            folder,
            archive or Path(f"{adapter_name(adapter)}.zip"),
            include_extras=include_extras,
            compress=compress,
            checked=report.checked if report else {},
            progress=progress,
        )
    finally:
        progress.clear()
    note_packed(packed, stages.note)
    for item in packed.left_out:
        output.detail(f"left out  {item.name}: {item.reason}")
    if packed.left_out and not verbose:
        output.note(f"left out  {len(packed.left_out)} other entries of the folder (--verbose names them)")
    output.result(f"{packed.path}  sha256 {packed.sha256}", {"schema_version": 1, "archive": packed.to_dict()})
