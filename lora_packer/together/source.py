"""Where the service fetches an adapter from: a Hub repository, or a presigned URL that it can reach and that lives."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlsplit

from lora_packer.address import unreachable
from lora_packer.duration import format_duration
from lora_packer.errors import InputError, PublishError
from lora_packer.hub import HubRepo, parse_repo, repo_in
from lora_packer.redact import PresignedUrl
from lora_packer.signed_url import damage_in, needs_headers

MINIMUM_LIFE = timedelta(minutes=100)
"""How long a presigned URL has to live (docs.together.ai/docs/dedicated-endpoints/adapter, "Prerequisites")."""

_SKEW = timedelta(minutes=15)  # what S3 takes of a clock that goes ahead

_MAX_URL = 16_384  # characters; an STS session token takes some 1,500 of them


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
    """Return the presigned URL in ``text``: one line, https, on a host that the service can reach, and whole.

    Args and errors are those of ``parse_address``. Raises InputError also where it was damaged on its way here, or
    needs more than a plain GET.
    """
    damage = damage_in(text.strip()) if _is_url(text) else None
    if damage is not None:
        raise InputError(
            f"The presigned URL is damaged: {damage}. Nothing was sent.",
            hint="Take the whole URL as it was minted, in quotes where a shell sees it; `lora-packer publish ... "
            "--url-file FILE` writes it into a file.",
        )
    found = parse_address(text, allow_loopback=allow_loopback)
    if needs_headers(found.reveal()):
        raise InputError(
            "The presigned URL cannot be used by the service: its signature covers headers that a plain download does "
            "not send. Nothing was sent.",
            hint="Mint one without them (RequestPayer and ChecksumMode become headers), or use `lora-packer publish`.",
        )
    return found


def _is_url(text: str) -> bool:
    """Whether this is the text of one URL, whatever is wrong with it."""
    try:
        return urlsplit(text.strip()).scheme in ("https", "http") and len(text) <= _MAX_URL
    except ValueError:
        return False


def parse_address(text: str, *, allow_loopback: bool = False) -> PresignedUrl:
    """Return the address in ``text``, which is a secret: one line, https, on a host that the service can reach.

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
    reason = unreachable(url, by_loopback_service=allow_loopback)
    if reason is not None:
        raise InputError(
            f"The service cannot reach the presigned URL: {reason}.",
            hint="Publish to a bucket with a public https endpoint; a local one works with `lora-packer sandbox` only.",
        )
    return PresignedUrl(url)


_MINT = "Make one with `lora-packer publish ... --url-file FILE`."


def require_life(url: PresignedUrl, *, now: datetime) -> timedelta | None:
    """Return how long the URL still lives at ``now`` (UTC); None where it does not say.

    Raises PublishError where that is less than the service's 100 minutes, or begins later.
    """
    life = url.life
    if life.begins is not None and life.begins - now > _SKEW:
        raise PublishError(
            f"The presigned URL does not work before {life.begins:%Y-%m-%d %H:%M} UTC. Nothing was submitted.",
            hint="Set the clock of the machine that mints it, or wait; then submit again.",
        )
    if life.ends is None:
        return None
    left = life.ends - now
    if left < MINIMUM_LIFE:
        state = f"has {format_duration(left)} left" if left > timedelta() else f"expired {format_duration(-left)} ago"
        raise PublishError(
            f"The presigned URL {state}; the service needs at least {format_duration(MINIMUM_LIFE)}. "
            "Nothing was submitted.",
            hint="Mint a new one that lives longer (`lora-packer publish` has --expires-in), then submit again.",
        )
    return left
