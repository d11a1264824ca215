"""The S3 client, always built here: botocore's defaults are traps for a presigned URL.

- SigV2 is still its default for presigning in old regions (``_default_s3_presign_to_sigv2`` in botocore/client.py).
- Without virtual addressing a URL has the global host, which answers 307 for a young bucket elsewhere
  (``_should_use_global_endpoint`` in botocore/signers.py).
- Default checksums are an aws-chunked trailer over TLS, which other stores refuse (botocore/httpchecksum.py); each
  request of ours carries Content-MD5 instead, which all of them check.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from lora_packer.errors import InputError
from lora_packer.publisher.s3errors import s3_call
from lora_packer.redact import escape

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_s3 import S3Client

    from lora_packer.publisher.credentials import Signer

_FALLBACK_REGION = "us-east-1"
_CONNECT_TIMEOUT = 10  # seconds
_READ_TIMEOUT = 60  # seconds
_TRIES = 5
_CONNECTIONS = 8


def s3_client(
    session: Session, *, endpoint_url: str | None = None, region: str | None = None, signer: Signer | None = None
) -> S3Client:
    """Return a client whose URLs and requests are accepted by AWS and by S3-compatible stores.

    Args:
        session: whose configuration (profile, environment, configured endpoints) it follows.
        endpoint_url: the store; None: what is configured, else AWS.
        region: to sign for; None: the session's, else us-east-1.
        signer: sign with these credentials and no others; None: the session's, refreshed as it goes.

    Raises:
        InputError: the endpoint is not https (or http on loopback).
        PublishError: botocore cannot make a client of the configuration.
    """
    if endpoint_url is not None:
        _validate_endpoint(endpoint_url)
    region = region or session.region_name or _FALLBACK_REGION
    with s3_call("Setting up the client", f"region {escape(region, 40)}"):
        client = _build(session, endpoint_url, region, "virtual", signer)
        # The host may come from the environment or the profile: only now is it known.
        _validate_endpoint(client.meta.endpoint_url)
        if is_aws(client.meta.endpoint_url):
            return client
        return _build(session, endpoint_url, region, "path", signer)


def connect(session: Session, bucket: str, *, endpoint_url: str | None = None) -> S3Client:
    """Return a client for the bucket's own region, having asked for it.

    Raises:
        InputError: the endpoint is not https (or http on loopback).
        PublishError: no such bucket, or the store cannot be reached.
    """
    client = s3_client(session, endpoint_url=endpoint_url)
    region = _bucket_region(client, bucket)
    if region is None or region == client.meta.region_name:
        return client
    return s3_client(session, endpoint_url=endpoint_url, region=region)


def is_aws(endpoint_url: str) -> bool:
    """Return whether the endpoint is AWS's own S3, in any of its partitions (botocore/data/partitions.json)."""
    host = urlsplit(endpoint_url).hostname or ""
    # Other people's stores live under amazonaws.com too, on its load balancers and machines.
    return host.endswith(_aws_suffixes()) and any(f"{label}-".startswith("s3-") for label in host.split("."))


def is_loopback(host: str) -> bool:
    """Return whether the host is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _build(
    session: Session,
    endpoint_url: str | None,
    region: str,
    addressing: Literal["virtual", "path"],
    signer: Signer | None,
) -> S3Client:
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": addressing},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        max_pool_connections=_CONNECTIONS,
    )
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=config,
        aws_access_key_id=signer.access_key.reveal() if signer else None,
        aws_secret_access_key=signer.secret_key.reveal() if signer else None,
        aws_session_token=signer.token.reveal() if signer and signer.token else None,
    )


def _bucket_region(client: S3Client, bucket: str) -> str | None:
    """Ask the bucket for its region; None where the answer does not say (other stores, or access denied)."""
    from botocore.exceptions import ClientError

    where = f"s3://{bucket}"
    with s3_call("HeadBucket", where):
        try:
            headers = client.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPHeaders"]
        except ClientError as error:
            headers = error.response["ResponseMetadata"]["HTTPHeaders"]
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                error.response["Error"]["Code"] = "NoSuchBucket"
                raise
            # 403 and 400 are judged later, by a request whose answer has a body.
    return headers.get("x-amz-bucket-region")


def _validate_endpoint(endpoint_url: str) -> None:
    parts = urlsplit(endpoint_url)
    if not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise InputError("The endpoint is not a URL.", hint="Write --endpoint-url like https://s3.example.com.")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)):
        return
    raise InputError(
        f"The endpoint {escape(parts.scheme)}://{escape(parts.hostname)} is not https: the archive and the URL would "
        "travel unprotected.",
        hint="Use https; http is for this machine's own loopback.",
    )


def _aws_suffixes() -> tuple[str, ...]:
    from botocore.loaders import create_loader

    partitions = create_loader().load_data("partitions")["partitions"]
    outputs = [partition["outputs"] for partition in partitions]
    return tuple({f".{output[name]}" for output in outputs for name in ("dnsSuffix", "dualStackDnsSuffix")})
