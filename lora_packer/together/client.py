"""The transport: one authenticated JSON request at a time, and every way it can go wrong as one sentence."""

from __future__ import annotations

import json as jsonlib
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

from lora_packer.address import checked_endpoint, is_loopback
from lora_packer.errors import InputError
from lora_packer.exchange import DEADLINE, WORK_DEADLINE, exchange, is_final
from lora_packer.frozen import frozen
from lora_packer.http import connect
from lora_packer.redact import MASK, Secret, read_token
from lora_packer.together import refusal
from lora_packer.together.refusal import Purpose

if TYPE_CHECKING:
    import httpx2

    from lora_packer.together.told_project import Project

DEFAULT_BASE_URL = "https://api.together.ai/v1"
"""The v1 API's address (openapi.yaml in github.com/togethercomputer/openapi, "servers")."""

# Where the vendor's SDK sends version 2's chat completions unless it was given another address: together 3.1.1,
# resources/chat/completions.py.
_INFERENCE_URL = "https://api-inference.together.ai/v1"

_OWN = (DEFAULT_BASE_URL, "https://api.together.xyz/v1")  # the second is the older one
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")
_VERSION = re.compile(r"/v\d+$")
_VERSIONED = re.compile(r"/v\d+/")

_SHORTEST_KEY = 8  # characters; a shorter one could be a word of any answer
_ATTEMPTS = 4
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds; the second also caps what Retry-After asks for
_MAX_ANSWER = 8 * 2**20  # bytes


@frozen
class _Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]


class Client:
    """A connection to the service. The token goes to ``base_url`` and, where that is the service's own, to its host for
    inference; nowhere else: no redirect is followed.

    Args:
        token: the API key.
        base_url: the API's address with its version; https, or http on loopback. Raises InputError otherwise.
        transport: what carries the requests; None is the network.
        timeout: seconds that a request may take, 5 of them to connect; one that only reads has ``DEADLINE`` at most.
        project_id: the project that version 2 of the API works in; None is the key's own, asked for once.
        sleep, clock, jitter: the time in seconds and a random number in [0, 1), for the pauses between attempts.

    Attributes:
        project: what the service told of the key's project; None until it was asked.
    """

    def __init__(
        self,
        token: Secret,
        base_url: str = DEFAULT_BASE_URL,
        *,
        transport: httpx2.BaseTransport | None = None,
        timeout: float = WORK_DEADLINE,
        project_id: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.base_url, self._host = checked_endpoint(base_url, "TOGETHER_BASE_URL", DEFAULT_BASE_URL)
        if f"{self.base_url}/v1" in _OWN:
            self.base_url += "/v1"  # the vendor's SDK 3 is given the bare host
        self.root = _VERSION.sub("", self.base_url)
        self.is_loopback = is_loopback(self._host)
        self.token = token
        self.project_id = project_id
        self.project: Project | None = None
        self._transport = transport
        self._timeout = timeout
        self.sleep, self.clock, self._jitter = sleep, clock, jitter
        self._http: httpx2.Client | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **options: Any) -> Client:
        """Return a client with the key of ``TOGETHER_API_KEY``, the address of ``TOGETHER_BASE_URL`` and the project of
        ``TOGETHER_PROJECT_ID``; the last two are optional.

        ``options`` are those of the constructor. Raises InputError where the key is missing or cannot be one.
        """
        environ = os.environ if environ is None else environ
        token = read_token(environ, "TOGETHER_API_KEY")
        if token is None:
            raise InputError(
                "TOGETHER_API_KEY is not set.", hint="Set it to the account's API key: export TOGETHER_API_KEY=..."
            )
        project = environ.get("TOGETHER_PROJECT_ID") or None
        if project is not None and not _PROJECT.fullmatch(project):
            raise InputError("TOGETHER_PROJECT_ID is not the id of a project.", hint="Unset it, or set it again.")
        return cls(token, environ.get("TOGETHER_BASE_URL") or DEFAULT_BASE_URL, project_id=project, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.base_url!r})"

    def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def request(
        self, method: str, path: str, json: Any = None, *, retry: bool, purpose: Purpose, inference: bool = False
    ) -> Any:
        """Send one request and return the JSON of its answer; None for an answer that has none by design (204).

        Args:
            method: the HTTP method. A DELETE that may have arrived, and then meets nothing to delete, has succeeded.
            path: the path below the base URL, beginning with a slash; with a version (``/v2/``) below its root.
            json: the body, or None.
            retry: whether it may be sent again after a broken connection, 429 or 5xx. A request that never left this
                machine is tried again in any case, and so is one that was refused where the service says so
                (``x-should-retry``).
            purpose: the words for its errors, and what to keep out of them.
            inference: send it to the service's host for inference, unless the base URL is not the service's own.

        Raises ServiceError, and InputError where the environment's proxy or authorities cannot be used.
        """
        import httpx2

        purpose = purpose.keeping(self.token)
        arrived = False  # whether an earlier attempt may have
        for attempt in range(1, _ATTEMPTS + 1):
            again = attempt < _ATTEMPTS
            try:
                answer = self._send(method, self._address(path, inference), json)
            except httpx2.RequestError as trouble:
                sent = not isinstance(
                    trouble, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout | httpx2.ProxyError
                )
                if again and (retry or not sent) and not is_final(trouble):
                    arrived |= sent
                    self.pause(attempt)
                    continue
                raise refusal.unanswered(purpose, *self._told(trouble, self._deadline(method)), sent=sent) from None
            if again and _may_go_again(answer, retry):
                arrived |= answer.status >= 500
                self.pause(attempt, refusal.retry_after(answer.headers))
                continue
            break
        if method == "DELETE" and answer.status == 404 and arrived:
            return None  # it is gone, as it was asked to be
        return _parsed(answer, purpose)

    def _address(self, path: str, inference: bool) -> str:
        if inference and self.base_url in _OWN:
            return f"{_INFERENCE_URL}{path}"
        return f"{self.root if _VERSIONED.match(path) else self.base_url}{path}"

    def _send(self, method: str, address: str, json: Any) -> _Answer:
        import httpx2

        body = None if json is None else jsonlib.dumps(json, separators=(",", ":")).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        answer = exchange(
            self._connection(),
            method,
            address,
            most=_MAX_ANSWER,
            headers=headers,
            content=body,
            deadline=self._deadline(method),
            clock=self.clock,
        )
        if answer.is_success and not answer.whole:
            raise httpx2.DecodingError(f"the answer is longer than {_MAX_ANSWER} bytes")
        return _Answer(answer.status, self._without_key(answer.body), answer.headers)

    def _deadline(self, method: str) -> float:
        """Seconds that a request may take."""
        return min(self._timeout, DEADLINE) if method == "GET" else self._timeout

    def _without_key(self, body: bytes) -> bytes:
        """An answer that repeats the key, without it: nobody needs it there, so that nobody has to keep it."""
        key = self.token.reveal()
        return body.replace(key.encode(), MASK.encode()) if len(key) >= _SHORTEST_KEY else body

    def _connection(self) -> httpx2.Client:
        import httpx2

        from lora_packer import __version__

        if self._http is None:
            self._http = connect(
                self.base_url,
                headers={
                    "Authorization": f"Bearer {self.token.reveal()}",
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": f"lora-packer/{__version__}",
                },
                timeout=httpx2.Timeout(self._timeout, connect=5.0),
                transport=self._transport,
            )
        return self._http

    def anonymous(self, timeout: float) -> httpx2.Client:
        """Return a connection that carries no key, for addresses that are a key themselves; ``timeout`` in seconds.

        Raises InputError where the environment's settings cannot be used.
        """
        import httpx2

        return connect(self.base_url, timeout=httpx2.Timeout(timeout, connect=5.0), transport=self._transport)

    def pause(self, attempt: int, asked: float | None = None) -> None:
        """Wait before the next attempt: what the service asked for, or a growing, jittered while; never long."""
        backoff = _FIRST_PAUSE * 2 ** (attempt - 1) * (1 + self._jitter())
        self.sleep(min(backoff if asked is None else asked, _LONGEST_PAUSE))

    def _told(self, trouble: httpx2.RequestError, deadline: float) -> tuple[str, str | None]:
        """What went wrong, and the library's own words where they say more."""
        import httpx2

        if isinstance(trouble, httpx2.ConnectTimeout | httpx2.ConnectError | httpx2.PoolTimeout | httpx2.ProxyError):
            return f"no connection to {self._host}", str(trouble)
        if isinstance(trouble, httpx2.TimeoutException):
            return f"{self._host} did not answer within {deadline:g} s", None
        if isinstance(trouble, httpx2.DecodingError):
            return f"the answer of {self._host} cannot be read", str(trouble)
        return f"the connection to {self._host} broke before the answer was complete", str(trouble)


