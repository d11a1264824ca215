"""GETs of a URL as whoever has it will make them, over the connections that the store was sent its archive by.

Nothing is signed, no redirect is followed, and no header matters but the range. botocore's session carries them, so
that they go through the same proxy and trust the same authorities as the upload did; a client of another library would
take a tenth of a second of processor time to be there, and a connection of its own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from lora_packer.exchange import Answer
from lora_packer.publisher.bounds import StoreTooSlowError, session_of
from lora_packer.redact import MASK

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# It tells each request's path and query at DEBUG, and the query is a secret.
_LOGGER = "urllib3.connectionpool"
_QUERY = re.compile(r"\?[^\s'\"]+")


class UnansweredError(Exception):
    """Nobody answered, or not to the end; ``may_pass`` says whether somebody may in a while. It may have the URL."""

    def __init__(self, reason: str, *, may_pass: bool) -> None:
        super().__init__(reason)
        self.may_pass = may_pass


class Get(Protocol):
    """Makes a GET."""

    def __call__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        most: int,
        take: Callable[[bytes], None] | None,
        deadline: float,
    ) -> Answer:
        """Return the answer; the arguments mean what those of ``exchange`` do. Raises UnansweredError."""


def downloads(client: S3Client) -> Get:
    """Return what makes GETs over a client's connections."""
    session = session_of(client)
    logging.getLogger(_LOGGER).addFilter(_without_queries)  # added once, however often it is asked for

    def get(
        url: str,
        *,
        headers: Mapping[str, str],
        most: int,
        take: Callable[[bytes], None] | None,
        deadline: float,
    ) -> Answer:
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        request = AWSRequest("GET", url, headers=dict(headers)).prepare()
        # `from None`: botocore's exceptions carry the request.
        try:
            return session.get(request, most=most, take=take, deadline=deadline)
        except (BotoCoreError, ValueError, OSError) as error:
            raise UnansweredError(str(error), may_pass=_may_pass(error)) from None

    return get


def _may_pass(error: Exception) -> bool:
    """Whether a request that ended in this may do better in a while, with nothing changed."""
    from botocore import exceptions

    if isinstance(error, StoreTooSlowError | exceptions.ProxyConnectionError | exceptions.InvalidProxiesConfigError):
        return False
    network = isinstance(error, ConnectionError | exceptions.ConnectionError | exceptions.HTTPClientError)
    return network and "CERTIFICATE_VERIFY_FAILED" not in str(error)


def _without_queries(record: logging.LogRecord) -> bool:
    record.msg, record.args = _QUERY.sub(f"?{MASK}", record.getMessage()), None
    return True
