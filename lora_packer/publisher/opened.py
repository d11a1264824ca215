"""A destination that was judged, and is open: what was asked of it to judge it is not asked again to send to it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from lora_packer.frozen import frozen
from lora_packer.publisher.connection import Connection, Store, open_store
from lora_packer.publisher.journal import Journal
from lora_packer.publisher.presign import DEFAULT, validate_expiry
from lora_packer.publisher.retry import Patience, utc_now
from lora_packer.publisher.s3uri import Destination, parse_destination
from lora_packer.threads import ahead

if TYPE_CHECKING:
    from boto3 import Session


@frozen
class Opened:
    """A destination, the store it is at, and the connection to its bucket, which is being made.

    Attributes:
        destination: the bucket and the prefix.
        store: whose session speaks to it.
    """

    destination: Destination
    store: Store
    _connecting: Future[Connection]

    def connection(self) -> Connection:
        """Return the connection, once the bucket has answered.

        Raises:
            InputError: the endpoint is not one that the service could reach.
            PublishError: no such bucket, or the store cannot be reached.
        """
        return self._connecting.result()

    def require(self) -> None:
        """Raise what ``connection`` would, where that is known by now; the bucket is not waited for."""
        if self._connecting.done():
            self._connecting.result()


def open_destination(
    to: str,
    *,
    expires_in: timedelta = DEFAULT,
    endpoint_url: str | None = None,
    session: Session | None = None,
    allow_private_endpoint: bool = False,
    journal: Path | None = None,
    note: Callable[[str], None] | None = None,
    patience: Patience | None = None,
    now: Callable[[], datetime] = utc_now,
) -> Opened:
    """Judge a destination, options and credentials, and ask the bucket for its region, which is not waited for.

    Args are those of ``publish``.

    Raises:
        InputError: an option makes no sense, the endpoint is none that the service could reach, or the journal cannot
            be read.
        CredentialsError: there are no credentials, or they are known to end too early.
        PublishError: botocore cannot make a client of the configuration.
    """
    validate_expiry(expires_in)
    destination = parse_destination(to)
    Journal(journal)
    store = open_store(session, endpoint_url, allow_private_endpoint, patience, note, now)
    store.signer()
    store.client()  # here, and not beside other work: its imports would take turns with that
    return Opened(destination, store, ahead(store.connect, destination.bucket))
