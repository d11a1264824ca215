"""Mints a presigned GET URL, and parses it again before anybody gets it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from lora_packer.duration import format_duration
from lora_packer.errors import InputError, PublishError
from lora_packer.publisher.client import is_aws
from lora_packer.publisher.errors import s3_call
from lora_packer.publisher.s3uri import validate_bucket, validate_key
from lora_packer.publisher.sigv4 import signature
from lora_packer.redact import PresignedUrl

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from lora_packer.publisher.credentials import Signer

MINIMUM = timedelta(minutes=100)
"""What the service asks for (https://docs.together.ai/docs/dedicated-endpoints/adapter)."""

MAXIMUM = timedelta(days=7)
"""SigV4's limit (https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html); botocore mints
longer ones, which servers refuse."""

DEFAULT = timedelta(hours=12)

# Of the query; anything else in X-Amz-SignedHeaders the downloader would have to send, and it will not.
_ALGORITHM = "AWS4-HMAC-SHA256"
_SIGNED_HEADERS = "host"


def validate_expiry(expires_in: timedelta) -> None:
    """Raise InputError where a URL must not live that long, or that short."""
    if not MINIMUM <= expires_in <= MAXIMUM:
        raise InputError(
            f"A URL cannot expire in {format_duration(expires_in)}: between 100 minutes and 7 days is possible.",
            hint="Give --expires-in like 12h; the service needs at least 100m.",
        )


def presign(
    client: S3Client, signer: Signer, *, bucket: str, key: str, expires_in: timedelta, version_id: str | None = None
) -> PresignedUrl:
    """Return a URL that downloads the object with a plain GET.

    Args:
        client: made by ``s3_client`` with this signer, for the bucket's region.
        signer: whose URL it is.
        bucket: the object's bucket.
        key: its key.
        expires_in: 100 minutes to 7 days.
        version_id: pins the bytes in a versioned bucket.

    Raises:
        InputError: the expiry, the bucket or the key is none of a URL that works.
        PublishError: what botocore minted is not what was asked for.
    """
    validate_expiry(expires_in)
    validate_bucket(bucket)
    validate_key(key)
    # Nothing else: RequestPayer, ChecksumMode and their like become headers that the downloader would have to send.
    parameters = {"Bucket": bucket, "Key": key} | ({"VersionId": version_id} if version_id else {})
    seconds = int(expires_in.total_seconds())
    with s3_call("Presigning", f"s3://{bucket}/{key}"):
        text = client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
    fault = _fault(text, client, signer, bucket, key, seconds)
    if fault:
        raise PublishError(
            f"The URL minted for s3://{bucket}/{key} would not work: {fault}.",
            hint="Check --endpoint-url, the region, and the s3 section of the AWS profile.",
        )
    return PresignedUrl(text)


def _fault(text: str, client: S3Client, signer: Signer, bucket: str, key: str, seconds: int) -> str | None:
    """Return what is wrong with the URL, or None."""
    parts = urlsplit(text)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    region, endpoint = client.meta.region_name, client.meta.endpoint_url
    if query.get("X-Amz-Algorithm") != _ALGORITHM:
        return "it is not signed with SigV4"
    if query.get("X-Amz-SignedHeaders") != _SIGNED_HEADERS:
        return "its signature covers headers that a plain download does not send"
    if query.get("X-Amz-Expires") != str(seconds):
        return "its expiry is not the one that was asked for"
    access_key, _, scope = query.get("X-Amz-Credential", "").partition("/")
    if access_key != signer.access_key.reveal():
        return "it is signed by other credentials than those whose lifetime was checked"
    if scope.split("/")[1:2] != [region]:
        return f"it is signed for another region than {region}"
    if query.get("X-Amz-Signature") != signature(text, signer.secret_key):
        return "its signature is not the one that SigV4 gives it"
    if is_aws(endpoint):
        return _aws_host_fault(parts.hostname or "", unquote(parts.path), bucket, key, region)
    base = urlsplit(endpoint)
    expected = (base.scheme, base.netloc, f"{base.path.rstrip('/')}/{bucket}/{key}")
    if (parts.scheme, parts.netloc, unquote(parts.path)) != expected:
        return "its host or path is not the endpoint's"
    return None


def _aws_host_fault(host: str, path: str, bucket: str, key: str, region: str) -> str | None:
    if path == f"/{key}" and host.startswith(f"{bucket}."):
        service = host.removeprefix(f"{bucket}.")
    elif path == f"/{bucket}/{key}":
        service = host  # what a bucket with dots gets, for the sake of the certificate
    else:
        return "its host or path is not the bucket's"
    labels = service.split(".")
    # The global host belongs to us-east-1, and answers 307 for a young bucket elsewhere.
    if region in labels or region == "us-east-1" or "s3-accelerate" in labels:
        return None
    return f"its host {host} is not that of the region {region}"
