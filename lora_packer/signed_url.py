"""What a signed URL says about itself: how long it lives, and whether it is whole. No word of it is told to anybody.

Known are Signature Version 4 of S3 (docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html), of Google
Cloud Storage (cloud.google.com/storage/docs/authentication/canonical-requests) and of Alibaba's OSS; Version 2 of S3
(docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html, "Query string request authentication
alternative") and those that look like it; CloudFront's canned and custom policies
(docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html); and Azure's shared access
signatures (learn.microsoft.com/rest/api/storageservices/create-service-sas).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from lora_packer.frozen import frozen

_LONGEST = 7 * 24 * 3600  # seconds; what Version 4 allows, at S3 as at Google
_STAMP = re.compile(r"\d{8}T\d{6}Z")
_VERSION_4 = ("x-amz-", "x-goog-", "x-oss-")
_SPELLED = {"amz": "Amz", "goog": "Goog", "oss": "Oss", "signedheaders": "SignedHeaders"}
_NEEDED = {
    "x-amz-": ("algorithm", "credential", "date", "expires", "signedheaders", "signature"),
    "x-goog-": ("algorithm", "credential", "date", "expires", "signedheaders", "signature"),
    "x-oss-": ("signature-version", "credential", "date", "expires", "signature"),
}
_KEY_IDS = {
    "awsaccesskeyid": "AWSAccessKeyId",
    "googleaccessid": "GoogleAccessId",
    "ossaccesskeyid": "OSSAccessKeyId",
    "key-pair-id": "Key-Pair-Id",
}
_MAX_POLICY = 16_384  # characters

# Lengths that a signature can have: hexadecimal characters of HMAC-SHA256, of ECDSA (Version 4A) and of RSA; bytes of
# HMAC-SHA1 and of HMAC-SHA256. RSA keys have 1024 to 4096 bits.
_RSA = (128, 256, 384, 512)  # bytes
_ECDSA = range(66, 73)  # bytes, on the curve P-256 in DER
_HEX = (64, *(2 * size for size in _RSA), *(2 * size for size in _ECDSA))
_SHORT = {
    "awsaccesskeyid": (20,),
    "ossaccesskeyid": (20,),
    "googleaccessid": (20, *_RSA),
    "key-pair-id": (*_RSA, *_ECDSA),
}

_TWICE = re.compile(r"%26(amp%3b)?(x-(amz|goog|oss)-|signature|expires|sig%3d|key-pair-id)|^x-(amz|goog)-\w+%3d", re.I)
_NEVER = re.compile(r"[\"<>`]|\^&")


@frozen
class Life:
    """From when to when a URL works (UTC); None where it does not say."""

    begins: datetime | None = None
    ends: datetime | None = None


def life_of(url: str) -> Life:
    """Return from when to when the URL works, by what it says itself. It says nothing about the key that signed it."""
    query = _query(url)
    begins: list[datetime | None] = []
    ends: list[datetime | None] = []
    for prefix in _VERSION_4:
        signed, seconds = _stamp(query.get(f"{prefix}date", "")), _number(query.get(f"{prefix}expires", ""))
        if signed is not None and seconds is not None:
            begins.append(signed)
            ends.append(signed + timedelta(seconds=seconds))
    if "signature" in query:
        ends.append(_epoch(_number(query.get("expires", ""))))
        after, before = _policy(query.get("policy", ""))
        begins.append(after)
        ends.append(before)
    if "sig" in query:
        begins += [_moment(query.get("st", "")), _moment(query.get("skt", ""))]
        ends += [_moment(query.get("se", "")), _moment(query.get("ske", ""))]
    return Life(max(filter(None, begins), default=None), min(filter(None, ends), default=None))


def damage_in(url: str) -> str | None:
    """Return what shows that a URL was damaged on its way here, in words without any of it; None where nothing does."""
    text = urlsplit(url).query
    if "\\u0026" in url.lower() or "\\u003d" in url.lower():
        return "\\u0026 stands where & belongs, as in JSON text"
    if "\\" in url:
        return "it has a backslash in it, as some shells add them"
    if "&amp;" in url.lower():
        return "&amp; stands where & belongs, as in HTML or XML text"
    if _TWICE.search(text):
        return "its query is percent-encoded as a whole"
    if _NEVER.search(text):
        return "its query has a quote, a bracket or another character in it that no URL has"
    query = _query(url)
    return _damaged_4(query) or _damaged_2(query, _host(url)) or _damaged_azure(query, _host(url))


def needs_headers(url: str) -> bool:
    """Whether the signature covers headers that a plain GET does not send: it is refused without them."""
    query = _query(url)
    covered = ";".join(query.get(f"{prefix}signedheaders", "") for prefix in _VERSION_4).lower()
    return bool(set(filter(None, covered.split(";"))) - {"host"})


def _damaged_4(query: Mapping[str, str]) -> str | None:
    """What is wrong with a signature of Version 4."""
    for prefix, needed in _NEEDED.items():
        there = [name for name in needed if prefix + name in query]
        if not there:
            continue
        if len(there) < len(needed):
            missing = next(name for name in needed if name not in there)
            return f"it is cut off: {_spelled(prefix + missing)} is missing, as where a shell ended it at an &"
        if not _is_hex(query[f"{prefix}signature"], _HEX):
            return f"its {_spelled(prefix + 'signature')} is not whole"
        if query[f"{prefix}credential"].count("/") < 3:
            return f"its {_spelled(prefix + 'credential')} is not whole, or is percent-encoded twice"
        if _stamp(query[f"{prefix}date"]) is None:
            return f"its {_spelled(prefix + 'date')} is not a time"
        seconds = _number(query[f"{prefix}expires"])
        if seconds is None or not 0 < seconds <= _LONGEST:
            return f"its {_spelled(prefix + 'expires')} is not a number of seconds up to 7 days"
    return None


def _damaged_2(query: Mapping[str, str], host: str) -> str | None:
    """What is wrong with a signature of Version 2 or CloudFront's."""
    key = next((name for name in _KEY_IDS if name in query), None)
    if key is None and host.endswith(".cloudfront.net") and query.keys() & {"expires", "policy", "signature"}:
        return "it is cut off: Key-Pair-Id is missing"
    if key is None:
        return "it is cut off: Signature is missing" if [*query] == ["expires"] else None
    if "signature" not in query:
        return "it is cut off: Signature is missing, as where a shell ended it at an &"
    if not _is_base64(query["signature"], _SHORT[key]):
        return "its Signature is not whole"
    if key == "key-pair-id" and "policy" in query:
        return None if _policy(query["policy"])[1] else "its Policy is not whole"
    if "expires" not in query:
        return "it is cut off: Expires is missing"
    return None if _epoch(_number(query["expires"])) else "its Expires is not a time in seconds since 1970"


