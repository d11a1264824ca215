"""Addresses: which are this machine's own, and which a token may be sent to."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from lora_packer.errors import InputError


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine's loopback interface: ``localhost``, ``127.0.0.0/8`` or ``::1``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


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
