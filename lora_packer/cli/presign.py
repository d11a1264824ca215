"""``lora-packer presign``: mint and prove a URL for an archive that is already at the store."""

from __future__ import annotations

from typing import Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.named_files import require_place, takes_stdout
from lora_packer.cli.publish import show_published
from lora_packer.cli.stages import Stages
from lora_packer.cli.store_options import MintedUrl, Store, Verify
from lora_packer.duration import parse_duration


@command
def presign(
    *,
    s3uri: Annotated[str, typer.Argument(metavar="S3URI", help="The archive: s3://bucket/key.")],
    store: Store,
    minted: MintedUrl,
    output: Output,
) -> None:
    """Mint a presigned URL for an archive that is already at the store, and prove it; nothing is sent.

    The URL is a secret: it is printed with --show-url only, or written by --url-file. Credentials come from AWS's own
    chain (environment, profile, role).
    """
    from lora_packer.pipeline.publish import presign as run_presign

    stages = Stages(output)
    require_place(minted.url_file, "--url-file")
    takes_stdout(minted.url_file, output, "--url-file")
    done = run_presign(
        s3uri,
        expires_in=parse_duration(store.expires_in),
        verify_full=minted.verify is Verify.full,
        note=stages.note,
        **store.place(),
    )
    show_published(output, done, minted, "run it again with --url-file FILE (or --show-url)")
