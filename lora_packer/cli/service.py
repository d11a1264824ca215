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
    from lora_packer.together import Client

    with Client.from_environment() as client:
        yield client, chosen(output, client, asked, thing)


def chosen(output: Output, client: Client, asked: str, thing: str = "") -> Choice:
    """Choose the version of the API that a client speaks, and tell it; see ``connected``. Raises ServiceError."""
    from lora_packer.together import choose_api

    choice = choose_api(client, asked, thing=thing)
    output.note(str(choice))
    return choice
