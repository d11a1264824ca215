"""Reading a Hub repository by byte ranges, and what each refusal and failure of the Hub means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2
import pytest
from builders import TINY
from hub_support import CONFIG, CONFIG_BYTES, HEADER_BYTES, WEIGHTS, asking, fetched, hub_of_every_kind, token_of

from lora_packer.adapter import read_adapter
from lora_packer.adapter.hub_source import HubSource
from lora_packer.errors import InconclusiveError, InputError, LoraPackerError
from lora_packer.hub import Hub, HubRepo, repo_in
from lora_packer.ranges import RangeFile
from lora_packer.redact import Secret
from lora_packer.sandbox import LocalHub

TOKEN = Secret("hf_" + "Q" * 34)
COMMIT = "c" * 40
REPO = HubRepo("org/repo")


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with hub_of_every_kind() as started:
        yield started


# ---- what is read


def test_an_adapter_is_read_without_its_weights(hub: LocalHub) -> None:
    hub.served.clear()
    with asking(hub) as connection:
        adapter = read_adapter(HubSource(connection.snapshot(HubRepo("org/public"))))
    assert adapter.defects == ()
    assert len(adapter.tensors) == 8
    assert adapter.bytes == sum((TINY / name).stat().st_size for name in (CONFIG, WEIGHTS))
    assert fetched(hub, WEIGHTS) == HEADER_BYTES
    assert fetched(hub, CONFIG) == CONFIG_BYTES
    assert [(one.method, one.status) for one in hub.served] == [("GET", 200)] + [("GET", 206)] * 3


def test_a_snapshot_is_of_one_commit(hub: LocalHub, tmp_path) -> None:
    first = hub.add("org/moving", TINY)
    with asking(hub) as connection:
        old = connection.snapshot(HubRepo("org/moving"))
        (tmp_path / CONFIG).write_text("{}")
        second = hub.add("org/moving", tmp_path)
        assert (old.commit, connection.snapshot(HubRepo("org/moving")).commit) == (first, second)
        assert connection.snapshot(HubRepo("org/moving", first)).sizes == old.sizes
        assert old.open(CONFIG).read() == (TINY / CONFIG).read_bytes()
        assert list(old.digests) == [WEIGHTS]
        with pytest.raises(InputError, match=r"no 'x' in hf://org/moving"):
            old.open("x")


@pytest.mark.parametrize(("repo", "restricted"), [("public", None), ("private", "private"), ("gated", "gated")])
def test_the_owner_reads_everything(hub: LocalHub, repo: str, restricted: str | None) -> None:
    with asking(hub, "owner") as connection:
        snapshot = connection.snapshot(HubRepo(f"org/{repo}"))
        assert snapshot.restricted == restricted
        assert snapshot.open(WEIGHTS).read(8) == (TINY / WEIGHTS).read_bytes()[:8]


def test_a_range_file_is_a_file() -> None:
    asked = []

    def fetch(begin: int, end: int) -> bytes:
        asked.append((begin, end))
        return b"0123456789"[begin:end]

    file = RangeFile(10, fetch)
    assert (file.readable(), file.seekable()) == (True, True)
    assert (file.read(3), file.tell(), file.read(0), file.seek(-2, 2), file.read(), file.read(5)) == (
        b"012", 3, b"", 8, b"89", b"",
    )  # fmt: skip
    assert (file.seek(1), file.seek(2, 1), file.read(100)) == (1, 3, b"3456789")
    assert asked == [(0, 3), (8, 10), (3, 10)]


@pytest.mark.parametrize(
    "text", ["org/repo", "/org/repo", "a/b.zip", "s3://a/b", "https://a.example/b", "hf:/org/repo"]
)
def test_what_is_no_address_of_a_repository(text: str) -> None:
    assert repo_in(text) is None


# ---- refusals of the Hub


@pytest.mark.parametrize(
    ("repo", "who", "says"),
    [
        ("org/none", "nobody", "org/none does not exist, or is private and no HF_TOKEN is set"),
        ("org/none", "other", r"org/none does not exist, or is private and HF_TOKEN may not read it.*HTTP 404"),
        ("org/private", "nobody", r"does not exist, or is private.*HTTP 401"),
        ("org/private", "other", r"does not exist, or is private.*HTTP 404"),
        (
            "org/gated",
            "nobody",
            "is gated, and no HF_TOKEN is set.*Accept the licence at https://huggingface.co/org/gated",
        ),
        ("org/gated", "other", "is gated, and the account of HF_TOKEN has no access"),
        ("org/public", "invalid", "refuses the token in HF_TOKEN"),
        ("org/public@v9", "nobody", "org/public has no revision 'v9'"),
    ],
)
def test_why_a_repository_cannot_be_read(hub: LocalHub, repo: str, who: str, says: str) -> None:
    name, _, revision = repo.partition("@")
    with asking(hub, who) as connection, pytest.raises(InputError, match=says) as caught:
        connection.snapshot(HubRepo(name, revision or None)).open(CONFIG).read()
    token = token_of(hub, who)
    assert token is None or token.reveal() not in f"{caught.value}{caught.value!r}{connection!r}"


INFO = {"sha": COMMIT, "siblings": [{"rfilename": "f", "size": 4}], "private": False, "gated": False}


def mock(
    *answers: httpx2.Response | Exception | Callable[[httpx2.Request], httpx2.Response],
) -> tuple[Hub, list[float]]:
    """A connection whose requests get these answers in turn, the last one for good; and its pauses in seconds."""
    left, pauses = list(answers), []

    def handle(request: httpx2.Request) -> httpx2.Response:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    return Hub(TOKEN, transport=httpx2.MockTransport(handle), sleep=pauses.append), pauses


@pytest.mark.parametrize(
    ("answer", "kind", "says", "attempts"),
    [
        (lambda _: httpx2.Response(500), InconclusiveError, "the Hub answered HTTP 500", 3),
        (lambda _: httpx2.Response(429), InconclusiveError, "the Hub answered HTTP 429", 3),
        (lambda _: httpx2.Response(418), InconclusiveError, "the Hub answered HTTP 418", 1),
        (lambda _: httpx2.Response(403), InputError, "The token in HF_TOKEN may not read hf://org/repo", 1),
        (lambda _: httpx2.Response(404, headers={"X-Error-Code": "EntryNotFound"}), InputError, "lacks the file", 1),
        (
            lambda _: httpx2.Response(403, headers={"X-Error-Message": "Access to this resource is disabled."}),
            InputError,
            "disabled",
            1,
        ),
        (httpx2.ReadTimeout("slow"), InconclusiveError, r"no answer from the Hub \(slow\)", 3),
        (httpx2.ConnectError("no route"), InconclusiveError, r"no answer from the Hub \(no route\)", 1),
        (lambda _: httpx2.Response(200, text="<html>"), InconclusiveError, "not what it should be", 1),
        (lambda _: httpx2.Response(200, json=[]), InconclusiveError, "not what it should be", 1),
        (lambda _: httpx2.Response(200, json={**INFO, "sha": "main"}), InconclusiveError, "its sha is no commit", 1),
        (lambda _: httpx2.Response(200, json={**INFO, "siblings": [{"rfilename": "f", "size": None}]}), InconclusiveError, "a size is no number", 1),
    ],
)  # fmt: skip
def test_what_the_hub_may_answer(
    answer: httpx2.Response | Exception, kind: type[LoraPackerError], says: str, attempts: int
) -> None:
    connection, pauses = mock(answer)
    with connection, pytest.raises(kind, match=says) as caught:
        connection.snapshot(REPO)
    assert len(pauses) == attempts - 1
    assert TOKEN.reveal() not in str(caught.value)


def test_a_hiccup_is_ridden_out() -> None:
    connection, pauses = mock(httpx2.Response(503), httpx2.ReadError("reset"), httpx2.Response(200, json=INFO))
    with connection:
        assert connection.snapshot(REPO).commit == COMMIT
    assert pauses == [0.5, 1.0]


def test_a_quick_look_is_one() -> None:
    """Each request is tried once, for 5 seconds at the most: also one that may do better later."""
    asked: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        raise httpx2.ReadTimeout("slow")

    pauses: list[float] = []
    with Hub(transport=httpx2.MockTransport(handle), sleep=pauses.append, quick=True) as connection:
        with pytest.raises(InconclusiveError, match=r"no answer from the Hub \(slow\)"):
            connection.snapshot(REPO)
        assert connection._deadline == 5
    assert pauses == []
    (request,) = asked
    assert request.extensions["timeout"]["connect"] == 5


@pytest.mark.parametrize(
    ("answer", "begin", "read"),
    [
        (httpx2.Response(206, content=b"cd", headers={"Content-Range": "bytes 2-3/4"}), 2, b"cd"),
        (httpx2.Response(200, content=b"abcd" * 9), 0, b"ab"),  # the range was ignored: what was asked for comes first
        (httpx2.Response(200, content=b"abcd"), 2, "answers no byte ranges"),
        (httpx2.Response(206, content=b"ab", headers={"Content-Range": "bytes 0-1/4"}), 2, "answers no byte ranges"),
        (httpx2.Response(206, content=b"c", headers={"Content-Range": "bytes 2-3/4"}), 2, "ended after 1 of 2 bytes"),
    ],
)
def test_ranges(answer: httpx2.Response, begin: int, read: bytes | str) -> None:
    def again(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    connection, _ = mock(httpx2.Response(200, json=INFO), again)
    with connection:
        file = connection.snapshot(REPO).open("f")
        file.seek(begin)
        if isinstance(read, bytes):
            assert file.read(2) == read
        else:
            with pytest.raises(InconclusiveError, match=read):
                file.read(2)


def test_the_token_goes_to_the_endpoint_alone() -> None:
    seen = {}

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen[request.url.host] = request.headers.get("Authorization")
        if request.url.host == "cdn.example":
            assert request.headers["Range"] == "bytes=0-3"
            return httpx2.Response(206, content=b"abcd", headers={"Content-Range": "bytes 0-3/4"})
        if "/resolve/" in request.url.path:
            return httpx2.Response(302, headers={"Location": "https://cdn.example/f?signed"})
        return httpx2.Response(200, json=INFO)

    with Hub(TOKEN, transport=httpx2.MockTransport(handle)) as connection:
        assert connection.snapshot(REPO).open("f").read() == b"abcd"
    assert seen == {"huggingface.co": f"Bearer {TOKEN.reveal()}", "cdn.example": None}


def test_offline_nothing_is_asked(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.served.clear()
    with asking(hub) as connection, pytest.raises(InconclusiveError, match="HF_HUB_OFFLINE is set"):
        connection.snapshot(HubRepo("org/public"))
    assert hub.served == []


# ---- the environment


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://hub.example",
        "ftp://127.0.0.1",
        "https://?x",
        "https://a:b@hub.example",
        "https://hub.example?x=1",
        "https://a b",
    ],
)
def test_an_endpoint_that_gets_no_token(endpoint: str) -> None:
    with pytest.raises(InputError, match="HF_ENDPOINT is not an address") as caught:
        Hub.from_environment({"HF_ENDPOINT": endpoint})
    assert endpoint not in str(caught.value)


def test_the_environment_names_endpoint_and_token() -> None:
    with Hub.from_environment({}) as connection:
        assert (connection.endpoint, connection.token) == ("https://huggingface.co", None)
    environment = {"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": TOKEN.reveal()}
    with Hub.from_environment(environment) as connection:
        assert (connection.endpoint, connection.token) == ("https://mirror.example", TOKEN)
        assert json.dumps(TOKEN.reveal()) not in repr(vars(connection))
    with pytest.raises(InputError, match="HF_TOKEN has white space"):
        Hub.from_environment({"HF_TOKEN": "hf_x\n"})
