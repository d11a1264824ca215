"""What the service says when it does not do what was asked, as one sentence and a next step.

The next step is that of the message (``next_steps``), else of the request, else of the HTTP status
(docs.together.ai/docs/error-codes).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from lora_packer.duration import format_duration
from lora_packer.errors import ServiceError
from lora_packer.frozen import frozen
from lora_packer.redact import Secret, escape, scrub
from lora_packer.together.next_steps import next_step
from lora_packer.together.reasons import message_of, said_in

_LONGEST_PAUSE = 7 * 24 * 3600.0  # seconds that are told; a header may name any number
_MESSAGE_LIMIT = 400  # characters of the service's own words

_MEANINGS = {
    400: "the request was refused",
    401: "the API key was refused",
    402: "the account's spending limit is reached",
    403: "access was denied",
    404: "not found",
    408: "the service gave up waiting",
    409: "it conflicts with what is already there",
    413: "the request was refused as too large",
    422: "a field was refused",
    429: "too many requests",
    503: "the service is overloaded or down",
    504: "the service gave up waiting",
}
_NEXT_STEPS = {
    401: "Check that TOGETHER_API_KEY holds a valid key of this account.",
    402: "Raise the limit or add credit in the account's billing settings, then run it again.",
    403: "Check that the key in TOGETHER_API_KEY may do this.",
    404: "Check TOGETHER_BASE_URL: the v1 API is at https://api.together.ai/v1.",
    422: "Correct the field it names, then run it again.",
    429: "Wait a minute, then run it again.",
}
_ABOUT_THE_KEY = (401, 402, 429)  # whatever the message, the next step is the account's
_OF_REFUSALS = ("error", "message", "detail", "details", "errors", "code")
_CORRECT = "Correct what it names, then run it again."
_TROUBLE = "The trouble is on the service's side: run it again in a few minutes."


@frozen
class Purpose:
    """What a request is for, in the words of its errors.

    Attributes:
        action: completes "Could not ...", such as "submit the adapter".
        hints: next steps of this request by HTTP status, before the general ones.
        in_doubt: the next step where the request went out and no usable answer came back; None where repeating is safe.
        secrets: what the service may echo and nobody may see.
    """

    action: str
    hints: Mapping[int, str] = field(default_factory=dict)
    in_doubt: str | None = None
    secrets: tuple[Secret, ...] = ()

    def keeping(self, secret: Secret) -> Purpose:
        """Return the same purpose with one more secret to keep."""
        return replace(self, secrets=(*self.secrets, secret))


def refused(purpose: Purpose, status: int, body: bytes, headers: Mapping[str, str]) -> ServiceError:
    """Return the error for an answer with an HTTP status that is not a success."""
    failure = _refused(purpose, status, body, headers)
    failure.again = should_retry(headers)
    return failure


def _refused(purpose: Purpose, status: int, body: bytes, headers: Mapping[str, str]) -> ServiceError:
    if 300 <= status < 400:
        return _redirected(purpose, status, headers.get("location", ""))
    said = message_of(body, headers.get("content-type", "").lower())
    meaning = _MEANINGS.get(status, "the service failed" if status >= 500 else "the request was refused")
    what = f"{meaning} (HTTP {status})"
    if status >= 500 or status == 408:
        return _doubtful(purpose, what, said, (said and next_step(said)) or _TROUBLE, status)
    known = next_step(said) if said and status not in _ABOUT_THE_KEY else None
    hint = known or purpose.hints.get(status) or _NEXT_STEPS.get(status, _CORRECT)
    if status == 429 and (pause := retry_after(headers)):
        hint = f"Wait {format_duration(timedelta(seconds=math.ceil(min(pause, _LONGEST_PAUSE))))}, then run it again."
    return error(purpose, what, said, hint, status)


def _redirected(purpose: Purpose, status: int, location: str) -> ServiceError:
    """The token goes to the configured address only."""
    target = location.partition("?")[0].partition("#")[0]
    what = f"the service answered with a redirect (HTTP {status}), which is not followed with a token"
    return _doubtful(purpose, what, target or None, "Set TOGETHER_BASE_URL to the API's own address.", status)


def without(purpose: Purpose, answer: Any, what: str) -> ServiceError:
    """Return the error for a success without what was asked for, which is a refusal where it has a message.

    The service answers some refusals with 200, a message and no data: a comment in together 2.42.0,
    lib/cli/api/models/upload.py.
    """
    told = {name: answer[name] for name in _OF_REFUSALS if name in answer} if isinstance(answer, dict) else None
    said = said_in(told)
    if said is None:
        return unreadable(purpose, 200, what)
    return error(purpose, "the service refused it", said, next_step(said) or _CORRECT, 200)


def unreadable(purpose: Purpose, status: int, what: str) -> ServiceError:
    """Return the error for a success whose body is not the JSON it should be."""
    hint = "Check TOGETHER_BASE_URL, and whether a proxy answers in the service's place."
    return _doubtful(purpose, f"the answer (HTTP {status}) {what}", None, hint, status)


def unanswered(purpose: Purpose, what: str, said: str | None, *, sent: bool) -> ServiceError:
    """Return the error for a request without an answer; ``sent`` is whether the service may have got it."""
    if sent:
        return _doubtful(purpose, what, said, "Check the network, then run it again.", None)
    hint = "Nothing was sent. Check the network, the proxy settings and TOGETHER_BASE_URL."
    return error(purpose, what, said, hint, None)


def error(
    purpose: Purpose, what: str, said: str | None, hint: str | None, status: int | None, *, in_doubt: bool = False
) -> ServiceError:
    """Return a ServiceError "Could not <action>: <what>: <said>." whose text is scrubbed, escaped and clipped."""
    text = scrub(what, *purpose.secrets)
    if said:
        words = escape(scrub(said, *purpose.secrets).strip(), _MESSAGE_LIMIT)
        text += f": {words}"
    message = f"Could not {purpose.action}: {text.rstrip('.')}."
    return ServiceError(message, hint=hint, status=status, in_doubt=in_doubt)


def _doubtful(purpose: Purpose, what: str, said: str | None, hint: str, status: int | None) -> ServiceError:
    """The error where the request may have been carried out: where repeating it is not safe, that is the next step."""
    return error(purpose, what, said, purpose.in_doubt or hint, status, in_doubt=True)


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return what the service says about sending the request again; None where it says nothing.

    The vendor's SDK obeys this header before anything else: together 3.1.1, _base_client.py.
    """
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a Retry-After header asks for (RFC 9110, section 10.2.3), or None.

    Milliseconds of a header of the vendor's come before it: together 3.1.1, _base_client.py.
    """
    exact = headers.get("retry-after-ms", "").strip()
    if exact.isascii() and exact.isdigit():
        return float(exact) / 1000
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        pause = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError, OverflowError):
        return None
    return max(0.0, pause.total_seconds())


def is_transient(failure: ServiceError) -> bool:
    """Whether the same request may succeed later: what the service says, else no answer, 408, 429 or a failure on its
    side."""
    if failure.again is not None:
        return failure.again
    return failure.status is None or failure.status in (408, 429) or failure.status >= 500
