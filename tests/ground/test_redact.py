"""What looks like a credential is masked, wherever it stands."""

from __future__ import annotations

import pytest

from lora_packer.redact import scrub

TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCXVzLWVhc3QtMSJHMEUCIQ=="


@pytest.mark.parametrize(
    "text",
    [
        "X-Amz-Security-Token: {}",
        "x-amz-security-token:{}",
        '{{"X-Amz-Security-Token": "{}"}}',
        "{{'x-amz-security-token': b'{}'}}",
        "[(b'x-amz-security-token', b'{}')]",
        "GET /?X-Amz-Security-Token={}&X-Amz-Date=1",
    ],
)
def test_a_session_token_as_a_header_or_a_parameter(text: str) -> None:
    told = scrub(text.format(TOKEN))
    assert TOKEN[:12] not in told
    assert "***" in told
    assert scrub(told) == told


@pytest.mark.parametrize("kind", ["hf_", "hf_oauth_eyJhbGciOi.", "hf_jwt_eyJhbGciOi.", "sk-", "ghp_", "tgp_"])
def test_tokens_that_tell_by_their_beginning(kind: str) -> None:
    told = scrub(f"'{kind}{'Ab1' * 10}' was refused")
    assert told == "'***' was refused"


def test_what_is_no_secret_stays() -> None:
    text = "X-Amz-Security-Token is missing; hf_oauth_token is not set; see https://example.com/a?b=c"
    assert scrub(text) == text


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "socks5", "socks5h", "http://ftp", "HTTPS"])
def test_a_password_in_the_address_of_a_proxy(scheme: str) -> None:
    assert scrub(f'Failed to connect to proxy URL: "{scheme}://me:hunter2@127.0.0.1:1".').endswith(
        '://***@127.0.0.1:1".'
    )


@pytest.mark.parametrize("text", ["hf://org/repo@main", "s3://bucket/a:b@c", "https://host:443/a@b", "a://b c:d@e"])
def test_what_is_no_password_stays(text: str) -> None:
    assert scrub(text) == text
