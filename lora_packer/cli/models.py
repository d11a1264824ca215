"""``models``: the adapters on the account; one of them with its revisions and files; and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import ApiOption, ApiVersion
from lora_packer.errors import InputError

if TYPE_CHECKING:
    from lora_packer.together import Model


@command
def models(
    *,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The model's name or id: that one in detail.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the model for good, with its revisions and files.")
    ] = False,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """List the adapters on the account, show one with its revisions and files, or delete it."""
    if delete and model is None:
        raise InputError("It is not clear which model to delete.", hint="Give the model's name.")
    with connected(output, api, model or "") as (client, choice):
        base = {"schema_version": 1, "api": choice.name}
        if model is None:
            found = choice.api.models(client)
            output.result(_table(found), base | {"models": [one.to_dict() for one in found]})
            return
        if delete:
            gone = choice.api.delete_model(client, model)
            output.result(f"deleted   {gone.name}", base | {"deleted": True, "model": gone.to_dict()})
            return
        one = choice.api.model(client, model)
    output.result(_detail(one), base | {"model": one.to_dict()})


def _table(found: tuple[Model, ...]) -> str:
    rows = [
        (one.name, one.id or one.status or "", f"on {one.base_model}" if one.base_model else "")
        for one in found
        if one.is_adapter
    ]
    others = len(found) - len(rows)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not rows:
        lines.append("no adapters")
    if others:
        lines.append(f"and {others} {'model that is' if others == 1 else 'models that are'} no adapter")
    return "\n".join(lines)


def _detail(model: Model) -> str:
    lines = [f"model     {model.name}"]
    for name, value in (
        ("id", model.id),
        ("base", model.base_model),
        ("status", model.status),
        ("about", model.description),
    ):
        if value:
            lines.append(f"{name:<9} {value}")
    if model.revisions == ():
        lines.append("revision  none: nothing was uploaded into it yet")
    for revision in model.revisions or ():
        stamp = f"  {revision.created_at}" if revision.created_at else ""
        lines.append(f"revision  {revision.id}  {revision.validation or 'not validated yet'}{stamp}")
        lines += [f"          {error}" for error in revision.errors]
        if revision.files is None:
            lines.append("          its files are not told")
        for file in revision.files or ():
            size = "" if file.size is None else f"  {file.size:,} bytes"
            lines.append(f"          {file.path}{size}{f'  {file.digest}' if file.digest else ''}")
    return "\n".join(lines)
