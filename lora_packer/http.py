"""The only way an HTTP client is made: whom it trusts, which proxy it uses, and what it may say in a log."""

from __future__ import annotations

import logging
import os
import re
import ssl
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lora_packer.address import is_loopback
from lora_packer.errors import InputError
from lora_packer.exchange import is_final
from lora_packer.redact import MASK, escape

if TYPE_CHECKING:
    import httpx2

# Its client tells each request's URL (INFO), its connections the headers of an answer, and so a redirect's (DEBUG).
_LOGGERS = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))
_QUERY = re.compile(r"(\bhttps?://[^\s'\"?#]*\?)[^\s'\"]+", re.IGNORECASE)
_AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_AWS_AUTHORITIES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_PROXIES = ("all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")


def connect(
    url: str,
    *,
    timeout: httpx2.Timeout | float,
    headers: Mapping[str, str] | None = None,
    transport: httpx2.BaseTransport | None = None,
    follow_redirects: bool = False,
    bundle: str | None = None,
) -> httpx2.Client:
    """Return a client for what answers at a URL; close it, or use it in a ``with``.

    Proxies are those of the environment, but for this machine's own loopback, with which they have no business. No URL
    with a query reaches a log, for a presigned one is a secret.

    Args:
        url: any address there; only its host is looked at.
        timeout: of each step of a request, in seconds.
        headers: sent with each request.
        transport: carries the requests; None: the network.
        follow_redirects: whether they are followed.
        bundle: a file of authorities to trust instead of the usual (``aws_bundle``).

    Raises:
        InputError: the environment's proxy cannot be used, or whom to trust cannot be read; it names the variable.
    """
    import httpx2

    _keep_queries_out_of_logs()
    try:
        return httpx2.Client(
            headers=headers,
            timeout=timeout,
            transport=transport,
            follow_redirects=follow_redirects,
            trust_env=not is_loopback(urlsplit(url).hostname or ""),
            verify=trust(bundle) if transport is None else True,
        )
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise _bad_proxy(error) from None


def proxy_words() -> str:
    """Return through which proxies requests go, without a name or password; empty where there is none."""
    from urllib.request import getproxies

    found = getproxies()
    told = [f"{scheme} through {_proxy(value)}" for scheme in ("https", "http", "all") if (value := found.get(scheme))]
    if not told:
        return ""
    but = "this machine's own loopback" + (f" and {escape(found['no'], 100)}" if found.get("no") else "")
    return f"{', '.join(told)}; past them: {but}"


def _proxy(value: str) -> str:
    """Where a proxy is, without who uses it."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "what is no address"
    return escape(f"{parts.scheme}://{parts.hostname or ''}{port}", 100)


def trust(bundle: str | None = None) -> ssl.SSLContext:
    """Return whom to trust: the authorities in a file, else in SSL_CERT_FILE or SSL_CERT_DIR, else the system's.

    Raises InputError where they cannot be read.
    """
    try:
        return _trusting(bundle, *(os.environ.get(name) for name in _AUTHORITIES))
    except OSError as error:
        variables = _AWS_AUTHORITIES if bundle else _AUTHORITIES
        named = (name for name in variables if (os.environ.get(name) == bundle if bundle else os.environ.get(name)))
        name = next(named, "The AWS profile's ca_bundle" if bundle else "The system's list of authorities")
        path = bundle or os.environ.get(name, "")
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror or error
        raise InputError(
            f"{name} '{escape(path)}' cannot be read: {reason}.",
            hint="It is to name a file of certificates in PEM: correct it, or unset it.",
        ) from None


def aws_bundle(of_profile: str | None = None) -> str | None:
    """Return the file of authorities that botocore trusts instead of its own; None where it is told of none.

    ``of_profile`` is the ``ca_bundle`` of the AWS profile. The order is botocore's (``_get_verify_value`` in
    botocore/endpoint.py, ``ca_bundle`` in botocore/configprovider.py).
    """
    return os.environ.get("AWS_CA_BUNDLE") or of_profile or os.environ.get("REQUESTS_CA_BUNDLE") or None


def may_pass(error: Exception) -> bool:
    """Whether a request that ended in this error of httpx2 may do better in a while, with nothing changed."""
    import httpx2

    if is_final(error) or isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | httpx2.ProxyError):
        return False
    return "CERTIFICATE_VERIFY_FAILED" not in str(error)


@cache
def _trusting(bundle: str | None, *_environment: str | None) -> ssl.SSLContext:
    """Made once for each setting: reading the authorities takes longer than a request."""
    if bundle:
        return ssl.create_default_context(cafile=bundle)
    import httpx2

    return httpx2.create_ssl_context()


def _bad_proxy(error: Exception) -> InputError:
    """Return the error for a proxy that httpx2 does not take; its address may have a password, and is not shown."""
    name = next(filter(_is_refused, _PROXIES), "The system's proxy")
    if isinstance(error, ImportError):
        return InputError(
            f"{name} is a SOCKS proxy, for which the package socksio is not installed.",
            hint="Install it (pip install 'lora-packer[socks]'), or unset the variable.",
        )
    return InputError(
        f"{name} is not the address of a proxy that can be used.",
        hint="Write it like http://host:port (or https, socks5, socks5h), or unset it.",
    )


def _is_refused(variable: str) -> bool:
    import httpx2

    value = os.environ.get(variable)
    if not value:
        return False
    try:
        httpx2.HTTPTransport(proxy=value if "://" in value else f"http://{value}", verify=trust()).close()
    except (ImportError, ValueError, httpx2.InvalidURL):
        return True
    return False


def _keep_queries_out_of_logs() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_without_queries)  # added once, however often it is asked for


def _without_queries(record: logging.LogRecord) -> bool:
    record.msg, record.args = _QUERY.sub(rf"\g<1>{MASK}", record.getMessage()), None
    return True
