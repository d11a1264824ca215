"""Where an archive goes: ``s3://bucket/prefix/`` and the key below it."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.redact import escape

SUFFIXES = (".zip", ".tar.gz")

# Safe characters of an object key (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html): no client
# has to percent-encode one, so a signed path reaches the server as it was signed.
_KEY = re.compile(r"[A-Za-z0-9!_.*'()/-]+")
_KEY_BYTES = 1024
# Wider than today's rules (older buckets and other stores have capitals and underscores), but nothing that could
# change the meaning of a URL.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_STEM_CHARACTERS = 100
_DIGEST_CHARACTERS = 16
_OURS = re.compile(rf"[A-Za-z0-9!_.*'()/-]*[A-Za-z0-9._-]+-([0-9a-f]{{{_DIGEST_CHARACTERS}}})\.(?:zip|tar\.gz)")
# Of a key of ours: what tells its content, before the suffix.
_DIGEST = re.compile(rf"-[0-9a-f]{{{_DIGEST_CHARACTERS}}}(?=\.(?:zip|tar\.gz)$)")
_ENDS_IN_DIGEST = re.compile(rf"-[0-9a-f]{{{_DIGEST_CHARACTERS}}}$")
_HINT = "Write it like s3://my-bucket/adapters/."


@frozen
class Destination:
    """A bucket, and the prefix below which archives go: empty, or ending in a slash."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


def parse_destination(uri: str) -> Destination:
    """Return the destination that ``s3://bucket/prefix/`` names; the last slash may be missing. Raises InputError."""
    if not uri.startswith("s3://"):
        raise InputError(f"'{escape(uri)}' is not an S3 destination.", hint=_HINT)
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    validate_bucket(bucket)
    if prefix.endswith(SUFFIXES):
        raise InputError(
            f"'{escape(uri)}' names an object; the destination is a prefix.",
            hint="Leave the file name out: it is made from the archive's name and its digest.",
        )
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    if prefix:
        validate_key(prefix.removesuffix("/"))
    return Destination(bucket, prefix)


def parse_object(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of the archive that ``s3://bucket/key`` names. Raises InputError."""
    hint = "Write it like s3://my-bucket/adapters/my-adapter.zip."
    if not uri.startswith("s3://"):
        raise InputError(f"'{escape(uri)}' is not an S3 object.", hint=hint)
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    validate_bucket(bucket)
    if not key or key.endswith("/"):
        raise InputError(f"'{escape(uri)}' names no object.", hint=hint)
    validate_key(key)
    split_suffix(key)
    return bucket, key


def validate_bucket(bucket: str) -> None:
    """Raise InputError where ``bucket`` is no bucket name, or is one whose URLs cannot live long enough."""
    if bucket.startswith("arn:"):
        raise InputError("A bucket is named, not given by an ARN.", hint="Use the access point's alias instead.")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        raise InputError(f"'{escape(bucket)}' is not a bucket name.", hint=_HINT)
    if bucket.endswith("--x-s3"):
        # Such URLs are signed with a session that lives five minutes (S3ExpressQueryAuth in botocore/auth.py).
        raise InputError(
            f"{bucket!r} is an S3 Express directory bucket, whose presigned URLs live five minutes at most.",
            hint="Use a general purpose bucket.",
        )


def validate_key(key: str) -> None:
    """Raise InputError where ``key`` could not be downloaded unchanged by a plain HTTP client."""
    if not _KEY.fullmatch(key) or len(key) > _KEY_BYTES:
        raise InputError(
            f"'{escape(key)}' is not a key that every HTTP client leaves as it is.",
            hint="Use letters, digits and ! _ . * ' ( ) - / only, at most 1024 characters.",
        )
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise InputError(
            f"'{escape(key)}' has an empty, '.' or '..' segment, which HTTP clients rewrite.", hint="Remove it."
        )


def object_key(prefix: str, stem: str, sha256: str, suffix: str) -> str:
    """Return the content-addressed key ``<prefix><stem>-<16 characters of sha256><suffix>``.

    The same bytes have the same key, and other bytes another: what is there already is never overwritten.

    Args:
        prefix: empty, or ending in a slash.
        stem: the archive's name; what a key cannot have becomes a hyphen.
        sha256: the archive's SHA-256 in hex.
        suffix: ``.zip`` or ``.tar.gz``.

    Raises:
        InputError: the key would not be a valid one.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise InputError("The archive's SHA-256 must be 64 lower-case hexadecimal digits.")
    if suffix not in SUFFIXES:
        raise InputError(f"An archive's name ends in .zip or .tar.gz, not '{escape(suffix)}'.")
    digest = sha256[:_DIGEST_CHARACTERS]
    plain = _of_key(_plain(stem).removesuffix(f"-{digest}")) or "adapter"
    key = f"{prefix}{plain}-{digest}{suffix}"
    validate_key(key)
    return key


def key_beginning(prefix: str, stem: str) -> str:
    """Return how the key of an archive begins whose digest is not known yet; its stem may end in that."""
    return f"{prefix}{_of_key(_ENDS_IN_DIGEST.sub('', _plain(stem)))}"


def _plain(stem: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem)


def _of_key(plain: str) -> str:
    return plain[:_STEM_CHARACTERS].strip("-.")


def are_of_one_name(key: str, other: str) -> bool:
    """Return whether two keys of ours differ in the digest alone: the same adapter, with other content."""
    return is_object_key(key) and is_object_key(other) and _DIGEST.sub("", key) == _DIGEST.sub("", other)


def digest_in(address: str) -> str | None:
    """Return the first 16 hexadecimal digits of an archive's SHA-256, which the key of ``object_key`` in a URL names;
    None where it is another's key."""
    try:
        path = urlsplit(address).path
    except ValueError:
        return None
    found = _OURS.fullmatch(unquote(path).removeprefix("/"))
    return found[1] if found else None


def is_object_key(key: str) -> bool:
    """Return whether a key has the form that ``object_key`` gives them."""
    return bool(_OURS.fullmatch(key))


def split_suffix(name: str) -> tuple[str, str]:
    """Return a file name's stem and its archive suffix. Raises InputError where it has none."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    raise InputError(f"'{escape(name)}' is not an archive.", hint="Its name must end in .zip or .tar.gz.")


def key_for(name: str, sha256: str, destination: Destination) -> str:
    """Return the key that an archive gets. Raises InputError where it cannot have one."""
    stem, suffix = split_suffix(name)
    return object_key(destination.prefix, stem, sha256, suffix)


def keys_begin(name: str, destination: Destination) -> str:
    """Return how the key of an archive of this name begins, whatever its digest. Raises InputError."""
    return key_beginning(destination.prefix, split_suffix(name)[0])
