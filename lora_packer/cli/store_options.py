"""The options of commands that speak with a store."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_packer.frozen import frozen


class Verify(StrEnum):
    """How much of the object the proof of a URL downloads."""

    ends = "ends"
    full = "full"


@frozen
class Store:
    """A store, and how a URL for what is there is minted."""

    expires_in: Annotated[
        str, typer.Option("--expires-in", metavar="DURATION", help="How long the URL shall live: 100m to 7d.")
    ] = "12h"
    endpoint_url: Annotated[
        str | None, typer.Option("--endpoint-url", metavar="URL", help="The endpoint of an S3-compatible store.")
    ] = None
    allow_private_endpoint: Annotated[
        bool,
        typer.Option(
            "--allow-private-endpoint",
            help="Take an endpoint that the internet does not reach, or plain http, too: for a service of your own in "
            "the same network.",
        ),
    ] = False

    def place(self) -> dict[str, Any]:
        """Return the endpoint, as the publisher's functions take it."""
        return {"endpoint_url": self.endpoint_url, "allow_private_endpoint": self.allow_private_endpoint}


@frozen
class MintedUrl:
    """What becomes of a URL that was minted."""

    verify: Annotated[
        Verify,
        typer.Option(
            "--verify", help="What the proof downloads: the first and last bytes, or everything, and hashes it."
        ),
    ] = Verify.ends
    url_file: Annotated[
        Path | None,
        typer.Option(
            "--url-file",
            metavar="FILE",
            help="Write the URL into this file, mode 0600; - is standard output, which then has the URL alone.",
        ),
    ] = None
    show_url: Annotated[
        bool, typer.Option("--show-url", help="Print the URL. It is a secret: whoever has it can download.")
    ] = False
