"""What ADAPTER names by its form alone: an object of S3, a URL, or a path on this machine."""

from __future__ import annotations

from lora_packer.hub import repo_in

_ELSEWHERE = ("s3://", "https://", "http://")


def is_elsewhere(adapter: object) -> bool:
    """Whether ADAPTER names an object or a prefix of S3, or a URL that is no page of the Hub's."""
    return isinstance(adapter, str) and adapter.startswith(_ELSEWHERE) and repo_in(adapter) is None


def is_stored_archive(adapter: object) -> bool:
    """Whether ADAPTER names a finished archive in S3."""
    return isinstance(adapter, str) and adapter.startswith("s3://") and adapter.endswith((".zip", ".tar.gz"))
