"""Version 1: an endpoint on the hardware that was asked for, and an end whose answer was lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from service_support import V1_ENDPOINTS
from together_support import mock_client
from v1_answers import ENDPOINT, HARDWARE

from lora_packer.errors import ServiceError
from lora_packer.sandbox.service import Service
from lora_packer.together import Client, Wanted, ensure_endpoint, v1

MODEL = "tiny/llama"


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(delay=0, faults=V1_ENDPOINTS) as running:
        yield running


def client_of(service: Service) -> Client:
    return Client(service.api_key, service.base_url, sleep=lambda _: None)


def test_an_endpoint_on_other_hardware_is_not_taken_for_it(service: Service) -> None:
    """A list of endpoints names no hardware: a look at each does."""
    with client_of(service) as client:
        other = v1.deploy(client, MODEL, Wanted(hardware="1x_nvidia_h100_80gb_sxm"))
        wanted, created = ensure_endpoint(v1, client, MODEL, Wanted(hardware="2x_nvidia_a100_80gb_sxm"))
        assert (created, wanted.hardware) == (True, "2x_nvidia_a100_80gb_sxm")
        for hardware, endpoint in (("1x_nvidia_h100_80gb_sxm", other.id), ("2x_nvidia_a100_80gb_sxm", wanted.id)):
            again, created = ensure_endpoint(v1, client, MODEL, Wanted(hardware=hardware))
            assert (created, again.id, again.hardware) == (False, endpoint, hardware)
    assert len(service.endpoints.describe_all()) == 2


def test_an_endpoint_that_cannot_be_looked_at_is_no_reason_to_pay_for_another() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/endpoints":
            assert request.method == "GET"
            return httpx2.Response(200, json={"data": [{**ENDPOINT, "hardware": None}]})
        if request.url.path == "/v1/hardware":
            return httpx2.Response(200, json=HARDWARE)
        return httpx2.Response(403, json={"error": {"message": "no", "type": "t"}})

    with mock_client(handler) as client, pytest.raises(ServiceError, match="look at endpoint"):
        ensure_endpoint(v1, client, MODEL, Wanted(hardware="2x_nvidia_a100_80gb_sxm"))


class Losing(httpx2.HTTPTransport):
    """Carries every request out, and loses the answer to the first DELETE, or has a gateway answer it."""

    def __init__(self, instead: int | None = None) -> None:
        super().__init__()
        self.instead, self.deleted = instead, 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().handle_request(request)
        self.deleted += request.method == "DELETE"
        if request.method == "DELETE" and self.deleted == 1:
            answer.close()
            if self.instead is None:
                raise httpx2.ReadError("reset")
            return httpx2.Response(self.instead)
        return answer


@pytest.mark.parametrize("instead", [None, 502, 504])
def test_an_end_whose_answer_was_lost_is_an_end(instead: int | None, service: Service) -> None:
    with client_of(service) as client:
        endpoint = v1.deploy(client, MODEL).id
    transport = Losing(instead)
    with Client(service.api_key, service.base_url, transport=transport, sleep=lambda _: None) as client:
        assert v1.stop(client, endpoint, delete=True).state == "DELETED"
    assert (transport.deleted, service.endpoints.describe_all()) == (2, [])


@pytest.mark.parametrize("before", [None, 429])
def test_what_was_never_there_is_not_told_as_deleted(before: int | None) -> None:
    answers = [*([before] if before else []), 404]
    with (
        mock_client(lambda _: httpx2.Response(answers.pop(0))) as client,
        pytest.raises(ServiceError, match="not found"),
    ):
        v1.stop(client, "endpoint-none", delete=True)


def test_one_that_could_not_be_reached_is_not_told_as_deleted() -> None:
    answers: list[Any] = [httpx2.ConnectError("refused"), httpx2.Response(404)]

    def handler(_: httpx2.Request) -> httpx2.Response:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, httpx2.Response)
        return answer

    with mock_client(handler) as client, pytest.raises(ServiceError, match="not found"):
        v1.stop(client, "endpoint-none", delete=True)


def asked_for(answer: Callable[[httpx2.Request], httpx2.Response]) -> tuple[list[str], Client]:
    """The requests that change something, and a client whose requests are answered so."""
    changes: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        if request.method != "GET":
            changes.append(request.method)
        return answer(request)

    return changes, mock_client(handler)


@pytest.mark.parametrize("status", [400, 403, 409])
def test_one_that_cannot_be_stopped_is_deleted_all_the_same(status: int) -> None:
    """What has failed or is stopped already may refuse to stop: its deletion ends the cost too."""
    changes, client = asked_for(lambda request: httpx2.Response(status if request.method == "PATCH" else 204))
    with client:
        assert v1.stop(client, "endpoint-1", delete=True).state == "DELETED"
    assert changes == ["PATCH", "DELETE"]


@pytest.mark.parametrize(
    ("refused", "last"),
    [
        ("PATCH", "Endpoint endpoint-1 may still cost money."),
        ("DELETE", "Endpoint endpoint-1 is stopped, so nothing of it costs money."),
    ],
)
@pytest.mark.parametrize("status", [400, 403, 409])
def test_the_stop_goes_out_first_and_what_may_still_cost_money_is_the_last_line(
    status: int, refused: str, last: str
) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method in (refused, "DELETE"):
            return httpx2.Response(status, json={"error": {"message": "not now", "type": "t"}})
        return httpx2.Response(200, json={**ENDPOINT, "id": "endpoint-1", "state": "STOPPED"})

    changes, client = asked_for(answer)
    with client, pytest.raises(ServiceError, match="not now") as caught:
        v1.stop(client, "endpoint-1", delete=True)
    assert changes == ["PATCH", "DELETE"]
    assert (caught.value.hint or "").splitlines()[-1] == last


def test_one_that_is_gone_once_it_was_stopped_is_deleted() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return (
            httpx2.Response(404)
            if request.method == "DELETE"
            else httpx2.Response(200, json={**ENDPOINT, "state": "STOPPED"})
        )

    changes, client = asked_for(answer)
    with client:
        assert v1.stop(client, str(ENDPOINT["id"]), delete=True).state == "DELETED"
    assert changes == ["PATCH", "DELETE"]
