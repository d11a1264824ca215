"""Version 1's hardware, endpoints and chat: the requests as the vendor's SDK sends them, the answers, the wait."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import together
from service_support import V1_ENDPOINTS
from together_support import HF_TOKEN, TOKEN, FakeTime, assert_no_secret, mock_client, recording
from v1_answers import ENDPOINT, HARDWARE

from lora_packer.errors import InputError, ServiceError, WaitTimeoutError
from lora_packer.redact import Secret
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service
from lora_packer.together import Client, Endpoint, Hardware, Wanted, choose_hardware, ensure_endpoint, serve, v1

MODEL = "tiny/llama"

CHAT = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": MODEL,
    "prompt": [],
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris."}}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
}


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(delay=0, faults=V1_ENDPOINTS) as running:
        yield running


def client_of(service: Service) -> Client:
    return Client(service.api_key, service.base_url, sleep=lambda _: None)


def sdk_of(service: Service) -> Any:
    return together.Together(api_key=service.api_key.reveal(), base_url=service.base_url, max_retries=0)


# ---- the vendor's SDK


def test_the_sdk_sends_the_same() -> None:
    answers = [HARDWARE, ENDPOINT, ENDPOINT, {"object": "list", "data": []}, ENDPOINT, ENDPOINT, ENDPOINT, CHAT]
    encoded = [(200, json.dumps(answer).encode()) for answer in answers]
    endpoint_id = ENDPOINT["id"]
    with (
        recording(encoded) as (address, theirs),
        together.Together(api_key=TOKEN, base_url=address + "/v1", max_retries=0) as sdk,
    ):
        sdk.endpoints.list_hardware(model=MODEL)
        sdk.endpoints.create(
            model=MODEL,
            hardware="2x_nvidia_a100_80gb_sxm",
            autoscaling={"min_replicas": 1, "max_replicas": 1},
            display_name="mine",
            state="STARTED",
        )
        sdk.endpoints.retrieve(endpoint_id)
        sdk.endpoints.list(type="dedicated", mine=True)
        sdk.endpoints.update(endpoint_id, state="STOPPED")
        sdk.endpoints.update(endpoint_id, state="STOPPED")
        sdk.endpoints.delete(endpoint_id)
        sdk.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "Where is it? ✓"}], max_tokens=128
        )
    with recording(encoded) as (address, ours), Client(Secret(TOKEN), address + "/v1") as client:
        v1.deploy(client, MODEL, Wanted(name="mine"))
        v1.endpoint(client, endpoint_id)
        v1.endpoints(client, MODEL)
        v1.stop(client, endpoint_id)
        v1.stop(client, endpoint_id, delete=True)
        v1.ask(client, MODEL, "Where is it? ✓")
    assert len(ours) == len(theirs) == 8
    for our, their in zip(ours, theirs, strict=True):
        assert our.method == their.method
        assert httpx2.URL(our.path).path == httpx2.URL(their.path).path
        assert sorted(httpx2.URL(our.path).params.items()) == sorted(httpx2.URL(their.path).params.items())
        assert bool(our.body) == bool(their.body)
        if our.body:
            assert our.json == their.json
        assert our.headers["authorization"] == their.headers["authorization"]


def test_the_sdk_deploys_asks_and_stops(service: Service) -> None:
    with sdk_of(service) as sdk:
        offers = sdk.endpoints.list_hardware(model=MODEL).data
        assert {offer.availability.status for offer in offers} == {"available", "unavailable", "insufficient"}
        assert all(offer.availability is None for offer in sdk.endpoints.list_hardware().data)
        created = sdk.endpoints.create(
            model=MODEL, hardware=offers[0].id, autoscaling={"min_replicas": 1, "max_replicas": 2}
        )
        assert (created.state, created.owner, created.autoscaling.max_replicas) == ("PENDING", "devuser", 2)
        found = sdk.endpoints.retrieve(created.id)
        assert (found.state, found.id, found.model) == ("STARTED", created.id, MODEL)
        assert [one.id for one in sdk.endpoints.list(type="dedicated", mine=True).data] == [created.id]
        assert sdk.endpoints.list(type="serverless").data == []
        for name in (MODEL, found.name):
            answer = sdk.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hello"}])
            assert name in answer.choices[0].message.content
            assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert sdk.endpoints.update(created.id, display_name="b", state="STOPPED").display_name == "b"
        assert sdk.endpoints.retrieve(created.id).state == "STOPPED"
        with pytest.raises(together.BadRequestError, match="non-serverless"):
            sdk.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
        sdk.endpoints.delete(created.id)
        with pytest.raises(together.NotFoundError):
            sdk.endpoints.retrieve(created.id)


def test_the_sdk_meets_the_closed_door() -> None:
    with (
        Service(delay=0, faults=Faults()) as service,
        sdk_of(service) as sdk,
        pytest.raises(together.PermissionDeniedError) as caught,
    ):
        sdk.endpoints.create(
            model=MODEL, hardware="1x_nvidia_h100_80gb_sxm", autoscaling={"min_replicas": 1, "max_replicas": 1}
        )
    assert caught.value.body["error"]["code"] == "endpoints_v1_create_access_disabled"  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/endpoints", {}, 400),
        ("/endpoints", {"model": MODEL, "hardware": "none", "autoscaling": {}}, 400),
        ("/endpoints", {"model": "org/none", "hardware": "1x_nvidia_h100_80gb_sxm", "autoscaling": {"a": 1}}, 400),
        ("/endpoints", {"model": MODEL, "hardware": "1x_nvidia_h100_80gb_sxm", "autoscaling": {"a": 1}}, 422),
        ("/endpoints", {"model": 5}, 422),
        ("/chat/completions", {"model": MODEL, "messages": []}, 400),
        ("/chat/completions", {"model": MODEL, "messages": "x"}, 422),
        ("/chat/completions", {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}, 400),
    ],
)
def test_bodies_that_are_refused(path: str, body: Any, status: int, service: Service) -> None:
    headers = {"Authorization": f"Bearer {service.api_key.reveal()}"}
    answer = httpx2.post(service.base_url + path, json=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert service.endpoints.describe_all() == []


# ---- our client against the sandbox


def test_from_hardware_to_stopped(service: Service) -> None:
    with client_of(service) as client:
        offers = v1.hardware(client, MODEL)
        assert [offer.cents_per_minute for offer in offers] == [4.5, 6.5, 9.0, 66.0]
        endpoint = v1.deploy(client, MODEL, Wanted(name="mine"))
        assert endpoint.hardware == "1x_nvidia_h100_80gb_sxm"  # the cheapest is not to be had
        assert endpoint.cost == (
            f"costs $3.90 an hour (6.5 cents a minute) for each replica until `lora-packer stop {endpoint.id}`"
        )
        assert v1.endpoint(client, endpoint.id).is_serving
        for name in (MODEL, endpoint.id):
            answer = v1.ask(client, name, "Is it you?")
            assert answer.text.startswith(f"The sandbox answers for {MODEL}")
            assert (answer.model, answer.finish_reason) == (MODEL, "stop")
        assert v1.endpoints(client, MODEL)[0].id == endpoint.id
        assert v1.endpoints(client, "org/other") == ()
        stopped = v1.stop(client, endpoint.id)
        assert stopped.is_stopped
        assert "nothing of it costs money" in stopped.cost
        assert v1.endpoints(client, MODEL) == ()
        assert v1.stop(client, endpoint.id, delete=True).is_stopped
        with pytest.raises(ServiceError, match="not found"):
            v1.stop(client, endpoint.id)


def test_an_endpoint_is_not_paid_for_twice(service: Service) -> None:
    with client_of(service) as client:
        first, created = ensure_endpoint(v1, client, MODEL)
        again, created_again = ensure_endpoint(v1, client, MODEL)
        assert (created, created_again) == (True, False)
        assert (again.id, again.cents_per_minute) == (first.id, 6.5)
        v1.stop(client, first.id)
        assert ensure_endpoint(v1, client, MODEL)[1] is True


@pytest.mark.parametrize("model", ["", "a b", "../x", "x" * 300, "https://b.example/?X-Amz-Signature=1"])
def test_names_that_are_none(model: str, service: Service) -> None:
    with client_of(service) as client:
        calls: list[Callable[[], object]] = [
            lambda: v1.hardware(client, model),
            lambda: v1.ask(client, model, "?"),
            lambda: v1.endpoint(client, model),
            lambda: v1.stop(client, model),
        ]
        for call in calls:
            with pytest.raises(InputError):
                call()


def test_the_closed_door_names_the_way_out() -> None:
    with (
        Service(delay=0, faults=Faults(v1_endpoints_closed=True)) as service,
        client_of(service) as client,
        pytest.raises(ServiceError) as caught,
    ):
        v1.deploy(client, MODEL)
    assert caught.value.status == 403
    assert "endpoints_v1_create_access_disabled" in caught.value.message
    assert "version 2" in (caught.value.hint or "")


# ---- answers as they may come


def answering(body: Any, status: int = 200) -> Client:
    return mock_client(lambda _: httpx2.Response(status, json=body))


@pytest.mark.parametrize(
    ("call", "bodies"),
    [
        (lambda client: v1.hardware(client, MODEL), [{}, {"data": None}, "x", 5]),
        (lambda client: v1.endpoint(client, "endpoint-1"), [{}, [], {"id": "x"}, {"id": "", "state": "STARTED"}]),
        (lambda client: v1.endpoints(client, MODEL), [{}, {"data": {}}]),
        (
            lambda client: v1.ask(client, MODEL, "?"),
            [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": {"content": None}}]}, []],
        ),
    ],
)
def test_a_success_without_what_was_asked_for(call: Callable[[Client], object], bodies: list[Any]) -> None:
    for body in bodies:
        with answering(body) as client, pytest.raises(ServiceError) as caught:
            call(client)
        assert caught.value.exit_code == 5


def test_hardware_is_read_leniently() -> None:
    data = [
        {"id": "b", "pricing": {"cents_per_minute": "7"}, "specs": None},
        {"id": "a", "pricing": None, "availability": "x"},
        {"pricing": {"cents_per_minute": 1}},
        {"id": "c", "pricing": {"cents_per_minute": -3}},
        None,
    ]
    with answering({"data": data}) as client:
        found = v1.hardware(client, MODEL)
    assert found == (Hardware("a"), Hardware("c"), Hardware("b", cents_per_minute=7.0))


def test_an_answer_cannot_drive_the_terminal_or_show_a_secret() -> None:
    said = f"one\x1b[2J\ntwo {TOKEN} {HF_TOKEN}"
    with answering({"choices": [{"message": {"content": said}}]}) as client:
        answer = v1.ask(client, MODEL, "?")
    assert_no_secret(answer)
    assert answer.text.splitlines()[0] == "one\\x1b[2J"
    assert (answer.model, answer.tokens) == (MODEL, None)


def test_a_deployment_goes_out_once() -> None:
    sent: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.method)
        if request.method == "GET":
            return httpx2.Response(200, json=HARDWARE)
        raise httpx2.ReadTimeout("")

    with mock_client(handler) as client, pytest.raises(ServiceError) as caught:
        v1.deploy(client, MODEL)
    assert sent == ["GET", "POST"]
    assert "may exist, and cost money" in (caught.value.hint or "")


OFFERS = (
    Hardware("dear", cents_per_minute=9.0, availability="available"),
    Hardware("cheap", cents_per_minute=1.0, availability="unavailable"),
    Hardware("secret"),
)


def test_hardware_is_chosen_by_price_among_what_can_be_had() -> None:
    assert choose_hardware(OFFERS, None, MODEL).id == "dear"
    assert choose_hardware(OFFERS[1:], None, MODEL).id == "secret"
    assert choose_hardware(OFFERS, "cheap", MODEL).id == "cheap"  # as told
    with pytest.raises(InputError, match="dear, cheap, secret"):
        choose_hardware(OFFERS, "none", MODEL)
    for offers, said in [((), "none"), (OFFERS[1:2], "taken")]:
        with pytest.raises(ServiceError, match=said):
            choose_hardware(offers, None, MODEL)


# ---- the wait


def run_serve(states: list[Any], timeout: float = 3600.0) -> tuple[Any, list[str]]:
    time, changes = FakeTime(), list[str]()
    asked = 0

    def handler(_: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        state = states[min(asked, len(states) - 1)]
        asked += 1
        if isinstance(state, int):
            return httpx2.Response(state)
        return httpx2.Response(200, json={**ENDPOINT, "state": state})

    with mock_client(handler, FakeTime()) as client:
        try:
            ended: Any = serve(
                v1,
                client,
                Endpoint("endpoint-1", MODEL, "PENDING", cents_per_minute=5.0),
                timeout=timedelta(seconds=timeout),
                on_change=lambda endpoint: changes.append(endpoint.state),
                sleep=time.sleep,
                clock=time.clock,
            )
        except (ServiceError, WaitTimeoutError) as error:
            ended = error
    return ended, changes


def test_wait_until_it_serves() -> None:
    ended, changes = run_serve(["PENDING", "PENDING", 200, "STARTING", "started"])
    assert ended.is_serving
    assert ended.cents_per_minute == 5.0
    assert changes == ["PENDING", "STARTING", "STARTED"]


@pytest.mark.parametrize("state", ["ERROR", "STOPPED", "STOPPING"])
def test_an_endpoint_that_will_not_serve(state: str) -> None:
    ended, _ = run_serve(["PENDING", state])
    assert isinstance(ended, ServiceError)
    assert state in ended.message
    assert "lora-packer stop endpoint-" in (ended.hint or "")


@pytest.mark.parametrize("state", ["PENDING", "PROVISIONING", "Anything"])
def test_an_endpoint_that_takes_too_long_still_costs(state: str) -> None:
    ended, _ = run_serve([state], timeout=60)
    assert isinstance(ended, WaitTimeoutError)
    assert "costs $3.00 an hour" in (ended.hint or "")
    assert "lora-packer stop endpoint-" in (ended.hint or "")
