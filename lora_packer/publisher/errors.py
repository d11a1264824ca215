"""What S3 and botocore refuse, as one sentence and a next step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lora_packer.errors import CredentialsError, PublishError
from lora_packer.redact import escape, scrub

# Codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; a HEAD answer has no body, so
# its code is the bare status.
_CREDENTIAL_HINTS = {
    "ExpiredToken": "Get fresh credentials and run it again.",
    "TokenRefreshRequired": "Get fresh credentials and run it again.",
    "InvalidToken": "The session token does not belong to these keys: set all three anew.",
    "InvalidAccessKeyId": "Check AWS_ACCESS_KEY_ID or the profile, and that the endpoint is the one they belong to.",
    "SignatureDoesNotMatch": "Check the secret access key, and that the clock of this machine is right.",
}
_HINTS = {
    "AccessDenied": "The signer needs s3:PutObject and s3:GetObject (and s3:ListBucket to look first) on that bucket.",
    "403": "The credentials may not read there, or are not accepted: check them, and the bucket's policy.",
    "NoSuchBucket": "Check the bucket's name in --to, and --endpoint-url; the bucket must exist.",
    "404": "Check the bucket's name in --to, and --endpoint-url; the bucket must exist.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong: set it (NTP) and run it again.",
    "PermanentRedirect": "The bucket is in another region: leave --endpoint-url out, or give its own region's.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set AWS_DEFAULT_REGION to it.",
    "BadDigest": "The bytes changed on the way: run it again.",
    "SlowDown": "The store asks for fewer requests: run it again in a while.",
    "ConditionalRequestConflict": "Another upload of the same archive runs at the same time: run it again.",
    "PreconditionFailed": "An object is there already, and the credentials may not look at it: allow s3:GetObject.",
    "NoSuchUpload": "The unfinished upload was removed meanwhile: run it again, it starts afresh.",
    "NotImplemented": "The store does not know this operation.",
    "KMS.DisabledException": "The key that encrypts the bucket is disabled.",
}
_NETWORK_HINT = "Check the network, --endpoint-url and the proxy settings, and run it again."
# Passes by itself, whatever its status.
_TRANSIENT_CODES = frozenset({"RequestTimeout", "SlowDown", "Throttling", "TooManyRequests", "429"})
# The answer to a HEAD has no body: of an expired token it says 400 and nothing else.
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "400"})
# By name: the lower bound of our botocore does not know the newest of them.
_CREDENTIAL_ERRORS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "TokenRetrievalError",
        "SSOError",
        "LoginError",
        "NoAuthTokenError",
        "RefreshWithMFAUnsupportedError",
        "MetadataRetrievalError",
    }
)
_DETAIL_CHARACTERS = 300


class S3Error(PublishError):
    """A request to S3 failed.

    Attributes:
        status: the HTTP status, or None where no answer came.
        code: S3's error code, or botocore's exception name.
        transient: whether the same request may succeed in a while.
        attempts: how often the request was made.
    """

    def __init__(
        self, message: str, *, hint: str | None, status: int | None, code: str, transient: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.transient = transient
        self.attempts = 1

    @property
    def expired(self) -> bool:
        """Whether fresh credentials may help."""
        return self.code in _EXPIRED_CODES

    @property
    def resumable(self) -> bool:
        """Whether another run may go on from here, so that parts already sent are worth keeping."""
        return self.transient or self.status is None or self.code == "RequestTimeTooSkewed"


class RefusedCredentialsError(S3Error, CredentialsError):
    """S3 does not accept the credentials."""

    @property
    def resumable(self) -> bool:
        """Other credentials may go on; nothing could be aborted with these."""
        return True


@contextmanager
def s3_call(operation: str, where: str) -> Iterator[None]:
    """Turn whatever botocore raises inside into an S3Error about ``operation`` on ``where`` (``s3://bucket/key``)."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    # `from None`: botocore's exceptions carry the request with its signature and session token.
    try:
        yield
    except ClientError as error:
        raise _from_answer(error, operation, where) from None
    except BotoCoreError as error:
        raise _from_botocore(error, operation, where) from None
    except ResponseParserError:
        raise S3Error(
            f"{operation} on {where} failed: what was answered is no answer of S3's.",
            hint="What answers there is not an S3 store: check --endpoint-url and the proxy settings.",
            status=None,
            code="ResponseParserError",
        ) from None
    except (ValueError, RuntimeError, OSError) as error:
        # What botocore lets through: "Invalid endpoint", a failed refresh of credentials, a credential program
        # that is not there.
        raise S3Error(
            f"{operation} on {where} failed: {_plain(str(error))}.",
            hint="Check the endpoint, the region and the credentials.",
            status=None,
            code=type(error).__name__,
        ) from None


def _from_answer(error: object, operation: str, where: str) -> S3Error:
    response = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = escape(str(response.get("Error", {}).get("Code") or status), 60)
    detail = _plain(str(response.get("Error", {}).get("Message") or ""))
    named = f"HTTP {status}" if code == str(status) else f"HTTP {status} {code}"
    message = f"{operation} on {where} was refused: {named}{f' ({detail})' if detail else ''}."
    if code in _CREDENTIAL_HINTS:
        return RefusedCredentialsError(message, hint=_CREDENTIAL_HINTS[code], status=status, code=code)
    hint = _HINTS.get(code) or ("Run it again in a while." if status and status >= 500 else None)
    transient = code in _TRANSIENT_CODES or (status is not None and status >= 500 and status != 501)
    return S3Error(message, hint=hint, status=status, code=code, transient=transient)


def _from_botocore(error: Exception, operation: str, where: str) -> S3Error:
    from botocore import exceptions

    name = type(error).__name__
    message = f"{operation} on {where} failed: {_plain(str(error))}."
    if _CREDENTIAL_ERRORS.intersection(kind.__name__ for kind in type(error).__mro__):
        return RefusedCredentialsError(message, hint="Get fresh credentials and run it again.", status=None, code=name)
    transient = False
    if isinstance(error, exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "The endpoint's certificate is not trusted: set AWS_CA_BUNDLE to its authority's."
    elif isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError)):
        hint, transient = _NETWORK_HINT, True
    else:
        hint = "Check --to, --endpoint-url and the AWS configuration."
    return S3Error(message, hint=hint, status=None, code=name, transient=transient)


def _plain(text: str) -> str:
    return escape(scrub(" ".join(text.split())), _DETAIL_CHARACTERS).rstrip(". ")
