"""Reading a repository of the Hub at one commit, its files by byte ranges.

Addresses and answers are those of huggingface_hub 2.4 (``HfApi.model_info``, ``hf_hub_url``, ``hf_raise_for_status``);
the requests are our own, so that no token but the given one is sent and nothing of the environment gets between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast
from urllib.parse import quote

from lora_packer.address import checked_endpoint, is_loopback
from lora_packer.errors import InputError
from lora_packer.exchange import DEADLINE, SILENCE, exchange
from lora_packer.frozen import frozen
from lora_packer.http import connect
from lora_packer.hub.errors import explain, may_pass, unreadable
from lora_packer.hub.info import read_info
from lora_packer.hub.repo import DEFAULT_ENDPOINT, HubRepo
from lora_packer.ranges import RangeFile
from lora_packer.redact import Secret, escape, read_token

if TYPE_CHECKING:
    import httpx2

_ATTEMPTS = 3
_FIRST_PAUSE = 0.5  # seconds
_CONNECT_TIMEOUT = 10.0  # seconds
_QUICK = 5.0  # seconds of a request that is not waited for
_MAX_INFO = 16 * 2**20  # bytes of what the Hub tells about a repository


@frozen
class Snapshot:
    """A repository at one commit.

    Attributes:
        repo: as it was asked for.
        commit: the id of the commit that its revision is now.
        sizes: every file's name and size in bytes.
        digests: the SHA-256 of the files that the Hub stores as large ones.
        restricted: ``private`` or ``gated``, where a token is needed to read its files; else None.
    """

    repo: HubRepo
    commit: str
    sizes: Mapping[str, int]
    digests: Mapping[str, str]
    restricted: str | None
    _fetch: Callable[[str, int, int], bytes] = field(repr=False, compare=False)

    def open(self, name: str) -> BinaryIO:
        """Open a file of the snapshot; every read is one ranged request. Raises InputError, InconclusiveError."""
        if name not in self.sizes:
            raise InputError(f"there is no {escape(name)!r} in {self.repo}.")
        return cast(BinaryIO, RangeFile(self.sizes[name], lambda begin, end: self._fetch(name, begin, end)))


class Hub:
    """A connection to the Hub, safe to use from several threads. The token goes to the endpoint only.

    Args:
        token: of an account; None reads what is public.
        endpoint: the Hub's address: https, or http on loopback. Raises InputError otherwise, and where the proxy or the
            authorities of the environment cannot be used.
        transport: what carries the requests; None is the network.
        sleep, clock: pauses between two attempts, and the time, in seconds.
        deadline: seconds that a request may take (``exchange``), its further tries after a silence too.
        quick: try each request once, for 5 seconds at the most: for what can be done without.
    """

    def __init__(
        self,
        token: Secret | None = None,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        deadline: float = DEADLINE,
        quick: bool = False,
    ) -> None:
        import httpx2

        self.endpoint, host = checked_endpoint(endpoint, "HF_ENDPOINT", DEFAULT_ENDPOINT)
        self.is_loopback = is_loopback(host)
        self.token = token
        self._sleep, self._clock = sleep, clock
        self._deadline = min(deadline, _QUICK) if quick else deadline
        self._attempts = 1 if quick else _ATTEMPTS
        headers = {"Accept-Encoding": "identity", "User-Agent": "lora-packer"}
        if token:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        self._http = connect(
            self.endpoint,
            headers=headers,
            timeout=httpx2.Timeout(SILENCE, connect=_QUICK if quick else _CONNECT_TIMEOUT),
            transport=transport,
            follow_redirects=True,  # large files are elsewhere; httpx2 keeps the token from other origins
        )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **options: Any) -> Hub:
        """Return a connection to ``HF_ENDPOINT`` with the token of ``HF_TOKEN``; both are optional. Raises InputError.

        ``options`` are those of the constructor.
        """
        environ = os.environ if environ is None else environ
        token = options.pop("token", None) or read_token(environ, "HF_TOKEN")
        return cls(token, environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def __repr__(self) -> str:
        return f"Hub({self.endpoint!r})"

    def snapshot(self, repo: HubRepo) -> Snapshot:
        """Return the repository as it is now. Raises InputError (not there, not for this token), InconclusiveError."""
        revision = f"/revision/{quote(repo.revision, safe='')}" if repo.revision else ""
        answer = self._get(repo, f"/api/models/{repo.id}{revision}?blobs=true", None)
        try:
            info = read_info(answer)
        except ValueError as error:
            raise unreadable(repo, f"the Hub's answer is not what it should be: {error}") from None
        at = f"/{repo.id}/resolve/{info.commit}/"
        return Snapshot(
            repo,
            info.commit,
            info.sizes,
            info.digests,
            info.restricted,
            lambda name, begin, end: self._get(repo, at + quote(name), (begin, end)),
        )

    def _get(self, repo: HubRepo, path: str, span: tuple[int, int] | None) -> bytes:
        """Return what is at ``path``, all of it or the bytes of ``span``. Raises InputError, InconclusiveError."""
        import httpx2
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise unreadable(repo, "HF_HUB_OFFLINE is set")
        attempt, left = 1, self._deadline
        while True:
            began = self._clock()
            try:
                return self._once(repo, path, span, left)
            except httpx2.HTTPError as error:
                pause = _FIRST_PAUSE * 2 ** (attempt - 1)
                if isinstance(error, httpx2.TimeoutException):
                    left -= self._clock() - began + pause
                if attempt == self._attempts or left <= 0 or not may_pass(error):
                    raise explain(error, repo, self.token) from None
            self._sleep(pause)
            attempt += 1

    def _once(self, repo: HubRepo, path: str, span: tuple[int, int] | None, deadline: float) -> bytes:
        import httpx2

        begin, end = span or (0, _MAX_INFO)
        headers = {"Range": f"bytes={begin}-{end - 1}"} if span else {}
        address = self.endpoint + path
        answer = exchange(
            self._http, "GET", address, most=end - begin, headers=headers, deadline=deadline, clock=self._clock
        )
        if not answer.is_success:
            refused = httpx2.Response(answer.status, headers=answer.headers, request=httpx2.Request("GET", answer.url))
            raise httpx2.HTTPStatusError(f"HTTP {answer.status}", request=refused.request, response=refused)
        ranged = answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
        if span and not ranged and (begin or answer.status == 206):
            raise unreadable(repo, "the Hub answers no byte ranges")
        if span and len(answer.body) < end - begin:
            raise httpx2.ReadError(f"the answer ended after {len(answer.body)} of {end - begin} bytes")
        if not span and not answer.whole:
            raise unreadable(repo, f"the Hub's answer is longer than {_MAX_INFO} bytes")
        return answer.body


def stored_token() -> Secret | None:
    """Return the token of HF_TOKEN, else the one that `hf auth login` stored on this machine, or None."""
    from huggingface_hub import constants, get_token

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return Secret(token) if token else None
