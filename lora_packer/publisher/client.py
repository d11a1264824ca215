"""The S3 client, always built here: botocore's defaults are traps for a presigned URL.

- SigV2 is still its default for presigning in old regions (``_default_s3_presign_to_sigv2`` in botocore/client.py).
- Without virtual addressing a URL has the global host, which answers 307 for a young bucket elsewhere
  (``_should_use_global_endpoint`` in botocore/signers.py).
- Default checksums are an aws-chunked trailer over TLS, which other stores refuse (botocore/httpchecksum.py); ours are
  headers (``parts``).
- A body's SHA-256 is signed, where TLS makes that useless or nobody is on the way.
- Its retries give up within a second, and repeat what must not be made twice (CreateMultipartUpload): it makes each
  request once, and ``connection`` repeats it.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from lora_packer.address import is_loopback, is_private
from lora_packer.errors import InputError
from lora_packer.exchange import SILENCE
from lora_packer.frozen import frozen
from lora_packer.publisher.bounds import bound
from lora_packer.publisher.errors import s3_call
from lora_packer.redact import escape

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_s3 import S3Client

    from lora_packer.publisher.credentials import Signer

_ENDPOINT_HINT = "Write --endpoint-url like https://s3.example.com."
_FALLBACK_REGION = "us-east-1"
_CONNECT_TIMEOUT = 10  # seconds
_READ_TIMEOUT = SILENCE
_CONNECTIONS = 8


def s3_client(
    session: Session,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    signer: Signer | None = None,
    allow_private: bool = False,
) -> S3Client:
    """Return a client whose URLs and requests are accepted by AWS and by S3-compatible stores.

    Args:
        session: whose configuration (profile, environment, configured endpoints) it follows.
        endpoint_url: the store; None: what is configured, else AWS.
        region: to sign for; None: the session's, else us-east-1.
        signer: sign with these credentials and no others; None: the session's, refreshed as it goes.
        allow_private: take an endpoint in a private network, and http, too.

    Raises:
        InputError: the endpoint is not https and public (this machine's loopback is taken as it is).
        PublishError: botocore cannot make a client of the configuration.
    """
    region = region_of(session, region)
    with s3_call("Setting up the client", f"region {escape(region, 40)}"):
        if endpoint_url is None:
            # The host may come from the environment or the profile: only the client knows.
            client = _build(session, None, region, _AWS, signer)
            form = _form_of(client.meta.endpoint_url, allow_private=allow_private)
            return client if form == _AWS else _build(session, None, region, form, signer)
        form = _form_of(endpoint_url, allow_private=allow_private)
        return _build(session, endpoint_url, region, form, signer)


def region_of(session: Session, region: str | None = None) -> str:
    """Return the region that a client of the session signs for, where none or this one is asked for."""
    return region or session.region_name or _FALLBACK_REGION


def is_aws(endpoint_url: str) -> bool:
    """Return whether the endpoint is AWS's own S3, in any of its partitions (botocore/data/partitions.json)."""
    host = urlsplit(endpoint_url).hostname or ""
    # Other people's stores live under amazonaws.com too, on its load balancers and machines.
    return host.endswith(_aws_suffixes()) and any(f"{label}-".startswith("s3-") for label in host.split("."))


@frozen
class _Form:
    """How a store wants to be spoken to: its URLs' form, whether bodies are signed, and whether past all proxies."""

    addressing: Literal["virtual", "path"]
    sign_payload: bool
    direct: bool


_AWS = _Form("virtual", sign_payload=False, direct=False)


def _form_of(endpoint_url: str, *, allow_private: bool) -> _Form:
    """Return how that store is spoken to. Raises InputError where it is none to be spoken to."""
    _validate_endpoint(endpoint_url, allow_private=allow_private)
    return _Form(
        "virtual" if is_aws(endpoint_url) else "path",
        sign_payload=_is_exposed(endpoint_url),
        # A proxy of the environment has no business with this machine's own.
        direct=is_loopback(urlsplit(endpoint_url).hostname or ""),
    )


def _build(session: Session, endpoint_url: str | None, region: str, form: _Form, signer: Signer | None) -> S3Client:
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": form.addressing, "payload_signing_enabled": form.sign_payload},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=_CONNECTIONS,
        proxies={} if form.direct else None,
    )
    client = session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=config,
        aws_access_key_id=signer.access_key.reveal() if signer else None,
        aws_secret_access_key=signer.secret_key.reveal() if signer else None,
        aws_session_token=signer.token.reveal() if signer and signer.token else None,
    )
    bound(client)
    return client


def _is_exposed(endpoint_url: str) -> bool:
    """Return whether somebody on the way could change what is sent: there the signature covers a body's SHA-256, too.

    Over TLS, and on this machine's own loopback, that would only cost time.
    """
    parts = urlsplit(endpoint_url)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _validate_endpoint(endpoint_url: str, *, allow_private: bool) -> None:
    try:
        parts = urlsplit(endpoint_url)
    except ValueError:
        raise InputError("The endpoint is not a URL.", hint=_ENDPOINT_HINT) from None
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise InputError("The endpoint is not a URL.", hint=_ENDPOINT_HINT)
    if parts.scheme not in ("http", "https"):
        raise InputError(f"The endpoint's scheme {escape(parts.scheme)} is not https.", hint="Use https.")
    if is_loopback(parts.hostname) or allow_private:
        return
    if parts.scheme == "http":
        raise InputError(
            f"The endpoint http://{escape(parts.hostname)} is not https: the archive and the URL would travel "
            "unprotected.",
            hint="Use https; http is for this machine's own loopback, or with --allow-private-endpoint.",
        )
    if is_private(parts.hostname):
        raise InputError(
            f"The endpoint {escape(parts.hostname)} is in a private network: the service could not fetch from there.",
            hint="Use a public endpoint, or --allow-private-endpoint where the downloader is in that network.",
        )


@cache
def _aws_suffixes() -> tuple[str, ...]:
    from botocore.loaders import create_loader

    partitions = create_loader().load_data("partitions")["partitions"]
    outputs = [partition["outputs"] for partition in partitions]
    return tuple({f".{output[name]}" for output in outputs for name in ("dnsSuffix", "dualStackDnsSuffix")})
