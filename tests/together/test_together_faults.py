"""Every way a request can go wrong, at every request of every call of both APIs: one sentence, the right exit code,
nothing created twice, no secret shown."""

from __future__ import annotations

import inspect
import re
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from together_calls import CALLS, URL, World
from together_support import HF_TOKEN, TOKEN, assert_no_secret

from lora_packer import together
from lora_packer.errors import LoraPackerError, ServiceError
from lora_packer.together import APIS


def test_every_call_is_in_the_table() -> None:
    named = {name.split()[1] for name in CALLS}
    public = {name for name in together.__all__ if "client" in _parameters(getattr(together, name))}
    assert public <= named
    for version, api in APIS.items():
        functions = {name for name in api.__all__ if callable(getattr(api, name))}  # type: ignore[attr-defined]
        missing = functions - {name.split()[1] for name in CALLS if name.startswith(version)}
        assert missing <= ({"delete_model", "base_names", "based_on", "named"} if version == "v1" else set()), (
            "version 1 has no such request"
        )


def _parameters(value: object) -> set[str]:
    return set(inspect.signature(value).parameters) if inspect.isfunction(value) else set()


ECHO = f"bad request: model_source={URL} hf_token={HF_TOKEN} Authorization: Bearer {TOKEN} or {TOKEN}"


