"""Secrets and untrusted text: nothing of either reaches a terminal, a log or a receipt as it is.

A presigned URL is a bearer secret for its whole life: whoever has it can download the archive. Text from inside a
file is attacker's text: it may carry terminal escapes or a CI system's workflow commands.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

from lora_packer.errors import InputError
from lora_packer.signed_url import Life, life_of

MASK = "***"

# Query parameters that carry a credential: SigV4 and its likes, SigV2, CloudFront, Azure and generic token names.
_SECRET_PARAMETERS = (
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Goog-Signature",
    "X-Goog-Credential",
    "X-Oss-Signature",
    "X-Oss-Credential",
    "X-Oss-Security-Token",
    "AWSAccessKeyId",
    "GoogleAccessId",
    "OSSAccessKeyId",
    "Key-Pair-Id",
    "Policy",
    "Signature",
    "sig",
    "token",
    "access_token",
    "hf_token",
    "api_key",
)
_BEGIN = r"[?&;]|%26|%3F|\\u0026|&amp;"  # as it is, percent-encoded, in JSON, in XML
_VALUE = r"[^&\s\"'<>\\;%]+(?:%[0-9A-Fa-f]{2}[^&\s\"'<>\\;%]*)*"
_PARAMETER = re.compile(rf"((?:{_BEGIN})(?:{'|'.join(_SECRET_PARAMETERS)})(?:=|%3D)){_VALUE}", re.IGNORECASE)
_BEARER = re.compile(r"(\bBearer\s+)[^\s\"',]+", re.IGNORECASE)
# As a header of a request, in text, in JSON or in a dictionary's repr.
_SESSION_TOKEN = re.compile(r"(\bX-Amz-Security-Token[\"']?\s*[:=,]\s*(?:b?[\"'])?+)[^\s\"',&<>*]+", re.IGNORECASE)
_USERINFO = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^/@\s:]+:[^/@\s]+@", re.IGNORECASE)
_KNOWN_TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|hf_(?:oauth|jwt)_[\w.-]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|tgp_\w{20,}|sk-[\w-]{20,})"
)


class Secret:
    """A string that shows itself only on request.

    ``str``, ``repr`` and ``format`` give a mask, so that a secret that reaches a log, a traceback or an f-string stays
    one. ``reveal()`` gives the value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")


class PresignedUrl(Secret):
    """A presigned URL; shown as host and path, without its query."""

    __slots__ = ()

    def __str__(self) -> str:
        parts = urlsplit(self._value)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{host}{port}{parts.path}?{MASK}"

    @property
    def life(self) -> Life:
        """From when to when it works, by what it says itself."""
        return life_of(self._value)

    @property
    def deadline(self) -> datetime | None:
        """When the signature expires (UTC); None where the URL does not say."""
        return self.life.ends


_QUOTES = ("'", '"', "`")


def read_token(environ: Mapping[str, str], name: str) -> Secret | None:
    """Return the token in an environment variable, or None where it is unset or empty.

    Raises InputError where it has white space or a character that no token has; the value is never shown.
    """
    value = environ.get(name, "")
    if not value:
        return None
    if value[0] in _QUOTES or value[-1] in _QUOTES:
        raise InputError(f"{name} has quotes around it.", hint="Set it again without them.")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise InputError(
            f"{name} has white space or an unprintable character in it.",
            hint="Set it again without quotes, spaces or a newline; a value from a file often brings a newline along.",
        )
    return Secret(value)


