"""Whether the service can fetch from a store: asked before anything is sent."""

from __future__ import annotations

from urllib.parse import urlsplit

from lora_packer.address import is_loopback, unreachable
from lora_packer.errors import InputError
from lora_packer.redact import escape

# The vendor's own hosts (client.DEFAULT_BASE_URL and its older name): they are in nobody's private network.
_PUBLIC_SERVICES = (".together.ai", ".together.xyz")


def require_reachable(url: str, service: str, *, allow_private: bool) -> None:
    """Raise InputError where the service at the address ``service`` cannot fetch from ``url``, an endpoint or a
    presigned URL.

    ``allow_private`` says that the service is in the store's own private network: then plain http will do, too. This
    machine's loopback is nobody else's, whatever is said.
    """
    host = urlsplit(service).hostname or ""
    reason = unreachable(url, by_loopback_service=is_loopback(host))
    store = _host(url)
    if reason is None or not store:  # what is no address is for the store's client to say
        return
    may_be_private = not is_loopback(store) and not host.endswith(_PUBLIC_SERVICES)
    if allow_private and may_be_private:
        return
    hint = "Use a public https endpoint, or rehearse with --sandbox."
    if may_be_private:
        hint = "Use a public https endpoint, or --allow-private-endpoint where the service is in the same network."
    raise InputError(
        f"The endpoint {escape(store)} cannot be reached by the service at {escape(host)}: {reason}. Nothing was sent.",
        hint=hint,
    )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
