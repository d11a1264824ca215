"""How long a signed URL lives by its own words, and what shows that it was damaged on its way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from signed_urls import HEX, KINDS, RSA_HEX, SHORT, azure, cloudfront, cloudfront_policy, google_v4, s3_v2, s3_v4

from lora_packer.signed_url import damage_in, life_of, needs_headers

NOW = datetime(2026, 11, 28, 17, 30, tzinfo=UTC)
LIFE = timedelta(hours=13)
S3 = s3_v4(LIFE, NOW)
S3_V2 = s3_v2(LIFE, NOW)
GOOGLE = google_v4(LIFE, NOW)
AZURE = azure(LIFE, NOW)
FRONT = cloudfront(LIFE, NOW)
POLICY = cloudfront_policy(LIFE, NOW)


@pytest.mark.parametrize("life", [timedelta(seconds=60), LIFE, timedelta(days=5)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_how_long_it_lives(kind: str, life: timedelta) -> None:
    url = KINDS[kind](life, NOW)
    assert life_of(url).ends == NOW + life
    assert damage_in(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://b.s3.amazonaws.com/a.zip",
        "https://example.com/a.zip?download=1",
        "https://example.com/a.zip?token=abc&expires=1795887000",
        "https://example.com/a.zip?Expires=soon&Signature=" + SHORT,
        "https://cos.example/a.zip?q-sign-time=1;2&q-signature=ab",
        AZURE.replace("&se=2026-11-29T06:30:00Z", "&si=stored-policy"),
    ],
)
def test_what_does_not_say_is_neither_dead_nor_damaged(url: str) -> None:
    assert life_of(url).ends is None
    assert damage_in(url) is None


@pytest.mark.parametrize(
    ("se", "ends"),
    [
        ("2026-11-29", datetime(2026, 11, 29, tzinfo=UTC)),
        ("2026-11-29T06:30Z", datetime(2026, 11, 29, 6, 30, tzinfo=UTC)),
        ("2026-11-29T06:30:00.0000000Z", datetime(2026, 11, 29, 6, 30, tzinfo=UTC)),
        ("2026-11-29T08%3A30%3A00%2B02%3A00", datetime(2026, 11, 29, 6, 30, tzinfo=UTC)),
    ],
)
def test_azure_writes_times_in_several_ways(se: str, ends: datetime) -> None:
    url = AZURE.replace("se=2026-11-29T06:30:00Z", f"se={se}")
    assert (life_of(url).ends, damage_in(url)) == (ends, None)


def test_it_begins_when_it_was_signed() -> None:
    assert life_of(S3).begins == life_of(GOOGLE).begins == life_of(AZURE).begins == NOW


@pytest.mark.parametrize("url", [S3, S3_V2, GOOGLE, AZURE, FRONT, POLICY])
def test_a_url_that_is_cut_at_any_ampersand_is_damaged(url: str) -> None:
    parts = url.split("&")
    for end in range(1, len(parts)):
        cut = "&".join(parts[:end])
        assert "cut off" in (damage_in(cut) or "whole"), cut


@pytest.mark.parametrize("url", [S3, GOOGLE, AZURE, FRONT, POLICY])
def test_a_url_whose_last_value_is_cut_is_damaged(url: str) -> None:
    """Of CloudFront's the last value is the name of a key, of any length."""
    if "Key-Pair-Id" in url:
        head, _, tail = url.partition("&Key-Pair-Id")
        cuts = [f"{head[:-4]}&Key-Pair-Id{tail}"]
    else:
        cuts = [url[:-length] for length in (1, 2, 7, 30)]
    for cut in cuts:
        assert damage_in(cut) is not None, cut


@pytest.mark.parametrize("url", [S3, S3_V2, GOOGLE, AZURE, FRONT, POLICY])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("&", "\\u0026"), "JSON"),
        (lambda url: url.replace("&", "&amp;"), "HTML"),
        (lambda url: url.replace("&", "\\&"), "backslash"),
        (lambda url: url.replace("&", "^&"), "no URL has"),
        (lambda url: f'{url}"', "no URL has"),
        (lambda url: f"{url}>", "no URL has"),
        (lambda url: url.partition("?")[0] + "?" + quote(url.partition("?")[2], safe=""), "as a whole"),
    ],
    ids=["JSON", "HTML", "shell", "cmd", "quote", "bracket", "encoded"],
)
def test_a_url_that_came_through_another_language_is_damaged(url: str, change: object, said: str) -> None:
    assert said in (damage_in(change(url)) or "whole")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (S3.replace(HEX, HEX[:20]), "its X-Amz-Signature is not whole"),
        (S3.replace(HEX, HEX[:-1] + "g"), "its X-Amz-Signature is not whole"),
        (S3 + "...", "its X-Amz-Signature is not whole"),
        (S3 + ",", "its X-Amz-Signature is not whole"),
        (S3.replace("%2F", "%252F"), "its X-Amz-Credential"),
        (S3.replace("=46800", "=1h"), "its X-Amz-Expires"),
        (S3.replace("=46800", "=0"), "its X-Amz-Expires"),
        (S3.replace("=46800", "=604801"), "up to 7 days"),
        (S3.replace("20261128T173000Z", "20261128"), "its X-Amz-Date"),
        (S3.replace("20261128T173000Z", "20261399T173000Z"), "its X-Amz-Date"),
        (S3.replace("&X-Amz-SignedHeaders=host", ""), "X-Amz-SignedHeaders is missing"),
        (GOOGLE.replace(RSA_HEX, RSA_HEX[:300]), "its X-Goog-Signature is not whole"),
        (S3_V2.replace(quote(SHORT, safe=""), "abc"), "its Signature is not whole"),
        (S3_V2 + ",", "its Expires is not a time"),
        (FRONT.replace("Expires=", "Expires=x"), "its Expires is not a time"),
        (POLICY.replace("Policy=", "Policy=x"), "its Policy is not whole"),
        (AZURE.replace("se=2026", "se=soon"), "its se is not a time"),
        (AZURE.replace("sig=", "sig=x"), "its sig is not whole"),
    ],
)
def test_a_value_that_cannot_be_one_is_named_and_not_shown(url: str, said: str) -> None:
    found = damage_in(url)
    assert said in (found or "whole")
    assert not {HEX[:10], "AKIA", "bucket", "a.zip"} & set((found or "").split())


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_get_is_enough_for_every_kind(kind: str) -> None:
    assert not needs_headers(KINDS[kind](LIFE, NOW))


@pytest.mark.parametrize("headers", ["host%3Bx-amz-request-payer", "host;x-amz-checksum-mode", "range"])
def test_headers_that_a_signature_covers_are_seen(headers: str) -> None:
    assert needs_headers(S3.replace("SignedHeaders=host", f"SignedHeaders={headers}"))
    assert needs_headers(GOOGLE.replace("SignedHeaders=host", f"SignedHeaders={headers}"))


@pytest.mark.parametrize(
    "url",
    [
        S3 + "&x-id=GetObject",
        S3 + "&response-content-disposition=attachment%3B%20filename%3D%22a%26b.zip%22",
        S3.replace("%2F", "/"),
        S3.replace(HEX, HEX.upper()),
        S3_V2 + "&x-amz-security-token=IQoJ%2Fabc%3D",
        S3.replace("a.zip", "R%26D-x-amz-/a%5C.zip"),
        S3.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256").replace(HEX, "30" * 71),
        FRONT.replace("&Key-Pair-Id", "&Hash-Algorithm=SHA256&Key-Pair-Id"),
    ],
)
def test_what_works_is_not_called_damaged(url: str) -> None:
    assert damage_in(url) is None