def scrub(text: str, *secrets: Secret | None) -> str:
    """Return ``text`` without credentials: those given, and everything that looks like one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret.reveal(), str(secret))
    text = _PARAMETER.sub(rf"\g<1>{MASK}", text)
    text = _BEARER.sub(rf"\g<1>{MASK}", text)
    text = _SESSION_TOKEN.sub(rf"\g<1>{MASK}", text)
    text = _USERINFO.sub(rf"\g<1>{MASK}@", text)
    return _KNOWN_TOKENS.sub(MASK, text)


# What this program's own credentials are called, and from how many characters on one cannot be a word of its own.
_OWN = ("TOGETHER_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY")
_OF_URLS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
_SHORTEST = 8


def without_own(text: str, *, in_urls: bool = True) -> str:
    """Return ``text`` without the values of the environment's credentials, however they look.

    ``in_urls``: without those too that a presigned URL has in it, which is shown where that was asked for.
    """
    for name in (*_OWN, *(_OF_URLS if in_urls else ())):
        value = os.environ.get(name, "").strip().strip("".join(_QUOTES))
        if len(value) >= _SHORTEST:
            text = text.replace(value, MASK)
    return text


def escape(text: str, limit: int = 160) -> str:
    """Return text from inside a file fit for a terminal, a log or JSON: escaped, one line, at most ``limit`` long."""
    clipped = text[: limit + 1]
    if not clipped.isprintable() or not clipped.isascii():
        clipped = "".join(c if c.isprintable() and not _is_bidi(c) else _escaped(c) for c in clipped)
    return clipped if len(clipped) <= limit else clipped[: limit - 1] + "…"


def shell_word(text: str | None) -> str:
    """Return text from outside as one word of a command that is printed to be run: escaped, clipped and quoted."""
    return shlex.quote(escape(text or "", 256))


# What each is called, and how it looks (the vendors' own secret scanning patterns,
# https://docs.github.com/en/code-security/reference/secret-security/supported-secret-scanning-patterns).
_CREDENTIALS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a Hugging Face token", re.compile(r"\bhf_(?:oauth_|jwt_)?(?!x{8})[A-Za-z0-9]{30,}")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)(?![0-9A-Z]{9}EXAMPLE)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})")),
    ("a Together AI key", re.compile(r"\btgp_v1_[\w-]{30,}")),
    ("an API key", re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{40,}")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----")),
    ("a presigned URL", re.compile(r"X-Amz-Signature=[0-9a-f]{64}", re.IGNORECASE)),
    ("a URL with a password", re.compile(r"\bhttps?://[^/@\s:'\"]+:[^/@\s'\"]{8,}@", re.IGNORECASE)),
)


def credential_in(text: str) -> str | None:
    """Return what kind of credential a text seems to hold, such as ``a GitHub token``, or None."""
    return next((name for name, pattern in _CREDENTIALS if pattern.search(text)), None)


_WIDEST = 390
_STYLE = re.compile(r"(\x1b\[[0-9;]{1,5}m)")


def fit(text: str, *, styled: bool = False) -> str:
    """Return what is to be printed without credentials, and each of its lines fit for a terminal and a log.

    What stands in it should have been escaped where it came in; this is for what was not. ``styled``: colours stay.
    """
    return inert("\n".join(_line(line, styled) for line in scrub(without_own(text)).split("\n")))


def _line(text: str, styled: bool) -> str:
    """No control character, and no line of thousands."""
    parts = _STYLE.split(text) if styled else [text]
    return "".join(part if at % 2 else escape(part, _WIDEST) for at, part in enumerate(parts))


# What a CI system that reads a log takes for a command. GitHub's runner: "::" where a line begins, behind blanks too,
# and "##[" anywhere in it (github.com/actions/runner src/Runner.Common/ActionCommand.cs). Azure Pipelines "##vso[",
# and TeamCity "##teamcity[".
_AT_THE_BEGINNING = re.compile(r"(^|\r)([^\S\r\n]*):(?=:)", re.MULTILINE)
_ANYWHERE = re.compile(r"##(?=\w*\[)")


def inert(text: str) -> str:
    """Return text of which no line is a command to a CI system: its first character is written out."""
    return _ANYWHERE.sub(r"#\\x23", _AT_THE_BEGINNING.sub(r"\1\2\\x3a", text))


def inert_json(text: str) -> str:
    """Return the same JSON with no command to a CI system in it: one character is written as JSON's own escape."""
    return _ANYWHERE.sub(r"#\\u0023", text)


def inert_xml(text: str) -> str:
    """Return the same XML with no command to a CI system in it: one character is written as a reference."""
    return _ANYWHERE.sub("#&#35;", text)


def _is_bidi(character: str) -> bool:
    return "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"


def _escaped(character: str) -> str:
    if ord(character) > 127:
        return character.encode("ascii", "backslashreplace").decode()
    return f"\\x{ord(character):02x}"
