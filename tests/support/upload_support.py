"""A client of the local S3 server, a prefix and archives to upload, as fixtures: imported by the tests that need them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from publisher_support import MIB, LocalArchive, archive, connect, connection
from publisher_support import upload as upload_in_parts
from s3_support import session_for

from lora_packer.publisher.s3uri import Destination
from lora_packer.publisher.stored import StoredObject
from lora_packer.sandbox.s3 import LocalS3

PART = 5 * MIB  # the least that S3 takes; the smaller the parts, the faster the tests


def upload(what: LocalArchive, place: Destination, client: Any, **options: Any) -> StoredObject:
    return upload_in_parts(what, place, connection(client), part_size=PART, **options)


@pytest.fixture
def client(local_s3: LocalS3) -> Any:
    return connect(session_for(local_s3), local_s3.bucket, endpoint_url=local_s3.endpoint_url)


@pytest.fixture
def place(local_s3: LocalS3, request: pytest.FixtureRequest) -> Destination:
    """A prefix that no other test uses."""
    name = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return Destination(local_s3.bucket, f"{name}/")


@pytest.fixture
def small(tmp_path: Path) -> LocalArchive:
    return archive(tmp_path, 100_000)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LocalArchive:
    """Three parts, the last a short one."""
    return archive(tmp_path_factory.mktemp("large"), 2 * PART + MIB + 1, name="large.tar.gz")