def _damaged_azure(query: Mapping[str, str], host: str) -> str | None:
    """What is wrong with a shared access signature. A stored policy (``si``) may have its times."""
    of_azure = host.endswith(".core.windows.net") and query.keys() & {"sv", "sp", "sr", "st", "se", "si", "spr"}
    if not (of_azure or ("sv" in query and "sig" in query)):
        return None
    if "sig" not in query:
        return "it is cut off: sig is missing, as where a shell ended it at an &"
    if not _is_base64(query["sig"], (32,)):
        return "its sig is not whole"
    if not query.keys() & {"se", "si"}:
        return "it is cut off: se is missing"
    return "its se is not a time" if "se" in query and _moment(query["se"]) is None else None


def _query(url: str) -> dict[str, str]:
    """The first value of each parameter, by its name in lower case."""
    found: dict[str, str] = {}
    for pair in urlsplit(url).query.split("&"):
        name, _, value = pair.partition("=")
        if name:
            found.setdefault(unquote(name).lower(), unquote(value))
    return found


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").rstrip(".")


def _spelled(name: str) -> str:
    """A parameter's name as its documentation writes it."""
    return "-".join(_SPELLED.get(part, part.capitalize()) for part in name.split("-"))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 11 else None


def _epoch(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _stamp(text: str) -> datetime | None:
    """``20261128T173000Z``."""
    if not _STAMP.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _moment(text: str) -> datetime | None:
    """A time or a day of ISO 8601; without a zone it is UTC, as Azure has it."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)


def _policy(text: str) -> tuple[datetime | None, datetime | None]:
    """From when to when a custom policy of CloudFront holds: Base64 of JSON, with three characters replaced."""
    if not text or len(text) > _MAX_POLICY:
        return None, None
    try:
        value = json.loads(base64.b64decode(text.translate(str.maketrans("-_~", "+=/")), validate=True))
        (statement,) = value["Statement"]
        condition = statement["Condition"]
        return _bound(condition, "DateGreaterThan"), _bound(condition, "DateLessThan")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None, None


def _bound(condition: Mapping[str, Any], name: str) -> datetime | None:
    found = condition[name]["AWS:EpochTime"] if name in condition else None
    return _epoch(found) if type(found) is int and 0 <= found < 10**11 else None


def _is_hex(text: str, lengths: tuple[int, ...]) -> bool:
    return len(text) in lengths and re.fullmatch(r"[0-9A-Fa-f]+", text) is not None


def _is_base64(text: str, lengths: tuple[int, ...]) -> bool:
    """Whether this is Base64 of so many bytes, in one of its alphabets, or CloudFront's of it."""
    body = text.rstrip("=_")  # what fills it up: = as usual, _ at CloudFront
    return len(body) * 3 // 4 in lengths and re.fullmatch(r"[A-Za-z0-9+/~_-]+", body) is not None
