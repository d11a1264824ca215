"""A second opinion on a presigned URL's signature, and the signature of one that claims to be older.

Query signing as in https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote, urlsplit

from lora_packer.redact import PresignedUrl, Secret

_DEFAULT_PORTS = {"http": 80, "https": 443}


def signature(url: str, secret_key: Secret) -> str:
    """Return the signature that a GET URL must have, given its other parameters; one that it has is left out."""
    parts = urlsplit(url)
    query = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "X-Amz-Signature"}
    _, day, region, service, _ = query["X-Amz-Credential"].rsplit("/", 4)
    canonical = "\n".join(
        ["GET", parts.path, _encode(query), f"host:{_host(url)}", "", query["X-Amz-SignedHeaders"], "UNSIGNED-PAYLOAD"]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = "\n".join([query["X-Amz-Algorithm"], query["X-Amz-Date"], scope, digest])
    key = f"AWS4{secret_key.reveal()}".encode()
    for step in (day, region, service, "aws4_request"):
        key = _hmac(key, step)
    return _hmac(key, to_sign).hex()


def backdated(url: PresignedUrl, secret_key: Secret, *, signed_at: datetime, lives: timedelta) -> PresignedUrl:
    """Return the same URL as if it had been signed then, to live that long."""
    text = url.reveal()
    query = dict(parse_qsl(urlsplit(text).query, keep_blank_values=True))
    del query["X-Amz-Signature"]
    access_key, _, region, service, end = query["X-Amz-Credential"].rsplit("/", 4)
    moment = signed_at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    query["X-Amz-Credential"] = "/".join([access_key, moment[:8], region, service, end])
    query |= {"X-Amz-Date": moment, "X-Amz-Expires": str(int(lives.total_seconds()))}
    unsigned = f"{text.partition('?')[0]}?{_encode(query)}"
    return PresignedUrl(f"{unsigned}&X-Amz-Signature={signature(unsigned, secret_key)}")


def _encode(query: dict[str, str]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def _host(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    return host if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
