"""``lora-packer publish``: check, pack, upload to S3, mint and prove a presigned URL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lora_packer.cli.check import AdapterArgument
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
from lora_packer.cli.pack import ExtrasOption
from lora_packer.cli.stages import (
    DestinationOption,
    EndpointOption,
    ExpiryOption,
    NoCheckOption,
    Stages,
    check_options,
    show_failed_check,
    write_url,
)
from lora_packer.duration import parse_duration


@guarded
def publish(
    adapter: AdapterArgument,
    to: DestinationOption,
    expires_in: ExpiryOption = "12h",
    endpoint_url: EndpointOption = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", metavar="NAME", help="What the object's name begins with.")
    ] = None,
    url_file: Annotated[
        Path | None, typer.Option("--url-file", metavar="FILE", help="Write the URL into this file, mode 0600.")
    ] = None,
    show_url: Annotated[
        bool, typer.Option("--show-url", help="Print the URL. It is a secret: whoever has it can download.")
    ] = False,
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
    """Check an adapter, pack it, upload it to S3, mint a presigned URL that lives, and prove it.

    The URL is a secret: it is printed with --show-url only, or written by --url-file. Credentials come from AWS's own
    chain (environment, profile, role).
    """
    from lora_packer.pipeline import publish as run_publish

    output = Output(output_format, quiet, verbose, no_color)
    stages = Stages(output)
    with show_failed_check(output):
        done = run_publish(
            adapter,
            to=to,
            expires_in=parse_duration(expires_in),
            endpoint_url=endpoint_url,
            name=model_name,
            options=check_options(base_config, base_model, target, no_check),
            include_extras=include_extras,
            note=stages.note,
            progress=stages.progress,
        )
    published = done.published
    if url_file is not None:
        write_url(published.url, url_file)
    lines = [f"object    {published.object.uri}", f"sha256    {published.object.sha256}"]
    lines.append(f"url       {published.url.reveal() if show_url else published.url}")
    lines.append(f"deadline  {published.deadline:%Y-%m-%dT%H:%M:%SZ}")
    if url_file is not None:
        lines.append(f"next      lora-packer submit --url-file {url_file} --model-name NAME --base-model ID")
    elif not show_url:
        lines.append(
            "next      run it again with --url-file FILE (or --show-url) to get the URL; nothing is sent twice"
        )
    data = {"schema_version": 1, **published.to_dict()}
    if show_url:
        data["presigned_url"] = published.url.reveal()
    output.result("\n".join(lines), data)
