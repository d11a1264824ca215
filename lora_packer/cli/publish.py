"""``lora-packer publish``: check, pack, upload to S3, mint and prove a presigned URL."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from lora_packer.errors import InputError

if TYPE_CHECKING:
    from lora_packer.publisher import Published


class Verify(StrEnum):
    """How much of the object the proof of a URL downloads."""

    ends = "ends"
    full = "full"


UrlFileOption = Annotated[
    Path | None, typer.Option("--url-file", metavar="FILE", help="Write the URL into this file, mode 0600.")
]
ShowUrlOption = Annotated[
    bool, typer.Option("--show-url", help="Print the URL. It is a secret: whoever has it can download.")
]
PrivateEndpointOption = Annotated[
    bool,
    typer.Option(
        "--allow-private-endpoint", help="Take an endpoint that the internet does not reach, or plain http, too."
    ),
]
VerifyOption = Annotated[
    Verify,
    typer.Option("--verify", help="What the proof downloads: the first and last bytes, or everything, and hashes it."),
]


@guarded
def publish(
    to: DestinationOption,
    adapter: Annotated[
        str | None, typer.Argument(metavar="ADAPTER", help="A folder, or a .zip or .tar.gz archive.")
    ] = None,
    expires_in: ExpiryOption = "12h",
    endpoint_url: EndpointOption = None,
    allow_private_endpoint: PrivateEndpointOption = False,
    verify: VerifyOption = Verify.ends,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal", metavar="FILE", help="Name the upload in this file while it is unfinished, to resume from."
        ),
    ] = None,
    clean: Annotated[
        bool,
        typer.Option("--clean", help="Instead of publishing, remove the unfinished uploads of archives below --to."),
    ] = False,
    model_name: Annotated[
        str | None, typer.Option("--model-name", metavar="NAME", help="What the object's name begins with.")
    ] = None,
    url_file: UrlFileOption = None,
    show_url: ShowUrlOption = False,
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
    chain (environment, profile, role). An upload that was cut off goes on where it was when the same command is run
    again.
    """
    from lora_packer.pipeline import publish as run_publish

    output = Output(output_format, quiet, verbose, no_color)
    stages = Stages(output)
    if clean:
        if adapter is not None:
            raise InputError("--clean takes no ADAPTER: it looks below --to.", hint="Leave one of them out.")
        _clean(output, stages, to, endpoint_url, allow_private_endpoint, journal)
        return
    if adapter is None:
        raise InputError("ADAPTER is missing.", hint="Give a folder or an archive; --clean alone needs none.")
    with show_failed_check(output):
        done = run_publish(
            adapter,
            to=to,
            expires_in=parse_duration(expires_in),
            endpoint_url=endpoint_url,
            allow_private_endpoint=allow_private_endpoint,
            journal=journal,
            verify_full=verify is Verify.full,
            name=model_name,
            options=check_options(base_config, base_model, target, no_check),
            include_extras=include_extras,
            note=stages.note,
            progress=stages.progress,
        )
    again = "run it again with --url-file FILE (or --show-url) to get the URL; nothing is sent twice"
    show_published(output, done.published, url_file, again, show_url=show_url)


def show_published(output: Output, published: Published, url_file: Path | None, again: str, *, show_url: bool) -> None:
    """Print what was published, write or show its URL as asked for, and say what is next."""
    if url_file is not None:
        write_url(published.url, url_file)
    lines = [f"object    {published.object.uri}", f"sha256    {published.object.sha256 or 'unknown'}"]
    lines.append(f"url       {published.url.reveal() if show_url else published.url}")
    lines.append(f"deadline  {published.deadline:%Y-%m-%dT%H:%M:%SZ}")
    if url_file is not None:
        lines.append(f"next      lora-packer submit --url-file {url_file} --model-name NAME --base-model ID")
    elif not show_url:
        lines.append(f"next      {again}")
    data = {"schema_version": 1, **published.to_dict()}
    if show_url:
        data["presigned_url"] = published.url.reveal()
    output.result("\n".join(lines), data)


def _clean(
    output: Output,
    stages: Stages,
    to: str,
    endpoint_url: str | None,
    allow_private_endpoint: bool,
    journal: Path | None,
) -> None:
    from lora_packer.publisher import clean

    removed = clean(
        to,
        endpoint_url=endpoint_url,
        allow_private_endpoint=allow_private_endpoint,
        journal=journal,
        note=lambda text: stages.note("note", text),
    )
    lines = [
        f"removed   {upload.uri}" + (f", begun {upload.begun_at:%Y-%m-%d %H:%M} UTC" if upload.begun_at else "")
        for upload in removed
    ]
    entries = [
        {"bucket": upload.bucket, "key": upload.key, "begun_at": upload.begun_at and upload.begun_at.isoformat()}
        for upload in removed
    ]
    output.result("\n".join(lines) or "nothing unfinished", {"schema_version": 1, "removed": entries})
