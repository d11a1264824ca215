"""Whose session it is, and how to get another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lora_packer.publisher.client import connect, s3_client
from lora_packer.publisher.connection import Connection
from lora_packer.publisher.credentials import Signer, signer
from lora_packer.publisher.presign import MINIMUM
from lora_packer.publisher.retry import Patience

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_s3 import S3Client


@dataclass(slots=True)
class Account:
    """A session and what else is needed to speak to one store with it.

    Attributes:
        session: the one of the moment; another one after ``renew`` was used.
        renew: makes a new session; None where the session is the caller's.
        endpoint_url: the store, or None.
        now: the clock (UTC).
        patience: how long trouble is ridden out.
        allow_private: whether the store may be in a private network.
    """

    session: Session
    renew: Callable[[], Session] | None
    endpoint_url: str | None
    now: Callable[[], datetime]
    patience: Patience
    allow_private: bool = False

    def signer(self) -> Signer:
        """Return the credentials as they are now. Raises CredentialsError: none, or they end too early."""
        return signer(self.session, MINIMUM, now=self.now, renew=self.renew)

    def client(self, region: str, by: Signer | None = None) -> S3Client:
        """Return a client for a region, signing as the session does, or as ``by``."""
        return s3_client(
            self.session,
            endpoint_url=self.endpoint_url,
            region=region,
            signer=by,
            allow_private=self.allow_private,
        )

    def connect(self, bucket: str) -> Connection:
        """Return a connection to the bucket's region. Raises PublishError, InputError."""
        client = connect(
            self.session,
            bucket,
            endpoint_url=self.endpoint_url,
            allow_private=self.allow_private,
            patience=self.patience,
        )
        if self.renew is None:
            return Connection(client, patience=self.patience)
        renew, region = self.renew, client.meta.region_name

        def fresh() -> S3Client:
            self.session = renew()
            return self.client(region)

        return Connection(client, patience=self.patience, renew=fresh)
