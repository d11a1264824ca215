"""Where the service fetches an adapter from: a Hub repository, or a presigned URL that it can reach and that lives."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from lora_packer.address import is_loopback
from lora_packer.duration import format_duration
from lora_packer.errors import InputError, PublishError
from lora_packer.hub import HubRepo, parse_repo, repo_in
from lora_packer.redact import PresignedUrl

MINIMUM_LIFE = timedelta(minutes=100)
"""How long a presigned URL has to live (docs.together.ai/docs/dedicated-endpoints/adapter, "Prerequisites")."""

_MAX_URL = 16_384  # characters; an STS session token takes some 1,500 of them
_NUMERIC_LABEL = re.compile(r"\d+|0[xX][0-9a-fA-F]*")
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".home.arpa")  # RFC 6761, RFC 6762, ICANN, RFC 8375


def parse_source(text: str) -> HubRepo:
    """Return the Hub repository that ``text`` names.

    Accepted are ``hf://org/repo[@revision]``, ``https://huggingface.co/org/repo`` and ``org/repo``. The text is never
    repeated in an error, for it may be a presigned URL by mistake. Raises InputError.
    """
    scheme, separator, _ = text.partition("://")
    repo = repo_in(text) if separator else parse_repo(text)
    if repo is not None:
        return repo
    if scheme in ("http", "https"):
        raise InputError(
            "A URL is not taken as an argument: other users of this machine can read arguments, and a presigned URL is "
            "a secret.",
            hint="Put it in a file of mode 0600 and give --url-file FILE, or give - and pipe it to standard input.",
        )
    if scheme == "s3":
        raise InputError(
            "The service does not read s3:// addresses; it takes a presigned URL.",
            hint="Make one with `lora-packer publish ... --url-file FILE`, then submit with --url-file FILE.",
        )
    raise InputError(
        "SOURCE has an unknown scheme.",
        hint="Give hf://org/repo, https://huggingface.co/org/repo or org/repo; - or --url-file FILE for a presigned "
        "URL.",
    )


def parse_presigned(text: str, *, allow_loopback: bool = False) -> PresignedUrl:
    """Return the presigned URL in ``text``: one line, https, on a host that the service can reach.

    Args:
        text: the URL; white space around it is dropped. It is never repeated in an error.
        allow_loopback: also accept http and this machine's own addresses, for a service that runs here.

    Raises InputError.
    """
    url = text.strip()
    if not url:
        raise InputError("There is no presigned URL: the input is empty.", hint=_MINT)
    if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError("The input is not one URL on one line.", hint=_MINT)
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise InputError("The input is not a URL.", hint=_MINT) from None
    if parts.scheme not in ("https", "http") or not host or port == 0:
        raise InputError("The input is not an https:// URL.", hint=_MINT)
    if parts.username is not None or parts.password is not None:
        raise InputError("The URL has a user name or password in it.", hint=_MINT)
    if allow_loopback and is_loopback(host):
        return PresignedUrl(url)
    if parts.scheme != "https":
        raise InputError(
            "The presigned URL is not https: the archive would travel in the clear.",
            hint="Mint it with an https endpoint.",
        )
    if not _is_public_name(host):
        raise InputError(
            "The presigned URL is on a host that the service cannot reach: a private name, this machine, or a bare "
            "IP address.",
            hint="Publish to a bucket with a public endpoint; a local one works with `lora-packer sandbox` only.",
        )
    return PresignedUrl(url)


_MINT = "Make one with `lora-packer publish ... --url-file FILE`."


def _is_public_name(host: str) -> bool:
    """Whether ``host`` is a DNS name that can be public. A last label that is a number makes it an IPv4 address in one
    of its spellings (url.spec.whatwg.org, "ends in a number")."""
    labels = host.lower().split(".")
    if ":" in host or len(labels) < 2 or not all(labels) or _NUMERIC_LABEL.fullmatch(labels[-1]):
        return False
    return not host.lower().endswith(_PRIVATE_SUFFIXES)


def require_life(url: PresignedUrl, *, now: datetime) -> timedelta | None:
    """Return how long the URL still lives at ``now`` (UTC); None where it does not say.

    Raises PublishError where that is less than the service's 100 minutes.
    """
    deadline = url.deadline
    if deadline is None:
        return None
    left = deadline - now
    if left < MINIMUM_LIFE:
        state = f"has {format_duration(left)} left" if left > timedelta() else f"expired {format_duration(-left)} ago"
        raise PublishError(
            f"The presigned URL {state}; the service needs at least {format_duration(MINIMUM_LIFE)}. "
            "Nothing was submitted.",
            hint="Mint a new one with `lora-packer publish` and a longer --expires-in, then submit again.",
        )
    return left
