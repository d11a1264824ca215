"""``lora-packer publish``: check, pack, upload to S3, mint and prove a presigned URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.ends import command_line, print_result
from lora_packer.cli.left import told_where_it_stops
from lora_packer.cli.named_files import require_kept, require_place, takes_stdout, write_named
from lora_packer.cli.options import BaseModelOption, CheckFirst, ExtrasOption
from lora_packer.cli.stages import Stages, show_failed_check
from lora_packer.cli.store_options import MintedUrl, Store, Verify
from lora_packer.duration import parse_duration
from lora_packer.errors import InputError, LoraPackerError

if TYPE_CHECKING:
    from lora_packer.publisher import Published


_NOTHING: Mapping[str, Any] = MappingProxyType({})


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
        str | None,
        typer.Argument(
            metavar="ADAPTER", help="A folder, a .zip or .tar.gz archive, or an adapter elsewhere, as for check."
        ),
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
    require_place(minted.url_file, "--url-file", adapter)
    require_kept(journal, "--journal", "the next run reads it")
    takes_stdout(minted.url_file, output, "--url-file")
    with show_failed_check(output), told_where_it_stops(lambda: _left(stages, to)), stages:
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


def _left(stages: Stages, to: str) -> tuple[str, ...]:
    if not stages.is_sending:
        return ("Nothing was sent.",)
    clean = command_line("publish", "--clean", "--to", to)
    return (f"What the store has is kept, and nothing is sent twice; unfinished, it costs storage until `{clean}`.",)


def show_published(
    output: Output, published: Published, minted: MintedUrl, again: str, more: Mapping[str, Any] = _NOTHING
) -> None:
    """Print what was published, write or show its URL as asked for, and say what is next; ``more`` goes into JSON.

    A URL that is written to standard output is alone there.
    """
    url_file, show_url = minted.url_file, minted.show_url
    url = published.url.reveal()
    lines = [f"object    {published.object.uri}", f"sha256    {published.object.sha256 or 'unknown'}"]
    lines.append(f"url       {url if show_url else published.url}")
    lines.append(f"deadline  {published.deadline:%Y-%m-%dT%H:%M:%SZ}")
    if takes_stdout(url_file, output, "--url-file"):
        output.note("\n".join(lines))
        print_result(url)
        return
    if url_file is not None:
        _keep_url(url_file, url)
        step = ("submit", "--url-file", str(url_file), "--model-name", "NAME", "--base-model", "ID")
        lines.append(f"next      {command_line(*step)}")
    elif not show_url:
        lines.append(f"next      {again}")
    data = {"schema_version": 1, **published.to_dict(), **more}
    if show_url:
        data["presigned_url"] = url
    output.result(url if show_url and output.quiet else "\n".join(lines), data)


def _keep_url(path: Path, url: str) -> None:
    """Write the URL. Raises InputError, OutputError: what was uploaded is there all the same."""
    try:
        write_named(path, url, "--url-file", private=True)
    except LoraPackerError as error:
        hint = "The archive is at the store. Run the same command with another --url-file: nothing is sent twice."
        raise type(error)(error.message, hint=hint) from None


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
