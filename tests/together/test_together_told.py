"""What the service leaves out of an answer, or writes in another form, is a sentence that names the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from together_support import BASE_MODEL, mock_client
from v2_answers import CONFIG, DEPLOYMENT, ENDPOINT, INSTANCE, MODEL, SERVING, SUPPORTED, UPLOAD, page

from lora_packer.errors import LoraPackerError, ServiceError
from lora_packer.together import Client, v1, v2
from lora_packer.together.asking import Asking

Look = Callable[[Client], object]


def answering(*answers: Any) -> Client:
    """A client that gets these answers, the last one for ever."""
    left = list(answers)
    return mock_client(
        lambda _: httpx2.Response(200, json=left.pop(0) if len(left) > 1 else left[0]), project_id="proj_x"
    )


def without(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != name}


def look(client: Client) -> object:
    return v2.endpoint(client, "ep_1")


def listing(client: Client) -> object:
    return v2.to_stop(client, "my-adapter")


def rehearse(client: Client) -> object:
    return v2.rehearse(client, "my-adapter")


@pytest.mark.parametrize(
    ("call", "answers", "says"),
    [
        (look, [without(ENDPOINT, "id")], "describes an endpoint whose 'id' is missing"),
        (look, [{**ENDPOINT, "id": 5}], "describes an endpoint whose 'id' is no id"),
        (look, [{**ENDPOINT, "id": "a b"}], "describes an endpoint whose 'id' is no id"),
        (look, [without(ENDPOINT, "name")], "describes an endpoint whose 'name' is missing"),
        (look, [{**ENDPOINT, "deployments": {"id": "dep_1"}}], "whose 'deployments' is no list of objects"),
        (look, [{**ENDPOINT, "deployments": ["dep_1"]}], "whose 'deployments' is no list of objects"),
        (look, [{**ENDPOINT, "deployments": [without(DEPLOYMENT, "id")]}], "a deployment whose 'id' is missing"),
        (look, [{**SERVING, "trafficSplit": 5}], "whose 'trafficSplit' is no list of objects"),
        (look, [{**SERVING, "trafficSplit": [{"weight": 1}]}], "traffic whose 'deploymentId' is missing"),
        (look, [[]], "describes an endpoint whose 'id' is missing"),
        (listing, [page(without(ENDPOINT, "id"))], "list the endpoints: .* an endpoint whose 'id' is missing"),
        (listing, [page(ENDPOINT), page(without(MODEL, "id"))], "list the models: .* a model whose 'id' is missing"),
        (rehearse, [page(MODEL), page(without(CONFIG, "id"))], "a configuration whose 'id' is missing"),
        (rehearse, [page(MODEL), page({**CONFIG, "projectId": 7})], "a configuration whose 'projectId' is no id"),
        # Each endpoint is named by its id in a rehearsal: one without had been a traceback.
        (
            rehearse,
            [page(MODEL), page(CONFIG), page(INSTANCE), page(without(ENDPOINT, "id"))],
            "an endpoint whose 'id' is missing",
        ),
        (lambda client: v2.job(client, "up-1"), [without(UPLOAD, "status")], "names no status"),
        (lambda client: v2.find(client, "my-adapter"), [page(MODEL), page(without(UPLOAD, "id"))], "an import whose"),
        (lambda client: v2.hosts(client, BASE_MODEL), [{"data": {}}], "lists nothing"),
        (lambda client: v1.endpoint(client, "endpoint-1"), [{"id": "endpoint-1"}], "its 'id' or its 'state'"),
        (lambda client: v1.to_stop(client, "m"), [[{"name": "m"}]], "lists an endpoint whose 'id' is missing"),
    ],
)  # fmt: skip
def test_a_field_that_is_missing_or_of_another_type_is_named(call: Look, answers: list[Any], says: str) -> None:
    with answering(*answers) as client, pytest.raises(ServiceError, match=says) as told:
        call(client)
    assert told.value.exit_code == 5
    assert "TOGETHER_BASE_URL" in (told.value.hint or "")


def test_what_decides_nothing_is_read_leniently() -> None:
    odd = {**ENDPOINT, "etag": 5, "deployments": [{**DEPLOYMENT, "status": [], "autoscaling": "x", "hardware": {}}]}
    with answering(odd) as client:
        found = v2.endpoint(client, "ep_1")
    assert (found.state, found.hardware, found.min_replicas) == ("READY", None, None)
    with answering(page({**SUPPORTED, "deploymentProfiles": [None, 3, {}], "serverlessEndpoint": []})) as client:
        assert v2.hosts(client, BASE_MODEL)


@pytest.mark.parametrize(
    "path", ["projects/x y/configs/c", "projects/x/configs/c?a=b", "projects/../configs/..", "a", 5]
)
def test_a_path_of_the_service_is_no_address(path: Any) -> None:
    """What it tells goes into no address unless it has the form of an id."""
    asked: list[str] = []
    endpoint = {**ENDPOINT, "deployments": [{**DEPLOYMENT, "id": f"dep_{at}", "config": path} for at in (1, 2)]}

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        if request.url.path.endswith("/models"):
            return httpx2.Response(200, json=page(MODEL))
        return httpx2.Response(200, json=endpoint if "/endpoints" in request.url.path else page())

    with mock_client(handler, project_id="proj_x") as client, pytest.raises(LoraPackerError):
        v2.attach(client, "my-adapter", "ep_1")
    assert not any("/configs/" in one for one in asked)


@pytest.mark.parametrize("number", [10**400, True, "1", None])
def test_logarithms_that_are_none_are_left_out(number: Any) -> None:
    told = {"choices": [{"message": {"content": "Hello"}, "logprobs": {"token_logprobs": [-1.5, number]}}]}
    with answering(told) as client:
        assert v1.ask(client, "m", "Hi", Asking(logprobs=True)).logprobs is None