def refusing(status: int, message: str = ECHO, code: str | None = None, **headers: str) -> Callable[[], Any]:
    body = {"error": {"message": message, "type": "t", "param": None, "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: httpx2.Response(status, json=body, headers=named)


def raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


HTML = f"<html><body>{ECHO}</body></html>"
FAULTS: dict[str, Callable[[], Any]] = {
    "400": refusing(400),
    "401": refusing(401),
    "402": refusing(402),
    "403": refusing(403),
    "403, no new endpoints": refusing(403, "closed", "endpoints_v1_create_access_disabled"),
    "403, HTML": lambda: httpx2.Response(403, html=HTML),
    "404": refusing(404),
    "409": refusing(409),
    "422": refusing(422),
    "429": refusing(429, retry_after="7"),
    "500": refusing(500),
    "502, HTML": lambda: httpx2.Response(502, html=HTML),
    "503": refusing(503),
    "504": refusing(504),
    "200, HTML": lambda: httpx2.Response(200, html=HTML),
    "200, empty": lambda: httpx2.Response(200),
    "200, cut": lambda: httpx2.Response(200, content=b'{"data": [{"id": "' + URL.encode()),
    "200, no data": lambda: httpx2.Response(200, json={}),
    "200, a message": lambda: httpx2.Response(200, json={"message": ECHO}),
    "redirect": lambda: httpx2.Response(307, headers={"location": f"https://elsewhere.example/?key={TOKEN}"}),
    "no answer in time": raising(httpx2.ReadTimeout(f"{URL} {TOKEN}")),
    "connection reset": raising(httpx2.ReadError(f"{URL} {TOKEN}")),
    "no connection": raising(httpx2.ConnectError(f"{URL} {TOKEN}")),
}
# A request that did not arrive, or whose answer is no answer: what it should create may be there.
DOUBTFUL = ("500", "502, HTML", "503", "504", "200, HTML", "200, empty", "200, cut", "200, no data", "redirect",
            "no answer in time", "connection reset")  # fmt: skip
# What a wait rides out, until its time is up.
NOTHING_SAID = ("200, no data", "200, a message")
TRANSIENT = ("429", "500", "502, HTML", "503", "504", "no answer in time", "connection reset", "no connection")

# Requests that create something: none of them may go out twice.
CREATES = re.compile(r"POST .*/(models|models/uploads|upload/complete|endpoints|deployments)")


def is_ridden_out(name: str, kind: str, request: str) -> bool:
    """Whether the call goes on where this request meets this fault; everywhere else it has to end in an error."""
    match name.split(" ", 1)[1], request.partition(" "):
        case _, (_, _, path) if path.endswith("/events"):
            return True  # events decide nothing
        case "deploy" | "deploy a base" | "rehearse" | "ensure_endpoint", (_, _, path) if "validateOnly" in path:
            return kind in NOTHING_SAID  # what a dry run answers is documented nowhere
        case "deploy" | "deploy a base" | "ensure_endpoint", ("PATCH", _, _):
            return kind in (*NOTHING_SAID, "409")  # others changed the traffic: it is read anew
        case "stop" | "stop_all" | "stop for good", ("PATCH", _, path) if "/v2/" in path and "/deployments/" in path:
            return kind in (*NOTHING_SAID, "404")  # what is gone costs nothing
        case "stop for good", ("PATCH", _, path) if "/v1/" in path:
            return kind[:3] in ("400", "403", "409", "422")  # what cannot be stopped is deleted all the same
        case "stop for good", ("DELETE", _, _):
            return kind in (*NOTHING_SAID, "404")
        case _, ("PATCH" | "DELETE", _, path) if "/v2/" in path or request.startswith("DELETE"):
            return kind in NOTHING_SAID  # nothing of the answer is needed
        case "stop for good", ("GET", _, path) if "/deployments/" in path:
            return kind in NOTHING_SAID  # a state that is not told is not waited for: the service has the last word
        case "base_names", ("GET", _, path) if path.endswith("/endpoints"):
            return True  # the catalogue told a name already
        case "model" | "models", ("GET", _, path) if path.endswith("/supported-models"):
            return True  # the names of base models decide nothing
        case "model", ("GET", _, path) if path.endswith("/files"):
            return kind in ("400", "404")
        case "one_endpoint" | "attach", ("GET", _, path) if path.endswith("/adapters"):
            return kind in ("400", "404", "409", "422")  # a deployment that takes no adapters refuses the question
        case "attach", ("POST", _, path) if "/v1/" in path:
            return kind in NOTHING_SAID
        case "choose_api", _:
            return kind == "404"  # where there is no such call, there is version 1
        case "ask_ahead", _:
            return kind != "401"  # told as a note: the submission decides
        case "ensure_endpoint", ("GET", _, path):
            return "/v1/hardware" in path or "/v1/endpoints/" in path  # the price of an endpoint that is there
        case "wait_for_job", (_, _, path) if path.endswith("/revisions"):
            return kind in TRANSIENT  # the next look begins anew
    return False


def requests_of(name: str, folder: Path) -> list[str]:
    """What a call sends where nothing goes wrong, from the call's own beginning."""
    world = World()
    with world.client() as client:
        CALLS[name](world, client, folder)
    return [f"{method} {url if 'validateOnly' in url else url.partition('?')[0]}" for method, url in world.sent]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("adapter")
    return {name: requests_of(name, folder) for name in CALLS}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("name", CALLS)
def test_it_ends_in_one_sentence(name: str, kind: str, clean: dict[str, list[str]], tmp_path: Path) -> None:
    assert clean[name], "a call that sends nothing is no row of this table"
    for at, request in enumerate(clean[name]):
        world = World()
        error: LoraPackerError | None = None
        with world.client(FAULTS[kind], at) as client:
            try:
                CALLS[name](world, client, tmp_path)
            except LoraPackerError as caught:
                error = caught
        created = Counter(f"{method} {url}" for method, url in world.sent if CREATES.fullmatch(f"{method} {url}"))
        assert kind == "no connection" or max(created.values(), default=0) <= 1, created
        if error is None:
            assert is_ridden_out(name, kind, request), f"{request} met {kind}, and nothing was said"
        else:
            assert not is_ridden_out(name, kind, request), error
            check(error, kind, request, waits=waits(name, request))


def waits(name: str, request: str) -> bool:
    """Whether a look that fails is repeated until the time is up."""
    polled = {"stop for good": "/deployments/", "attach": "/adapters/"}.get(name.split(" ", 1)[1], "?")
    return name.endswith(("wait_for_job", "serve")) or (request.startswith("GET") and polled in request)


def check(error: LoraPackerError, kind: str, request: str, *, waits: bool) -> None:
    """One sentence for a person, with a next step, the exit code of the contract, and no secret anywhere."""
    assert error.exit_code == (6 if waits and kind in TRANSIENT else 5)
    assert re.match("Could not |The endpoint |The adapter |Job ", error.message)
    assert error.message.endswith(".")
    assert error.message.isprintable()
    assert len(error.message) < 900
    assert error.hint
    assert_no_secret(error, error.message, error.hint, *traceback.format_exception(error))
    doubtful = CREATES.fullmatch(request) and kind in DOUBTFUL
    if isinstance(error, ServiceError) and CREATES.fullmatch(request):
        assert error.in_doubt == bool(doubtful)
    if doubtful:
        assert re.search("may exist|Run the same command again|It may exist", error.hint), error.hint
    if request.startswith("PUT"):
        assert kind == "no connection" or "Run the same command again" in error.hint
        return
    if kind == "401":
        assert "TOGETHER_API_KEY" in error.hint
    if kind == "402":
        assert "billing" in error.hint
    if kind == "429" and not waits:
        assert "Wait 7 s" in error.hint
    if kind == "403, no new endpoints":
        assert "--api v2" in error.hint
    if kind == "redirect":
        assert "elsewhere.example" in error.message
