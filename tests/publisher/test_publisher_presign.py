"""The form of a URL, offline: algorithm, host, path, signed headers, expiry, for every kind of store."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from publisher_support import connect

from lora_packer.errors import InputError, PublishError
from lora_packer.publisher.client import is_aws, s3_client
from lora_packer.publisher.credentials import freeze
from lora_packer.publisher.presign import presign
from lora_packer.redact import PresignedUrl

KEY = "adapters/my-adapter-0123456789abcdef.zip"
SECRET = "a-secret-key-that-nobody-may-see"
TOKEN = "a-session-token-that-nobody-may-see"
HOUR = timedelta(hours=1)


def new_session(token: str | None = None) -> boto3.Session:
    return boto3.Session("AKIAFAKEFAKEFAKEFAKE", SECRET, token)


# Shared where the environment does not matter: the first client of a session takes its time.
session = functools.cache(new_session)


def mint(
    region: str,
    bucket: str = "bucket",
    endpoint: str | None = None,
    key: str = KEY,
    expires_in: timedelta = 12 * HOUR,
    token: str | None = None,
    version_id: str | None = None,
    account: boto3.Session | None = None,
) -> PresignedUrl:
    account = account or session(token)
    by = freeze(account)
    client = s3_client(account, endpoint_url=endpoint, region=region, signer=by)
    return presign(client, by, bucket=bucket, key=key, expires_in=expires_in, version_id=version_id)


@pytest.mark.parametrize(
    ("region", "bucket", "endpoint", "base"),
    [
        ("us-east-1", "bucket", None, "https://bucket.s3.amazonaws.com/"),
        ("us-west-2", "bucket", None, "https://bucket.s3.us-west-2.amazonaws.com/"),
        ("eu-central-1", "bucket", None, "https://bucket.s3.eu-central-1.amazonaws.com/"),
        ("eu-west-1", "dotted.bucket", None, "https://s3.eu-west-1.amazonaws.com/dotted.bucket/"),
        ("us-east-1", "dotted.bucket", None, "https://s3.amazonaws.com/dotted.bucket/"),
        ("us-gov-west-1", "bucket", None, "https://bucket.s3.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", "bucket", None, "https://bucket.s3.cn-north-1.amazonaws.com.cn/"),
        # An access point, by its alias: it is a bucket's name wherever one is asked for.
        ("us-west-2", "point-abc123-s3alias", None, "https://point-abc123-s3alias.s3.us-west-2.amazonaws.com/"),
        (
            "eu-central-1",
            "bucket",
            "https://s3.eu-central-1.amazonaws.com",
            "https://bucket.s3.eu-central-1.amazonaws.com/",
        ),
        ("us-east-1", "bucket", "https://minio.example.com:9000", "https://minio.example.com:9000/bucket/"),
        ("us-east-1", "bucket", "https://example.com/store", "https://example.com/store/bucket/"),
        ("us-east-1", "dotted.bucket", "https://minio.example.com", "https://minio.example.com/dotted.bucket/"),
        ("us-east-1", "bucket", "http://127.0.0.1:9000", "http://127.0.0.1:9000/bucket/"),
        ("us-east-1", "bucket", "http://[::1]:9000", "http://[::1]:9000/bucket/"),
        (
            "auto",
            "bucket",
            "https://account.r2.cloudflarestorage.com",
            "https://account.r2.cloudflarestorage.com/bucket/",
        ),
    ],
)
def test_the_form_of_a_url(region: str, bucket: str, endpoint: str | None, base: str) -> None:
    url = mint(region, bucket, endpoint).reveal()
    parts = urlsplit(url)
    query = {name: values for name, values in parse_qs(parts.query).items() if name != "X-Amz-Signature"}
    date = query.pop("X-Amz-Date")[0]
    assert url.partition("?")[0] == base + KEY
    assert query == {
        "X-Amz-Algorithm": ["AWS4-HMAC-SHA256"],
        "X-Amz-Credential": [f"AKIAFAKEFAKEFAKEFAKE/{date[:8]}/{region}/s3/aws4_request"],
        "X-Amz-Expires": ["43200"],
        "X-Amz-SignedHeaders": ["host"],
    }


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_from_the_environment_gets_the_settings_of_its_host(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "https://minio.example.com:9000")
    url = mint("us-east-1", account=new_session())
    assert url.reveal().startswith("https://minio.example.com:9000/bucket/")


def test_an_endpoint_from_the_profile(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nservices = here\n[services here]\ns3 =\n  endpoint_url = https://ceph.example.com\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert mint("us-east-1", account=new_session()).reveal().startswith("https://ceph.example.com/bucket/")


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "bucket.s3-fips.us-west-2.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "bucket.s3.dualstack.us-west-2.amazonaws.com"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
            "bucket.s3-fips.dualstack.us-west-2.amazonaws.com",
        ),
    ],
)
def test_variants_of_the_aws_endpoint(variables: dict[str, str], host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert urlsplit(mint("us-west-2", account=new_session()).reveal()).hostname == host


def test_transfer_acceleration_of_the_profile(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host has no region, and serves all of them."""
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  use_accelerate_endpoint = true\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert urlsplit(mint("eu-west-3", account=new_session()).reveal()).hostname == "bucket.s3-accelerate.amazonaws.com"


