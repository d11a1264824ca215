"""How long the signer lives: a presigned URL dies with the credentials that signed it.

"If you created a presigned URL using a temporary token, then the URL expires when the token expires"
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html). What botocore's providers
(botocore/credentials.py) say about that:

- long-lived keys (no token): no expiry;
- a token from the environment, a file or code, without an expiry: unknown, and said to be;
- ``AWS_CREDENTIAL_EXPIRATION``, ``credential_process`` with an Expiration, assumed roles, SSO, ECS and EKS: known, for
  some of them only after the first use;
- EC2 instance roles: known, but botocore moves an expiry that is near by some 20 minutes into the future
  (``_evaluate_expiration`` in botocore/utils.py). That is far below what a URL needs, so it changes no decision.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from lora_packer.duration import format_duration
from lora_packer.errors import CredentialsError, InputError
from lora_packer.frozen import frozen
from lora_packer.redact import Secret, escape, read_token, scrub

if TYPE_CHECKING:
    from boto3 import Session

MARGIN = timedelta(minutes=5)
"""How much longer than needed the credentials must live: time to upload, submit and be fetched."""

_MOMENT = "%Y-%m-%d %H:%M UTC"
_IAM_USER = "sign with an IAM user's access key"
# By botocore's name of the provider (Credentials.method): who that is, and what makes it live longer.
_PROVIDERS = {
    "explicit": ("the session's own keys", f"Get credentials that live longer, or {_IAM_USER}."),
    "env": (
        "the environment (AWS_ACCESS_KEY_ID)",
        f"Export credentials of a longer session (--duration-seconds), or {_IAM_USER}.",
    ),
    "shared-credentials-file": (
        "the shared credentials file",
        f"Write credentials of a longer session into it, or {_IAM_USER}.",
    ),
    "config-file": ("the AWS config file", f"Write credentials of a longer session into it, or {_IAM_USER}."),
    "custom-process": (
        "the profile's credential_process",
        f"Make that program ask for a longer session, or {_IAM_USER}.",
    ),
    "assume-role": (
        "an assumed role",
        "Raise the role's MaxSessionDuration and set duration_seconds in the profile (a role assumed by a role is "
        f"capped at 1 hour), or {_IAM_USER}.",
    ),
    "assume-role-with-web-identity": (
        "a role assumed with a web identity",
        f"Raise the role's MaxSessionDuration and ask for a longer session (role-duration-seconds), or {_IAM_USER}.",
    ),
    "sso": (
        "AWS SSO",
        f"Raise the session duration of the permission set and run `aws sso login` again, or {_IAM_USER}.",
    ),
    "login": ("`aws login`", f"Sign in again with a longer session, or {_IAM_USER}."),
    "container-role": ("the container's role", f"Run it when the role's credentials are fresh, or {_IAM_USER}."),
    "iam-role": (
        "the EC2 instance's role",
        f"Instances hand out aged credentials: run it again after they were renewed, or {_IAM_USER}.",
    ),
}
_DEFAULT_PROVIDER = ("the provider {}", f"Get credentials that live longer, or {_IAM_USER}.")
_NONE_HINT = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for temporary ones), or AWS_PROFILE, or "
    "run `aws configure`."
)
_BROKEN_HINT = (
    "Check the AWS_* variables (AWS_CREDENTIAL_EXPIRATION is a time with its zone, like 2026-01-31T12:00:00Z), the "
    "profile, and the program it names."
)


@frozen
class Signer:
    """Credentials at one moment: nothing refreshes them behind our back.

    Attributes:
        provider: botocore's name of where they come from, such as ``env`` or ``assume-role``.
        access_key: the access key id.
        secret_key: the secret access key.
        token: the session token of temporary ones, or None.
        expires_at: when they end (UTC), or None where that is never or unknown.
    """

    provider: str
    access_key: Secret
    secret_key: Secret
    token: Secret | None
    expires_at: datetime | None

    @property
    def temporary(self) -> bool:
        """Whether they end by themselves."""
        # ASIA: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
        return self.token is not None or self.expires_at is not None or self.access_key.reveal().startswith("ASIA")

    @property
    def lifetime_known(self) -> bool:
        """Whether it is known how long they live; long-lived keys have no end."""
        return self.expires_at is not None or not self.temporary

    @property
    def description(self) -> str:
        """Where they come from, in words."""
        return _provider(self.provider)[0]


def signer(
    session: Session, need: timedelta, *, now: Callable[[], datetime], renew: Callable[[], Session] | None = None
) -> Signer:
    """Return the session's credentials, frozen, if they live for ``need`` and a margin as far as that can be known.

    Args:
        session: whose credentials.
        need: how long the URL must live.
        now: the clock (UTC).
        renew: makes a new session, asked once where the credentials are too short: a session keeps its credentials
            until 15 minutes before their end, a new one fetches fresh ones.

    Raises:
        CredentialsError: there are none, they cannot be had, or they are known to end too early.
    """
    found = freeze(session)
    if _is_short(found, need, now()) and renew is not None:
        fresh = freeze(renew())
        if fresh.provider == found.provider:
            found = fresh
    moment = now()
    if _is_short(found, need, moment):
        raise _too_short(found, need, moment)
    return found


_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
# The id stands between slashes in what is signed, and between commas in a header
# (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html).
_KEY_ID = re.compile(r"[\w.:@+-]{1,256}", re.ASCII)


def new_session() -> Session:
    """Return a boto3 session of the environment and the usual files.

    Raises CredentialsError where they are broken, InputError where a variable can be no credential; it names the
    variable, and never shows its value.
    """
    key_id, *_ = [read_token(os.environ, name) for name in _VARIABLES]
    if key_id is not None and not _KEY_ID.fullmatch(key_id.reveal()):
        raise InputError(
            "AWS_ACCESS_KEY_ID is no access key's id.", hint="It is letters and digits: set it again, or unset it."
        )
    return _new_session()


def _new_session() -> Session:
    from boto3 import Session as NewSession
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    from lora_packer.publisher.models import read_models_quickly

    try:
        session = get_session()
        read_models_quickly(session)
        return NewSession(botocore_session=session)
    except BotoCoreError as error:
        raise CredentialsError(
            f"The AWS configuration cannot be read: {_plain(error)}.",
            hint="Check AWS_PROFILE, and the files that AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE name.",
        ) from None


def freeze(session: Session) -> Signer:
    """Return the session's credentials as they are now. Raises CredentialsError where there are none to be had."""
    from botocore.exceptions import BotoCoreError, ClientError

    credentials: Any = None
    try:
        credentials = session.get_credentials()
        if credentials is None:
            raise CredentialsError("No AWS credentials were found.", hint=_NONE_HINT)
        # First the values, then the expiry: some providers fetch both on first use.
        keys = credentials.get_frozen_credentials()
    # Providers run programs, read files and parse dates: whatever they let through, it is the credentials' fault.
    except (BotoCoreError, ClientError, RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
        if credentials is None:
            raise CredentialsError(f"The AWS credentials cannot be had: {_plain(error)}.", hint=_BROKEN_HINT) from None
        provider, remedy = _provider(str(credentials.method))
        ended = _expiry(credentials)
        if isinstance(error, RuntimeError) and ended is not None:  # how botocore says that they have expired
            message = f"The AWS credentials from {provider} ended at {ended:{_MOMENT}}."
        else:
            message = f"The AWS credentials from {provider} cannot be had: {_plain(error)}."
            remedy = _BROKEN_HINT
        raise CredentialsError(message, hint=remedy) from None
    if not all(_can_be_sent(value) for value in (keys.access_key, keys.secret_key, keys.token or "")):
        raise CredentialsError(
            f"The AWS credentials from {_provider(str(credentials.method))[0]} have white space or an unprintable "
            "character in them.",
            hint=_BROKEN_HINT,
        )
    return Signer(
        provider=str(credentials.method),
        access_key=Secret(keys.access_key),
        secret_key=Secret(keys.secret_key),
        token=Secret(keys.token) if keys.token else None,
        expires_at=_expiry(credentials),
    )


def _can_be_sent(value: str) -> bool:
    return value.isascii() and " " not in value and (value.isprintable() or not value)


def _expiry(credentials: Any) -> datetime | None:
    expiry = getattr(credentials, "_expiry_time", None)  # there is no public way to ask
    return expiry.astimezone(UTC) if isinstance(expiry, datetime) else None


def _is_short(found: Signer, need: timedelta, moment: datetime) -> bool:
    return found.expires_at is not None and found.expires_at - moment < need + MARGIN


def _too_short(found: Signer, need: timedelta, moment: datetime) -> CredentialsError:
    assert found.expires_at is not None
    left = found.expires_at - moment
    provider, remedy = _provider(found.provider)
    when = f"{found.expires_at:{_MOMENT}}"
    lives = f"live for {format_duration(left)} more (until {when})" if left > timedelta(0) else f"ended at {when}"
    return CredentialsError(
        f"The AWS credentials from {provider} {lives}; a presigned URL dies with them, and it must live for "
        f"{format_duration(need)} (and {format_duration(MARGIN)} of margin).",
        hint=remedy,
    )


def _plain(error: Exception) -> str:
    return escape(scrub(" ".join(str(error).split())), 300).rstrip(". ")


def _provider(method: str) -> tuple[str, str]:
    if method in _PROVIDERS:
        return _PROVIDERS[method]
    words, remedy = _DEFAULT_PROVIDER
    return words.format(escape(method, 40)), remedy
