"""``lora-packer presign``: mint and prove a URL for an archive that is already at the store."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_packer.cli.common import (
    Format,
    FormatOption,
    NoColorOption,
    Output,
    QuietOption,
    VerboseOption,
    guarded,
)
from lora_packer.cli.publish import (
    PrivateEndpointOption,
    ShowUrlOption,
    UrlFileOption,
    Verify,
    VerifyOption,
    show_published,
)
from lora_packer.cli.stages import EndpointOption, ExpiryOption, Stages
from lora_packer.duration import parse_duration


@guarded
def presign(
    s3uri: Annotated[str, typer.Argument(metavar="S3URI", help="The archive: s3://bucket/key.")],
    expires_in: ExpiryOption = "12h",
    endpoint_url: EndpointOption = None,
    allow_private_endpoint: PrivateEndpointOption = False,
    verify: VerifyOption = Verify.ends,
    url_file: UrlFileOption = None,
    show_url: ShowUrlOption = False,
    output_format: FormatOption = Format.text,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    no_color: NoColorOption = False,
) -> None:
    """Mint a presigned URL for an archive that is already at the store, and prove it; nothing is sent.

    The URL is a secret: it is printed with --show-url only, or written by --url-file. Credentials come from AWS's own
    chain (environment, profile, role).
    """
    from lora_packer.pipeline import note_proven, with_slack
    from lora_packer.publisher import presign_object

    output = Output(output_format, quiet, verbose, no_color)
    stages = Stages(output)
    done = presign_object(
        s3uri,
        expires_in=with_slack(parse_duration(expires_in)),
        endpoint_url=endpoint_url,
        allow_private_endpoint=allow_private_endpoint,
        verify_full=verify is Verify.full,
        note=lambda text: stages.note("note", text),
    )
    note_proven(done, stages.note)
    show_published(output, done, url_file, "run it again with --url-file FILE (or --show-url)", show_url=show_url)