@pytest.mark.parametrize("endpoint", [None, "https://minio.example.com:9000"])
def test_a_url_that_is_signed_for_another_region_is_refused(
    endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = session()
    by = freeze(account)
    client = s3_client(account, endpoint_url=endpoint, region="us-east-1", signer=by)
    elsewhere = s3_client(account, endpoint_url=endpoint, region="eu-central-1", signer=by)
    monkeypatch.setattr(client, "generate_presigned_url", elsewhere.generate_presigned_url)
    with pytest.raises(PublishError, match="signed for another region than us-east-1"):
        presign(client, by, bucket="bucket", key=KEY, expires_in=2 * HOUR)


def test_a_session_token_and_a_version_are_in_the_query_and_not_shown() -> None:
    url = mint("us-east-1", token=TOKEN, version_id="v-1")
    query = parse_qs(urlsplit(url.reveal()).query)
    assert (query["X-Amz-Security-Token"], query["versionId"]) == ([TOKEN], ["v-1"])
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert "Amz" not in f"{url} {url!r}"


def test_the_url_says_when_it_ends() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    deadline = mint("us-east-1", expires_in=2 * HOUR).deadline
    assert deadline is not None
    assert before + 2 * HOUR <= deadline <= datetime.now(UTC) + 2 * HOUR


@pytest.mark.parametrize(
    "expires_in",
    [timedelta(minutes=99, seconds=59), timedelta(0), timedelta(seconds=-5), timedelta(days=7, seconds=1)],
)
def test_lifetimes_that_no_url_may_have(expires_in: timedelta) -> None:
    with pytest.raises(InputError, match="100 minutes and 7 days"):
        mint("us-east-1", expires_in=expires_in)


@pytest.mark.parametrize("expires_in", [timedelta(minutes=100), timedelta(days=7)])
def test_the_limits_themselves(expires_in: timedelta) -> None:
    query = parse_qs(urlsplit(mint("us-east-1", expires_in=expires_in).reveal()).query)
    assert query["X-Amz-Expires"] == [str(int(expires_in.total_seconds()))]


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("express--use1-az4--x-s3", KEY),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/name", KEY),
        ("bucket", "../x.zip"),
        ("bucket", "a//b.zip"),
        ("bucket", "a b.zip"),
        ("bucket", "ü.zip"),
    ],
)
def test_what_is_not_signed(bucket: str, key: str) -> None:
    with pytest.raises(InputError):
        mint("us-east-1", bucket=bucket, key=key)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://minio.example.com:9000",
        "http://10.0.0.1",
        "http://s3.us-east-1.amazonaws.com",
        "ftp://example.com",
        "minio.example.com",
        "https://[::1",
        "https://user:password@example.com",
        "https://example.com?x=1",
        "https://10.0.0.1:9000",
        "https://192.168.1.5",
        "https://172.16.0.1",
        "https://169.254.10.10",
        "https://100.64.0.1",
        "https://[fd00::1]:9000",
        "https://minio:9000",
        "https://minio.local",
        "https://minio.storage.svc.cluster.local",
        "https://host.docker.internal",
        "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com",
    ],
)
@pytest.mark.parametrize("configured", [False, True])
def test_endpoints_that_are_refused(endpoint: str, configured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if configured:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises((InputError, PublishError)) as caught:
        s3_client(new_session(), endpoint_url=None if configured else endpoint)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint", ["http://minio.example.com:9000", "http://10.0.0.1", "https://minio:9000", "https://[fd00::1]:9000"]
)
def test_private_endpoints_are_taken_where_that_is_said(endpoint: str) -> None:
    by = freeze(session())
    client = s3_client(session(), endpoint_url=endpoint, region="us-east-1", signer=by, allow_private=True)
    url = presign(client, by, bucket="bucket", key=KEY, expires_in=12 * HOUR)
    assert url.reveal().startswith(f"{endpoint}/bucket/")


