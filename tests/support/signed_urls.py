"""Signed URLs of every kind that the product knows, as their own tools mint them; with signatures that open nothing."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

HEX = "5a" * 32
RSA_HEX = "c3" * 256
SHORT = base64.b64encode(bytes(range(20))).decode()  # HMAC-SHA1
RSA = base64.b64encode(bytes(range(256))).decode()
AZURE = base64.b64encode(bytes(range(32))).decode()


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _for_cloudfront(text: bytes | str) -> str:
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))


def version_4(host: str, prefix: str, signature: str, life: timedelta, now: datetime, scope: str) -> str:
    return (
        f"https://{host}/adapters/a.zip?X-{prefix}-Algorithm=AWS4-HMAC-SHA256&X-{prefix}-Credential={quote(scope, safe='')}"
        f"&X-{prefix}-Date={now:%Y%m%dT%H%M%SZ}&X-{prefix}-Expires={int(life.total_seconds())}"
        f"&X-{prefix}-SignedHeaders=host&X-{prefix}-Signature={signature}"
    )


def s3_v4(life: timedelta, now: datetime) -> str:
    scope = "AKIAIOSFODNN7EXAMPLE/20261128/us-west-2/s3/aws4_request"
    return version_4("bucket.s3.us-west-2.amazonaws.com", "Amz", HEX, life, now, scope)


def google_v4(life: timedelta, now: datetime) -> str:
    scope = "someone@project.iam.gserviceaccount.com/20261128/auto/storage/goog4_request"
    return version_4("storage.googleapis.com", "Goog", RSA_HEX, life, now, scope)


def google_hmac(life: timedelta, now: datetime) -> str:
    scope = "GOOG1EXAMPLE/20261128/auto/storage/goog4_request"
    return version_4("storage.googleapis.com", "Goog", HEX, life, now, scope)


def google_v2(life: timedelta, now: datetime) -> str:
    return (
        "https://storage.googleapis.com/bucket/a.zip?GoogleAccessId=someone%40project.iam.gserviceaccount.com"
        f"&Expires={_seconds(now + life)}&Signature={quote(RSA, safe='')}"
    )


def s3_v2(life: timedelta, now: datetime) -> str:
    return (
        "https://bucket.s3.amazonaws.com/a.zip?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE"
        f"&Signature={quote(SHORT, safe='')}&Expires={_seconds(now + life)}"
    )


def oss_v4(life: timedelta, now: datetime) -> str:
    return (
        "https://bucket.oss-cn-hangzhou.aliyuncs.com/a.zip?x-oss-signature-version=OSS4-HMAC-SHA256"
        f"&x-oss-credential=LTAIEXAMPLE%2F20261128%2Fcn-hangzhou%2Foss%2Faliyun_v4_request&x-oss-date={now:%Y%m%dT%H%M%SZ}"
        f"&x-oss-expires={int(life.total_seconds())}&x-oss-signature={HEX}"
    )


def azure(life: timedelta, now: datetime) -> str:
    return (
        f"https://account.blob.core.windows.net/c/a.zip?sp=r&st={now:%Y-%m-%dT%H:%M:%SZ}&se={now + life:%Y-%m-%dT%H:%M:%SZ}"
        f"&spr=https&sv=2024-11-04&sr=b&sig={quote(AZURE, safe='')}"
    )


def azure_of_a_user(life: timedelta, now: datetime) -> str:
    """A user delegation: it lives no longer than the key that signed it."""
    return f"{azure(timedelta(days=6), now)}&skt={now:%Y-%m-%dT%H:%M:%SZ}&ske={now + life:%Y-%m-%dT%H:%M:%SZ}"


def cloudfront(life: timedelta, now: datetime) -> str:
    return (
        f"https://d111111abcdef8.cloudfront.net/a.zip?Expires={_seconds(now + life)}"
        f"&Signature={_for_cloudfront(bytes(range(256)))}&Key-Pair-Id=K2JCJMDEHXQW5F"
    )


def cloudfront_policy(life: timedelta, now: datetime) -> str:
    condition = {"DateLessThan": {"AWS:EpochTime": _seconds(now + life)}}
    policy = {"Statement": [{"Resource": "https://d111111abcdef8.cloudfront.net/a.zip", "Condition": condition}]}
    return (
        f"https://d111111abcdef8.cloudfront.net/a.zip?Policy={_for_cloudfront(json.dumps(policy))}"
        f"&Signature={_for_cloudfront(bytes(range(256)))}&Key-Pair-Id=K2JCJMDEHXQW5F"
    )


KINDS = {
    "S3, Version 4": s3_v4,
    "S3, Version 2": s3_v2,
    "Google, Version 4": google_v4,
    "Google, Version 4, HMAC": google_hmac,
    "Google, Version 2": google_v2,
    "OSS, Version 4": oss_v4,
    "Azure": azure,
    "Azure, a user's key": azure_of_a_user,
    "CloudFront": cloudfront,
    "CloudFront, a policy": cloudfront_policy,
}


def minted(kind: str, life: timedelta) -> str:
    """Return a URL of this kind, minted now, that lives so long."""
    return KINDS[kind](life, datetime.now(UTC))
