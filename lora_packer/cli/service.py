"""The connection to the service that commands share, and the version of its API that is spoken over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_packer.cli.common import Output
    from lora_packer.together import Choice, Client


@contextmanager
def connected(output: Output, asked: str, thing: str = "") -> Iterator[tuple[Client, Choice]]:
    """Connect to the service and choose the version of its API, which is told in one line.

    ``asked`` is what ``--api`` says, ``thing`` the id of what the command is about, where it has one. Raises InputError
    and ServiceError.
    """
    from lora_packer.together import Client, choose_api

    with Client.from_environment() as client:
        choice = choose_api(client, asked, thing=thing)
        output.note(str(choice))
        yield client, choice
