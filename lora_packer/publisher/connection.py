"""One store: whose session speaks to it, for which region, and requests that ride out trouble."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from lora_packer.exchange import SILENCE
from lora_packer.http import aws_bundle, connect, trust
from lora_packer.publisher.answers import headers_in, status_in
from lora_packer.publisher.client import region_of, s3_client
from lora_packer.publisher.credentials import Signer, new_session, signer
from lora_packer.publisher.errors import S3Error, s3_call
from lora_packer.publisher.presign import MINIMUM
from lora_packer.publisher.retry import Patience, utc_now

if TYPE_CHECKING:
    import httpx2
    from boto3 import Session
    from mypy_boto3_s3 import S3Client

# Where these succeed nothing has moved: an upload whose parts all fail is not saved by looks at it that do not.
_LOOKS = frozenset({"HeadBucket", "HeadObject", "ListMultipartUploads", "ListParts"})
# These hold the archive's bytes: what is left of one that failed is to be gone before it is made again.
_WITH_BYTES = frozenset({"PutObject", "UploadPart"})

Answer = TypeVar("Answer")
Request = Callable[["S3Client"], Answer]


class Connection:
    """Requests to one store, from all threads of an upload.

    Args:
        client: signs and sends the requests.
        patience: how long trouble is ridden out.
        renew: makes a client with fresh credentials; None where they are the caller's business.
    """

    def __init__(
        self, client: S3Client, *, patience: Patience | None = None, renew: Callable[[], S3Client] | None = None
    ) -> None:
        self.patience = patience or Patience()
        self._client = client
        self._renew = renew
        self._renewed = False  # without a success since
        self._lock = threading.Lock()

    @property
    def client(self) -> S3Client:
        """The client of the moment."""
        return self._client

    @property
    def endpoint_url(self) -> str:
        """Whom it speaks to."""
        return self._client.meta.endpoint_url

    def call(self, operation: str, where: str, request: Request[Answer], *, repeat: bool = True) -> Answer:
        """Make a request, again and again while trouble may pass; once with fresh credentials where they expired.

        Args:
            operation: S3's name of it.
            where: ``s3://bucket/key``.
            request: makes it with the client it is given.
            repeat: False for a request that must not be made twice without a look: its transient errors are raised.

        Raises:
            S3Error: the store refused, or the trouble did not pass; ``attempts`` says how often it was tried.
        """
        attempt = 0
        while True:
            client = self._client
            attempt += 1
            try:
                with s3_call(operation, where):
                    answer = request(client)
            except S3Error as error:
                error.attempts = attempt
                if error.status is not None:
                    self.patience.answered()
                if error.expired and self._with_fresh_credentials(client):
                    continue
                if not error.transient or not repeat:
                    raise
                trouble = _without_request(error)
            else:
                self._renewed = False
                self.patience.answered()
                if operation not in _LOOKS:
                    self.patience.progress()
                return answer
            if operation in _WITH_BYTES:
                gc.collect()
            self.patience.wait(attempt, trouble)

    def _with_fresh_credentials(self, failed: S3Client) -> bool:
        """Replace the client that failed; return False where that cannot help."""
        with self._lock:
            if self._client is not failed:
                return True  # another thread did
            if self._renew is None or self._renewed:
                return False
            self._client = self._renew()
            self._renewed = True
            return True


def _without_request(error: S3Error) -> S3Error:
    """Return the error without what was going on when it came.

    botocore's own error, which it came from, holds the request, with a part of 8 MiB, in a cycle of tracebacks. Python
    looks for cycles now and then, and the command line has it look seldom: an outage of a quarter of an hour took 2 GB.
    """
    error.__context__ = None
    return error.with_traceback(None)


@dataclass(slots=True)
class Store:
    """A store, and the session that speaks to it.

    Attributes:
        session: the one of the moment; another one after ``renew`` was used.
        endpoint_url: where the store is; None: what is configured, else AWS.
        allow_private: whether it may be in a private network.
        renew: makes a new session; None where the session is the caller's.
        now: the clock (UTC).
        patience: how long trouble is ridden out.
    """

    session: Session
    endpoint_url: str | None = None
    allow_private: bool = False
    renew: Callable[[], Session] | None = None
    now: Callable[[], datetime] = utc_now
    patience: Patience = field(default_factory=Patience)
    _is_aged: bool = False  # its credentials were looked at before
    # By whose credentials they sign. The first of a process takes a quarter of a second, each other one 8 ms.
    _clients: dict[tuple[Session, str, Signer | None], S3Client] = field(default_factory=dict)

    def signer(self) -> Signer:
        """Return the credentials as they are now. Raises CredentialsError: none, or they end too early.

        A session of this moment has fresh ones: where those are too short, another session's would be as well.
        """
        renew = self.renew if self._is_aged else None
        self._is_aged = True
        return signer(self.session, MINIMUM, now=self.now, renew=renew)

    def client(self, region: str | None = None, by: Signer | None = None) -> S3Client:
        """Return a client for a region (None: the session's), signing as the session does, or as ``by``.

        Credentials without an end are never replaced: the session's own client signs with these very ones.
        """
        if by is not None and by.expires_at is None:
            by = None
        asked = self.session, region_of(self.session, region), by
        if asked not in self._clients:
            self._clients[asked] = s3_client(
                self.session,
                endpoint_url=self.endpoint_url,
                region=asked[1],
                signer=by,
                allow_private=self.allow_private,
            )
        return self._clients[asked]

    def connect(self, bucket: str) -> Connection:
        """Return a connection to the bucket's own region, having asked for it.

        Raises:
            InputError: the endpoint is not one that the service could reach, or whom to trust cannot be read.
            PublishError: no such bucket, or the store cannot be reached.
        """
        client = self.client()
        if (bundle := self._bundle()) and client.meta.endpoint_url.startswith("https:"):
            trust(bundle)  # of one that cannot be read botocore says neither the name nor who named it
        region = _bucket_region(Connection(client, patience=self.patience), bucket)
        if region not in (None, client.meta.region_name):
            client = self.client(region)
        if self.renew is None:
            return Connection(client, patience=self.patience)
        renew, final = self.renew, client.meta.region_name

        def fresh() -> S3Client:
            self.session = renew()
            return self.client(final)

        return Connection(client, patience=self.patience, renew=fresh)

    def downloader(self, endpoint_url: str) -> httpx2.Client:
        """Return a plain HTTP client, to read much from this store: it trusts whom botocore does. Raises InputError."""
        return connect(endpoint_url, timeout=SILENCE, bundle=self._bundle())

    def _bundle(self) -> str | None:
        """The file of authorities that botocore trusts instead of its own, if any."""
        # There is no public way to ask a boto3 session for the profile's ca_bundle.
        return aws_bundle(self.session._session.get_config_variable("ca_bundle"))


def open_store(
    session: Session | None,
    endpoint_url: str | None,
    allow_private: bool,
    patience: Patience | None,
    tell: Callable[[str], None] | None,
    now: Callable[[], datetime] = utc_now,
) -> Store:
    """Return a store as a session sees it; None: a new session, and another one where its credentials expire.

    ``tell`` hears of trouble that is ridden out, where no other ``patience`` is given. Raises CredentialsError where
    the AWS configuration cannot be read.
    """
    patience = patience or (Patience(tell=tell) if tell else Patience())
    renew = None if session else new_session
    return Store(session or new_session(), endpoint_url, allow_private, renew, now, patience)


def _bucket_region(connection: Connection, bucket: str) -> str | None:
    """Ask the bucket for its region; None where the answer does not say (other stores, or access denied)."""
    from botocore.exceptions import ClientError

    def head(client: S3Client) -> Mapping[str, str]:
        try:
            return headers_in(client.head_bucket(Bucket=bucket))
        except ClientError as error:
            status = status_in(error.response)
            if status == 404:
                error.response.setdefault("Error", {})["Code"] = "NoSuchBucket"
            if status is None or status == 404 or status >= 500:
                raise
            # 403 and 400 are judged later, by a request whose answer has a body.
            return headers_in(error.response)

    return connection.call("HeadBucket", f"s3://{bucket}", head).get("x-amz-bucket-region")
