"""``endpoints``: what there is on the account, in which state, and what each costs an hour."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from lora_packer.cli.common import Output, command
from lora_packer.cli.service import connected
from lora_packer.cli.service_options import ApiOption, ApiVersion

if TYPE_CHECKING:
    from lora_packer.together import Endpoint


@command
def endpoints(
    *,
    endpoint: Annotated[
        str | None, typer.Argument(metavar="ID", help="The endpoint's id or name: that one in detail.")
    ] = None,
    api: ApiOption = ApiVersion.auto,
    output: Output,
) -> None:
    """List the endpoints on the account: state, model, and what each costs an hour; or show one in detail."""
    with connected(output, api, endpoint or "") as (client, choice):
        if endpoint is not None:
            one = choice.api.one_endpoint(client, endpoint)
            output.result(_detail(one), {"schema_version": 1, "api": choice.name, "endpoint": _data(one)})
            return
        found = choice.api.all_endpoints(client)
    total = _total(found)
    data = {"schema_version": 1, "api": choice.name, "endpoints": [_data(one) for one in found]}
    output.result(_table(found, total) if found else "no endpoints", data)


def _data(endpoint: Endpoint) -> dict[str, object]:
    hourly = endpoint.hourly
    return endpoint.to_dict() | {"cents_per_hour": None if hourly is None else list(hourly)}


def _total(found: Iterable[Endpoint]) -> str:
    """What all of it costs an hour, as the last line."""
    from lora_packer.together import hourly_words

    prices = [one.hourly for one in found]
    known = [price for price in prices if price is not None]
    words = hourly_words((sum(low for low, _ in known), sum(high for _, high in known)))
    unknown = len(prices) - len(known)
    if unknown:
        count = f"{unknown} of unknown price" if known else "an unknown price"
        return f"in all: {words + ' and ' if words != '-' else ''}{count}"
    return "in all: nothing runs, so nothing costs money" if words == "-" else f"in all: {words}"


def _table(found: tuple[Endpoint, ...], total: str) -> str:
    from lora_packer.together import hourly_words

    rows = [("ID", "STATE", "COST", "HARDWARE", "MODEL", "NAME")]
    for one in found:
        rows.append((one.id, one.state, hourly_words(one.hourly), one.hardware or "", one.model or "", one.name))
        if len(one.deployments) > 1:
            for each in one.deployments:
                cost = hourly_words(each.hourly)
                rows.append((f"  {each.id}", each.state, cost, each.hardware or "", each.model or "", each.name))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, total])


def _detail(endpoint: Endpoint) -> str:
    from lora_packer.together import hourly_words

    lines = [f"endpoint  {endpoint.id}", f"name      {endpoint.name}"]
    if endpoint.model:
        lines.append(f"model     {endpoint.model}")
    if endpoint.hardware:
        lines.append(f"hardware  {endpoint.hardware}")
    lines.append(f"state     {endpoint.state}{f': {endpoint.reason}' if endpoint.reason else ''}")
    if not endpoint.deployments and endpoint.max_replicas is not None:
        lines.append(f"replicas  {endpoint.min_replicas} to {endpoint.max_replicas}")
    for one in endpoint.deployments:
        lines.append(f"deployed  {one.id}  {one.state}  {hourly_words(one.hourly)}  {one.hardware or ''}".rstrip())
        if one.reason:
            lines.append(f"          {one.reason}")
        replicas = "" if one.max_replicas is None else f", {one.min_replicas} to {one.max_replicas} replicas"
        ready = "" if one.ready_replicas is None else f" ({one.ready_replicas} ready)"
        lines.append(f"          {one.model or 'model not told'}{replicas}{ready}, traffic weight {one.weight:g}")
        for adapter in one.adapters:
            lines.append(f"          adapter {adapter.model} ({adapter.id})")
            lines += [f"            {cluster}" for cluster in adapter.clusters]
    lines.append(f"cost      {hourly_words(endpoint.hourly).replace('-', 'nothing')}")
    if not endpoint.is_ending:
        lines.append(f"next      {endpoint.stop_command}")
    return "\n".join(lines)
