"""``lora-packer publish``: check, pack, upload to S3, mint and prove a presigned URL."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_packer.cli.common import Output, command, told_on_interrupt
from lora_packer.cli.options import BaseModelOption, CheckFirst, ExtrasOption, MintedUrl, Store, Verify
from lora_packer.cli.stages import Stages, show_failed_check, write_url
from lora_packer.duration import parse_duration
from lora_packer.errors import InputError

if TYPE_CHECKING:
    from lora_packer.publisher import Published


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_INTERRUPTED = "Run the same command again to go on: parts that the store has are kept, and nothing is sent twice."


@command
def publish(
    *,
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="S3URI", help="Where to upload: s3://bucket/prefix/ (the name is content-addressed)."
        ),
    ],
    adapter: Annotated[
        str | None, typer.Argument(metavar="ADAPTER", help="A folder, or a .zip or .tar.gz archive.")
    ] = None,
    store: Store,
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
    minted: MintedUrl,
    include_extras: ExtrasOption = False,
    base_model: BaseModelOption = None,
    first: CheckFirst,
    output: Output,
) -> None:
    """Check an adapter, pack it, upload it to S3, mint a presigned URL that lives, and prove it.

    The URL is a secret: it is printed with --show-url only, or written by --url-file. Credentials come from AWS's own
    chain (environment, profile, role). An upload that was cut off goes on where it was when the same command is run
    again.
    """
    from lora_packer.pipeline.publish import publish as run_publish

    stages = Stages(output)
    if clean:
        if adapter is not None:
            raise InputError("--clean takes no ADAPTER: it looks below --to.", hint="Leave one of them out.")
        _clean(output, stages, to, store, journal)
        return
    if adapter is None:
        raise InputError("ADAPTER is missing.", hint="Give a folder or an archive; --clean alone needs none.")
    require_place(minted.url_file)
    with show_failed_check(output), told_on_interrupt(_INTERRUPTED), stages:
        done = run_publish(
            adapter,
            to=to,
            expires_in=parse_duration(store.expires_in),
            journal=journal,
            verify_full=minted.verify is Verify.full,
            name=model_name,
            options=first.of(base_model),
            include_extras=include_extras,
            note=stages.note,
            progress=stages.progress,
            **store.place(),
        )
    again = "run it again with --url-file FILE (or --show-url) to get the URL; nothing is sent twice"
    check = {"check": done.report.to_dict() if done.report else None}
    show_published(output, done.published, minted, again, check)


def require_place(url_file: Path | None) -> None:
    """Raise InputError where the URL could not be written into its file: before there is one."""
    if url_file is None:
        return
    folder = url_file.parent
    if url_file.is_dir():
        reason = "it is a folder"
    elif not folder.is_dir():
        reason = f"there is no folder {str(folder)!r}"
    elif not os.access(url_file if url_file.exists() else folder, os.W_OK):
        reason = "it may not be written to"
    else:
        return
    raise InputError(f"{str(url_file)!r} cannot be written: {reason}.", hint="Choose another --url-file.")


def show_published(
    output: Output, published: Published, minted: MintedUrl, again: str, more: Mapping[str, Any] = _NOTHING
) -> None:
    """Print what was published, write or show its URL as asked for, and say what is next; ``more`` goes into JSON."""
    url_file, show_url = minted.url_file, minted.show_url
    if url_file is not None:
        write_url(published.url, url_file)
    lines = [f"object    {published.object.uri}", f"sha256    {published.object.sha256 or 'unknown'}"]
    lines.append(f"url       {published.url.reveal() if show_url else published.url}")
    lines.append(f"deadline  {published.deadline:%Y-%m-%dT%H:%M:%SZ}")
    if url_file is not None:
        lines.append(f"next      lora-packer submit --url-file {url_file} --model-name NAME --base-model ID")
    elif not show_url:
        lines.append(f"next      {again}")
    data = {"schema_version": 1, **published.to_dict(), **more}
    if show_url:
        data["presigned_url"] = published.url.reveal()
    output.result("\n".join(lines), data)


def _clean(output: Output, stages: Stages, to: str, store: Store, journal: Path | None) -> None:
    from lora_packer.publisher import clean

    removed = clean(to, journal=journal, note=lambda text: stages.note("note", text), **store.place())
    lines = [
        f"removed   {upload.uri}" + (f", begun {upload.begun_at:%Y-%m-%d %H:%M} UTC" if upload.begun_at else "")
        for upload in removed
    ]
    entries = [
        {"bucket": upload.bucket, "key": upload.key, "begun_at": upload.begun_at and upload.begun_at.isoformat()}
        for upload in removed
    ]
    output.result("\n".join(lines) or "nothing unfinished", {"schema_version": 1, "removed": entries})
