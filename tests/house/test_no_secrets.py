"""No key, token or presigned URL in anything that the whole test run printed or wrote into a receipt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import ROOT, TINY, TINY_BASE
from recorded import PRINTED

from lora_packer.redact import PresignedUrl, Secret, escape, scrub
from lora_packer.sandbox import Sandbox

LOOKS_SECRET = re.compile(
    r"X-Amz-(?:Signature|Credential|Security-Token)=(?!\*\*\*)[^&\s\"']+"
    r"|Bearer (?!\*\*\*)[\w.~+/-]{8,}"
    r"|\bhf_[A-Za-z0-9]{20,}|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\"(?:secret_?(?:access_)?key|hf_token|api_key)\": \"(?!\*\*\*)[^\"]{8,}\"",
    re.IGNORECASE,
)


def test_no_secret_in_any_output_or_receipt(
    cli_process: Callable[..., Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Sandbox(delay=0.05) as sandbox:
        env = sandbox.environment()
        names = ["--base-config", TINY_BASE, "--model-name", "secret", "--base-model", "tiny/llama", "--verbose"]
        to = f"s3://{sandbox.s3.bucket}/secret/"
        runs = [
            (["release", TINY, *names, "--to", to], {}, 0),
            (["release", ROOT / "fixtures" / "broken" / "nan", *names, "--to", to, "--model-name", "other"], {}, 1),
            (["release", TINY, *names, "--to", to, "--receipt", "b.json"], {}, 5),  # the name is taken
            (
                ["release", TINY, *names, "--to", to, "--receipt", "c.json"],
                {"TOGETHER_API_KEY": "wrong-key-of-somebody"},
                5,
            ),
            (["publish", TINY, *names[:2], "--to", to], {"AWS_SECRET_ACCESS_KEY": "wrong-secret-of-somebody"}, 4),
            (["publish", TINY, *names[:2], "--to", to, "--format", "json"], {}, 0),
        ]
        for arguments, other, code in runs:
            result = cli_process(*arguments, env={**env, **other}, cwd=tmp_path)
            assert result.code == code, result.text
        secrets = [
            env["TOGETHER_API_KEY"],
            env["AWS_SECRET_ACCESS_KEY"],
            "wrong-key-of-somebody",
            "wrong-secret-of-somebody",
        ]
    written = [(str(path), path.read_text()) for path in tmp_path.rglob("*.json")]
    assert written
    written += [
        (str(path), text)
        for path in tmp_path_factory.getbasetemp().rglob("*.json")
        if path.is_file() and '"submission"' in (text := path.read_text(errors="replace"))
    ]
    assert len(PRINTED) >= 2 * len(runs)
    for where, text in PRINTED + written:
        found = LOOKS_SECRET.search(text)
        assert found is None, f"{where}: {found[0][:30] if found else ''}..."
        assert not any(secret in text for secret in secrets), where


URL = "https://b.s3.amazonaws.com/k/a.zip?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261122&X-Amz-Signature=0123456789abcdef"


def test_secrets_show_themselves_only_on_request() -> None:
    secret, url = Secret("very-secret"), PresignedUrl(URL)
    for shown in (
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r}",
        str([secret]),
        str({"k": url}),
        repr(url),
        f"{url}",
    ):
        assert "very-secret" not in shown
        assert "0123456789abcdef" not in shown
    assert str(url) == "https://b.s3.amazonaws.com/k/a.zip?***"
    assert (secret.reveal(), url.reveal()) == ("very-secret", URL)
    assert secret == Secret("very-secret")
    assert len({secret, Secret("very-secret")}) == 1
    with pytest.raises(TypeError):
        json.dumps(secret)


@pytest.mark.parametrize(
    "text",
    [
        URL,
        f"GET {URL} failed",
        json.dumps({"model_source": URL}),
        URL.replace("&", "\\u0026"),
        URL.replace("&", "&amp;"),
        URL.replace("?", "%3F").replace("&", "%26").replace("=", "%3D"),
        "https://h/k?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=0123456789abcdef&Expires=1",
        "Authorization: Bearer 0123456789abcdef",
        "token hf_0123456789abcdefghijklmnop",
        "https://user:0123456789abcdef@host/x",
        "ghp_0123456789abcdef0123456789abcdef",
    ],
)
def test_scrub(text: str) -> None:
    scrubbed = scrub(text)
    assert "0123456789abcdef" not in scrubbed
    assert "AKIAIOSFODNN7EXAMPLE" not in scrubbed
    assert "***" in scrubbed
    assert scrub(scrubbed) == scrubbed


def test_scrub_knows_the_secrets_it_is_given() -> None:
    assert scrub("the key pass-phrase is bad", Secret("pass-phrase"), None) == "the key *** is bad"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.name", "plain.name"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb\rc\td\0e\x7f", "a\\x0ab\\x0dc\\x09d\\x00e\\x7f"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\ud800", "\\ud800"),
        ("größe 数", "größe 数"),
        ("x" * 500, "x" * 159 + "…"),
    ],
)
def test_escape(text: str, shown: str) -> None:
    assert escape(text) == shown