@pytest.mark.parametrize(
    "parameters",
    [
        {"RequestPayer": "requester"},
        {"ExpectedBucketOwner": "123456789012"},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        {"ChecksumMode": "ENABLED"},
        {"Range": "bytes=0-0"},
        {"IfMatch": "etag"},
    ],
    ids=lambda parameters: next(iter(parameters)),
)
def test_parameters_that_a_plain_download_cannot_send_are_refused(parameters: dict[str, str]) -> None:
    """Not ours: botocore's events let plug-ins and configuration add them."""
    by = freeze(session())
    client = s3_client(session(), region="us-east-1", signer=by)

    def add(params: dict[str, Any], **_: object) -> None:
        params.update(parameters)

    client.meta.events.register_first("before-parameter-build.s3.GetObject", add)
    client.meta.events.register_first("provide-client-params.s3.GetObject", add)
    with pytest.raises(PublishError, match="covers headers that a plain download does not send"):
        presign(client, by, bucket="bucket", key=KEY, expires_in=12 * HOUR)


@pytest.mark.parametrize(
    ("endpoint", "aws"),
    [
        ("https://s3.amazonaws.com", True),
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://s3-fips.us-west-2.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://s3.eusc-de-east-1.amazonaws.eu", True),
        ("https://my-minio-1.eu-west-1.elb.amazonaws.com", False),
        ("https://ec2-1-2-3-4.compute.amazonaws.com:9000", False),
        ("https://amazonaws.com.example.com", False),
        ("https://notamazonaws.com", False),
        ("https://s3.eu-central-003.backblazeb2.com", False),
        ("https://storage.googleapis.com", False),
        ("http://127.0.0.1:9000", False),
    ],
)
def test_which_endpoints_are_amazons(endpoint: str, aws: bool) -> None:
    assert is_aws(endpoint) is aws


def test_a_url_by_other_credentials_is_refused() -> None:
    client = s3_client(session(), region="us-east-1", signer=freeze(session()))
    other = freeze(boto3.Session("AKIAOTHEROTHEROTHERX", SECRET))
    with pytest.raises(PublishError, match="other credentials") as caught:
        presign(client, other, bucket="bucket", key=KEY, expires_in=12 * HOUR)
    assert SECRET not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_a_global_host_for_a_bucket_elsewhere_is_refused() -> None:
    by = freeze(session())
    client = session().client("s3", region_name="eu-central-1")  # as botocore makes it, with its own defaults
    with pytest.raises(PublishError, match="region eu-central-1"):
        presign(client, by, bucket="bucket", key=KEY, expires_in=12 * HOUR)


def test_a_sigv2_url_is_refused() -> None:
    by = freeze(session())
    client = session().client("s3", region_name="us-east-1")  # still SigV2 by default there
    with pytest.raises(PublishError, match="not signed with SigV4"):
        presign(client, by, bucket="bucket", key=KEY, expires_in=12 * HOUR)


@pytest.mark.parametrize(
    ("status", "headers", "region"),
    [
        (200, {"x-amz-bucket-region": "eu-west-3"}, "eu-west-3"),
        (403, {"x-amz-bucket-region": "ap-southeast-2"}, "ap-southeast-2"),
        (403, {}, "us-east-1"),
        (200, {}, "us-east-1"),
    ],
)
def test_the_region_is_the_buckets_own(
    status: int, headers: dict[str, str], region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, status, headers)
    client = connect(session(), "bucket")
    assert (client.meta.region_name, client.meta.config.s3["addressing_style"]) == (region, "virtual")


def test_a_bucket_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, 404, {})
    with pytest.raises(PublishError, match="HeadBucket on s3://bucket was refused: HTTP 404 NoSuchBucket") as caught:
        connect(session(), "bucket")
    assert "the bucket must exist" in (caught.value.hint or "")


def answer(monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str]) -> None:
    """Let every request of botocore be answered like this, without a network."""
    from botocore.awsrequest import AWSResponse

    class Nothing:
        def stream(self, *_: object, **__: object) -> list[bytes]:
            return []

    def send(self: object, request: Any) -> AWSResponse:
        return AWSResponse(request.url, status, headers, Nothing())

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
