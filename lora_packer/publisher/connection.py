"""A client whose requests ride out trouble, and which is made anew once its credentials have expired on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lora_packer.publisher.errors import S3Error, s3_call
from lora_packer.publisher.retry import Patience

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Where these succeed nothing has moved: an upload whose parts all fail is not saved by looks at it that do not.
_LOOKS = frozenset({"HeadBucket", "HeadObject", "ListMultipartUploads", "ListParts"})

Answer = TypeVar("Answer")
Request = Callable[["S3Client"], Answer]


class Connection:
    """One store, for all threads of an upload.

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
                self.patience.wait(attempt, error)
            else:
                self._renewed = False
                self.patience.answered()
                if operation not in _LOOKS:
                    self.patience.progress()
                return answer

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