def _may_go_again(answer: _Answer, retry: bool) -> bool:
    """Whether a request that was answered so is sent again: as the service says, else after 429 and 5xx.

    One that creates something (``retry`` is false) is sent again only where it was refused and the service says so:
    after a 5xx it may have been carried out.
    """
    said = refusal.should_retry(answer.headers)
    refused = 400 <= answer.status < 500
    if not retry:
        return said is True and refused
    if said is not None and (refused or answer.status >= 500):
        return said
    return answer.status == 429 or answer.status >= 500


def _parsed(answer: _Answer, purpose: Purpose) -> Any:
    if not 200 <= answer.status < 300:
        raise refusal.refused(purpose, answer.status, answer.body, answer.headers)
    if answer.status == 204:
        return None
    if not answer.body.strip():
        raise refusal.unreadable(purpose, answer.status, "is empty")
    try:
        return _json_in(answer.body)
    except (ValueError, RecursionError):
        kind = "is HTML" if answer.body.lstrip()[:1] == b"<" else "is not complete JSON"
        raise refusal.unreadable(purpose, answer.status, kind) from None


def _json_in(body: bytes) -> Any:
    """Return what a body of UTF-8 says. Raises ValueError, RecursionError.

    Of UTF-16, which json would take as well, a key that is repeated could not be masked. Half of a character, which
    JSON can name, cannot be sent back or written down.
    """
    value = jsonlib.loads(body.decode("utf-8-sig"))
    if b"\\ud" in body.lower():
        jsonlib.dumps(value, ensure_ascii=False).encode()
    return value
