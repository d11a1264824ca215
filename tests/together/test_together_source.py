"""What may be submitted: names, Hub repositories, and presigned URLs that the service can reach and that live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from together_support import HF_TOKEN, SIGNATURE, assert_no_secret, presigned, submission

from lora_packer.errors import InputError, PublishError
from lora_packer.redact import PresignedUrl, Secret
from lora_packer.together import HubRepo, parse_presigned, parse_source, require_life

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("org/repo", HubRepo("org/repo")),
        ("hf://org/repo", HubRepo("org/repo")),
        ("hf://org/repo@main", HubRepo("org/repo", "main")),
        ("hf://org/repo@refs/pr/1", HubRepo("org/repo", "refs/pr/1")),
        ("hf://Org-1/my_lora.v2-x", HubRepo("Org-1/my_lora.v2-x")),
        ("https://huggingface.co/org/repo", HubRepo("org/repo")),
        ("https://huggingface.co/org/repo/", HubRepo("org/repo")),
        ("https://HuggingFace.co/org/repo?not-for-all-audiences=true", HubRepo("org/repo")),
        ("https://huggingface.co/org/repo/tree/main", HubRepo("org/repo", "main")),
        ("https://huggingface.co/org/repo/tree/refs%2Fpr%2F1", HubRepo("org/repo", "refs/pr/1")),
    ],
)
def test_hub_repositories(text: str, repo: HubRepo) -> None:
    assert parse_source(text) == repo
    assert repo.url == f"https://huggingface.co/{repo.id}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "repo",
        "org/",
        "/repo",
        "org/repo/file",
        "org/re po",
        "org/repo@",
        "org/repo@a b",
        "org/repo@-x",
        "../repo",
        "org/..",
        "org/a--b",
        "org/a..b",
        "org/.repo",
        "org/repo-",
        "org/repo.git",
        "org/" + "x" * 97,
        "org/r\u00e9po",
        "org/repo\n",
        "datasets/repo",
        "hf://datasets/org/repo",
        "https://huggingface.co/datasets/org/repo",
        "https://huggingface.co/org/repo/resolve/main/adapter_model.safetensors",
        "https://huggingface.co",
        "htps://bucket.s3.amazonaws.com/a.zip",
        "ftp://huggingface.co/org/repo",
    ],
)
def test_what_is_no_repository(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_source(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        presigned(),
        presigned(host="http://127.0.0.1:8333"),
        "https://huggingface.co.evil.example/org/repo?sig=" + SIGNATURE,
    ],
)
def test_a_url_as_an_argument_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_source(url)
    assert "--url-file" in (caught.value.hint or "")
    assert "amazonaws" not in str(caught.value)
    assert_no_secret(caught.value)


def test_an_s3_address_is_no_url() -> None:
    with pytest.raises(InputError, match="s3://"):
        parse_source("s3://bucket/a.zip")


@pytest.mark.parametrize(
    "url",
    [
        presigned(),
        presigned() + "\n",
        "  " + presigned() + "\r\n",
        presigned(host="https://minio.example.org:9000"),
        presigned(host="https://bucket.s3.us-west-2.amazonaws.com."),
        presigned(host="https://93.184.216.34"),
        "https://bucket.s3.us-west-2.amazonaws.com/public.zip",
    ],
)
def test_urls_that_the_service_can_reach(url: str) -> None:
    assert parse_presigned(url) == PresignedUrl(url.strip())


@pytest.mark.parametrize(
    "host",
    [
        "http://bucket.s3.us-west-2.amazonaws.com",
        "ftp://bucket.s3.us-west-2.amazonaws.com",
        "https://localhost",
        "https://a.localhost",
        "https://127.0.0.1",
        "https://127.1",
        "https://2130706433",
        "https://0x7f.0.0.0x1",
        "https://169.254.169.254",
        "https://10.1.2.3:9000",
        "https://minio.corp.lan",
        "https://bucket.vpce-0a1b-2c3d.s3.us-east-1.vpce.amazonaws.com",
        "https://[::1]",
        "https://[fd00::1]",
        "https://[::ffff:10.0.0.1]",
        "https://minio",
        "https://minio.local",
        "https://s3.corp.internal",
        "https://S3.CORP.INTERNAL",
        "https://router.home.arpa",
        "https://a..b",
        f"https://user:{HF_TOKEN}@bucket.s3.us-west-2.amazonaws.com",
        f"https://{HF_TOKEN}@bucket.s3.us-west-2.amazonaws.com",
        "https://",
        "https://bucket.s3.us-west-2.amazonaws.com:99999",
        "https://bucket.s3.us-west-2.amazonaws.com:x",
        "https://bucket.s3.us-west-2.amazonaws.com:0",
        "https://[::1",
        "https:/bucket.s3.us-west-2.amazonaws.com",
    ],
)
def test_urls_that_it_cannot_or_must_not(host: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_presigned(presigned(host=host))
    assert caught.value.hint
    assert_no_secret(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "not a url",
        presigned() + "\n" + presigned(),
        presigned() + "\u200b",
        presigned()[:60] + "\x00",
        "https://bucket.s3.us-west-2.amazonaws.com/" + "a" * 20_000,
        "hf://org/repo",
    ],
)
def test_text_that_is_not_one_url(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_presigned(text)
    assert_no_secret(caught.value)


@pytest.mark.parametrize("host", ["http://127.0.0.1:8333", "http://localhost:8333", "http://[::1]:8333"])
def test_this_machine_is_reachable_for_a_service_on_it_only(host: str) -> None:
    url = presigned(host=host)
    assert parse_presigned(url, allow_loopback=True) == PresignedUrl(url)
    with pytest.raises(InputError):
        parse_presigned(url)
    with pytest.raises(InputError):
        parse_presigned(presigned(host="http://10.0.0.1"), allow_loopback=True)


def dated(signed: str, seconds: object) -> PresignedUrl:
    return PresignedUrl(f"https://b.s3.amazonaws.com/a?X-Amz-Date={signed}&X-Amz-Expires={seconds}&X-Amz-Signature=x")


@pytest.mark.parametrize("seconds", [6000, 6001, 43_200, 604_800])
def test_urls_that_live_long_enough(seconds: int) -> None:
    assert require_life(dated("20260102T120000Z", seconds), now=NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (5999, "1 h 39 min left"),
        (3600, "has 1 h left"),
        (1, "has 1 s left"),
        (0, "expired"),
    ],
)
def test_urls_that_die_too_soon(seconds: int, said: str) -> None:
    dies_too_soon(dated("20260102T120000Z", seconds), said)


@pytest.mark.parametrize(
    ("signed", "said"), [("20260102T115000Z", "expired 10 min ago"), ("20251223T120000Z", "expired 10 d ago")]
)
def test_urls_that_are_dead(signed: str, said: str) -> None:
    dies_too_soon(dated(signed, 0), said)


def test_a_url_that_needs_headers_is_refused() -> None:
    url = presigned().replace("SignedHeaders=host", "SignedHeaders=host%3Bx-amz-request-payer")
    with pytest.raises(InputError, match="covers headers that a plain download does not send"):
        parse_presigned(url)


def test_a_url_of_the_future_does_not_work_yet() -> None:
    with pytest.raises(PublishError, match="does not work before 2026-01-02 12:16 UTC"):
        require_life(dated("20260102T121600Z", 43_200), now=NOW)
    assert require_life(dated("20260102T121400Z", 43_200), now=NOW) is not None  # clocks differ


def dies_too_soon(url: PresignedUrl, said: str) -> None:
    with pytest.raises(PublishError) as caught:
        require_life(url, now=NOW)
    assert caught.value.exit_code == 4
    assert said in caught.value.message
    assert "1 h 40 min" in caught.value.message
    assert "Nothing was submitted" in caught.value.message
    assert "--expires-in" in (caught.value.hint or "")


@pytest.mark.parametrize("url", ["https://b.s3.amazonaws.com/a", "https://b.example/a?Expires=soon&Signature=x"])
def test_a_url_that_does_not_say_when_it_dies(url: str) -> None:
    assert require_life(PresignedUrl(url), now=NOW) is None


@pytest.mark.parametrize("name", ["a", "my-adapter_1.2", "X" * 200])
def test_model_names(name: str) -> None:
    assert submission(model_name=name).model_name == name


@pytest.mark.parametrize("name", ["", "a b", "org/name", "a\n", "\x1b[31m", "caf\u00e9", "a:b", "a@b", "-/", "a/b/c"])
def test_names_that_are_no_model_name(name: str) -> None:
    with pytest.raises(InputError) as caught:
        submission(model_name=name)
    assert str(caught.value).isprintable()
    assert "account" in (caught.value.hint or "")
    if name == "org/name":
        assert "'name'" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"base_model": ""},
        {"base_model": "a b"},
        {"base_model": "org/x\n"},
        {"base_model": "x" * 300},
        {"hf_token": Secret(HF_TOKEN)},
    ],
)
def test_submissions_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        submission(**changes)
    assert_no_secret(caught.value)


def test_a_submission_shows_no_secret() -> None:
    assert_no_secret(submission(), submission(source=HubRepo("org/repo"), hf_token=Secret(HF_TOKEN)))
