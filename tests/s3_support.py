"""The one real S3 server of the test run: started when the first test asks for it, gone with the run."""

from __future__ import annotations

import atexit
import functools

import boto3
import pytest

from lora_packer.sandbox.s3 import LocalS3


@functools.cache
def running_s3() -> LocalS3:
    """The server. A fixture alone would start one for each module that imports it."""
    server = LocalS3(bucket="test-bucket")
    server.__enter__()
    atexit.register(server.stop)
    return server


@pytest.fixture(scope="session")
def local_s3() -> LocalS3:
    """A running S3 server with one bucket, shared by all tests: give each test a prefix of its own."""
    return running_s3()


@functools.cache
def session_for(server: LocalS3) -> boto3.Session:
    """A session with the server's keys; one for all, as the first client of a session takes its time."""
    return boto3.Session(
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key.reveal(),
        region_name=server.region,
    )
