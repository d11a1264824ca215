"""Destinations and keys: what is accepted, what a key looks like, and what would poison a URL."""

from __future__ import annotations

import pytest

from lora_packer.errors import InputError
from lora_packer.publisher.s3uri import Destination, object_key, parse_destination, split_suffix, validate_key

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/adapters", "bucket", "adapters/"),
        ("s3://bucket/adapters/", "bucket", "adapters/"),
        ("s3://my.dotted.bucket/a/b-c/", "my.dotted.bucket", "a/b-c/"),
        ("s3://Old_Bucket/x", "Old_Bucket", "x/"),
    ],
)
def test_destinations(uri: str, bucket: str, prefix: str) -> None:
    assert parse_destination(uri) == Destination(bucket, prefix)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "bucket/prefix",
        "https://bucket.s3.amazonaws.com/",
        "s3://",
        "s3:///prefix",
        "s3://ab",
        "s3://bucket?x=1/",
        "s3://user:password@bucket/",
        "s3://bucket/../other/",
        "s3://bucket/a//b",
        "s3://bucket//",
        "s3://bucket/./",
        "s3://bucket/with space/",
        "s3://bucket/ü/",
        "s3://bucket/a%2Fb/",
        "s3://bucket/line\nbreak/",
        "s3://bucket/file.zip",
        "s3://bucket/file.tar.gz",
        "s3://express--use1-az4--x-s3/",
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/name/",
        "s3://a..b/",
    ],
)
def test_what_is_no_destination(uri: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_destination(uri)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("my-adapter", "p/my-adapter-0123456789abcdef.zip"),
        ("my adapter (final)", "p/my-adapter-final-0123456789abcdef.zip"),
        ("../../etc/passwd", "p/etc-passwd-0123456789abcdef.zip"),
        ("über", "p/ber-0123456789abcdef.zip"),
        ("", "p/adapter-0123456789abcdef.zip"),
        ("模型", "p/adapter-0123456789abcdef.zip"),
        ("again-0123456789abcdef", "p/again-0123456789abcdef.zip"),
        ("x" * 300, f"p/{'x' * 100}-0123456789abcdef.zip"),
        ("v1.0", "p/v1.0-0123456789abcdef.zip"),
    ],
)
def test_keys_are_made_from_the_name_and_the_digest(stem: str, key: str) -> None:
    assert object_key("p/", stem, SHA, ".zip") == key
    validate_key(key)


@pytest.mark.parametrize(
    ("prefix", "sha256", "suffix"),
    [
        ("p/", SHA[:-1], ".zip"),
        ("p/", SHA.upper(), ".zip"),
        ("p/", SHA, ".tgz"),
        ("x" * 1024 + "/", SHA, ".zip"),
        ("../", SHA, ".zip"),
    ],
)
def test_what_no_key_is_made_from(prefix: str, sha256: str, suffix: str) -> None:
    with pytest.raises(InputError):
        object_key(prefix, "adapter", sha256, suffix)


def test_suffixes() -> None:
    assert split_suffix("a.b.tar.gz") == ("a.b", ".tar.gz")
    assert split_suffix("a.zip") == ("a", ".zip")
    with pytest.raises(InputError, match=r"\.zip or \.tar\.gz"):
        split_suffix("a.tgz")
