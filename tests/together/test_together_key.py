"""Where the key comes from and goes to: addresses and tokens that are taken, and those that are not."""

from __future__ import annotations

import pytest
from together_support import TOKEN, assert_no_secret

from lora_packer.errors import InputError
from lora_packer.redact import read_token
from lora_packer.together import Client
from lora_packer.together.client import DEFAULT_BASE_URL


@pytest.mark.parametrize(
    "url",
    [
        "http://api.together.ai/v1",
        "ftp://api.together.ai/v1",
        "api.together.ai/v1",
        "https://",
        "https:///v1",
        f"https://user:{TOKEN}@api.together.ai/v1",
        "https://api.together.ai/v1?x=1",
        "https://api.together.ai/v1#x",
        "https://api.together.ai/v 1",
        "https://api.together.ai/v1\n",
        "https://api.together.ai:99999/v1",
        "https://[::1/v1",
        "http://127.0.0.1.example.org/v1",
        "http://10.0.0.1/v1",
        "http://localhost.example/v1",
    ],
)
def test_addresses_the_key_is_not_sent_to(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Client.from_environment({"TOGETHER_API_KEY": TOKEN, "TOGETHER_BASE_URL": url})
    assert caught.value.exit_code == 2
    assert_no_secret(caught.value)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("", False),
        (DEFAULT_BASE_URL, False),
        ("https://api.together.ai/v1/", False),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("https://127.9.9.9/v1", True),
    ],
)
def test_addresses_the_key_is_sent_to(url: str, loopback: bool) -> None:
    with Client.from_environment({"TOGETHER_API_KEY": TOKEN, "TOGETHER_BASE_URL": url}) as client:
        assert client.is_loopback is loopback
        assert client.base_url == (url or DEFAULT_BASE_URL).rstrip("/")
        assert_no_secret(client)


@pytest.mark.parametrize(
    "value", ["a b", " key", "key\n", "key\r", "ke\ty", "k\u00e9y", "key\x7f", "\ufeffkey", " \n", "k\u200bey"]
)
@pytest.mark.parametrize("name", ["TOGETHER_API_KEY", "HF_TOKEN"])
def test_tokens_that_cannot_be_one(name: str, value: str) -> None:
    with pytest.raises(InputError) as caught:
        read_token({name: value}, name)
    assert name in caught.value.message
    assert value not in str(caught.value)


def test_no_key_at_all() -> None:
    for environ in ({}, {"TOGETHER_API_KEY": ""}):
        with pytest.raises(InputError, match="TOGETHER_API_KEY is not set"):
            Client.from_environment(environ)
