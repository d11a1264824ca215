"""One policy of addresses: which are this machine's own, which the service can reach, where a key may be sent."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from lora_packer.errors import InputError

# Names that no public DNS has: RFC 6761, RFC 6762 (and its appendix G), RFC 8375, ICANN's .internal (.local has
# Kubernetes' services); and S3's interface endpoints, which only their VPC reaches
# (https://docs.aws.amazon.com/AmazonS3/latest/userguide/privatelink-interface-endpoints.html).
_PRIVATE_SUFFIXES = (
    ".corp",
    ".home",
    ".home.arpa",
    ".internal",
    ".intranet",
    ".lan",
    ".local",
    ".localdomain",
    ".localhost",
    ".private",
    ".vpce.amazonaws.com",
    ".vpce.amazonaws.com.cn",
)
# A last label that is a number makes a name an IPv4 address in one of its odd spellings
# (https://url.spec.whatwg.org/#ends-in-a-number-checker).
_NUMERIC_LABEL = re.compile(r"\d+|0[xX][0-9a-fA-F]*")


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's loopback interface: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def is_private(host: str) -> bool:
    """Whether ``host`` is out of the internet's reach, as far as its name or address alone tells."""
    address = _address(host)
    if address is not None:
        return address.is_multicast or not address.is_global
    name = host.lower().rstrip(".")
    labels = name.split(".")
    if len(labels) < 2 or not all(labels) or _NUMERIC_LABEL.fullmatch(labels[-1]):
        return True
    return name.endswith(_PRIVATE_SUFFIXES)


def unreachable(url: str, *, by_loopback_service: bool = False) -> str | None:
    """Return why the service could not, or must not, fetch from a URL's host; None where it can.

    Nothing is asked of the network. What is returned completes a sentence: "... cannot be reached by the service: it is
    in a private network".

    Args:
        url: an endpoint or a presigned URL.
        by_loopback_service: whether the service runs on this machine: then it reaches this machine's loopback, by http
            too.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "it is no URL"
    if is_loopback(host):
        return None if by_loopback_service else "it is this machine's own"
    if parts.scheme != "https":
        return "it is not https, so that everything would travel in the clear"
    return "it is in a private network" if is_private(host) else None


def checked_endpoint(text: str, variable: str, example: str) -> tuple[str, str]:
    """Return an address that a token may be sent to, without a closing slash, and its host.

    Raises InputError unless it is https, or http on loopback, without a user name, a query or a fragment. The text may
    be a secret by mistake, so the error names the ``variable`` that it came from, and an ``example``.
    """
    wrong = InputError(
        f"{variable} is not an address to send a key to.",
        hint=f"Use https (http on this machine only), no user name and no query, like {example}.",
    )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    clean = text.isascii() and text.isprintable() and " " not in text and not parts.query and not parts.fragment
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not clean or not secure or not host or port == 0 or "@" in parts.netloc:
        raise wrong
    return text.rstrip("/"), host


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that ``host`` is, an IPv4 one inside an IPv6 one as itself; None where it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
