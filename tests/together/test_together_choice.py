"""Which version of the API is spoken: what was asked for, a receipt, an id, and at last whether the key has a project."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from together_support import mock_client

from lora_packer.errors import ServiceError
from lora_packer.together import APIS, CHOICES, choose_api, option
from lora_packer.together.v2.project import project_path, qualified

PROJECT = {
    "type": "project_api_key",
    "api_key": {"id": "key"},
    "organization": {"id": "org"},
    "project": {"id": "proj_1", "slug": "mine"},
}
NONE = {"type": "org_api_key", "api_key": {"id": "key"}, "organization": {"id": "org"}}


def answering(*answers: tuple[int, Any]) -> tuple[Any, list[str]]:
    """A client whose requests are answered so, one after the other (the last again and again), and what was asked."""
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        status, body = answers[min(len(asked), len(answers)) - 1]
        return httpx2.Response(status, json=body)

    return mock_client(handler), asked


@pytest.mark.parametrize(
    ("answer", "name", "said"),
    [
        ((200, PROJECT), "v2", "the key is one of the project mine"),
        ((200, {"project_id": "proj_1", "project_slug": "mine"}), "v2", "the key is one of the project mine"),
        ((200, {"project": {"id": "proj_1"}}), "v2", "project proj_1"),
        ((200, NONE), "v1", "the key has no project"),
        ((200, {**NONE, "project": None}), "v1", "the key has no project"),
        ((404, {"error": {"message": "not found"}}), "v1", "the key has no project"),
    ],
)
def test_the_key_decides(answer: tuple[int, Any], name: str, said: str) -> None:
    client, asked = answering(answer)
    choice = choose_api(client)
    assert (choice.name, choice.api) == (name, APIS[name])
    assert said in str(choice)
    assert ("ends with 2026" in str(choice)) == (name == "v1")
    assert "\n" not in str(choice)
    assert asked == ["/v3/whoami"]


def test_the_project_is_asked_for_once() -> None:
    client, asked = answering((200, PROJECT))
    choose_api(client)
    choose_api(client)
    assert project_path(client, "models") == "/v2/projects/proj_1/models"
    assert qualified(client, "endpoint") == "mine/endpoint"
    assert asked == ["/v3/whoami"]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"asked": "v1"}, "v1"),
        ({"asked": "v2"}, "v2"),
        ({"asked": "v1", "earlier": "v2", "thing": "ep_1"}, "v1"),
        ({"earlier": "v1"}, "v1"),
        ({"earlier": "v1", "thing": "ml_1"}, "v1"),
        ({"thing": "ml_1"}, "v2"),
        ({"thing": "job_1"}, "v2"),
        ({"thing": "job-1"}, "v1"),
        ({"thing": "ep_1"}, "v2"),
        ({"thing": "endpoint-1"}, "v1"),
    ],
)
def test_what_was_asked_for_a_receipt_and_an_id_decide_without_a_question(given: dict[str, Any], name: str) -> None:
    client, asked = answering((500, {}))
    assert choose_api(client, **given).name == name
    assert asked == []


@pytest.mark.parametrize("given", [{"thing": "someone/model"}, {"earlier": "v9"}, {"earlier": 2}, {"earlier": None}])
def test_what_decides_nothing_leaves_it_to_the_key(given: dict[str, Any]) -> None:
    client, _ = answering((200, PROJECT))
    assert choose_api(client, **given).name == "v2"


def test_a_project_of_the_environment_needs_no_question() -> None:
    client = mock_client(lambda _: httpx2.Response(500), project_id="proj_9")
    assert "TOGETHER_PROJECT_ID names the project proj_9" in str(choose_api(client))


@pytest.mark.parametrize(
    "answer", [(500, {}), (403, {"message": "no"}), (200, {}), (200, []), (200, {"message": "no"})]
)
def test_what_is_not_known_is_not_guessed(answer: tuple[int, Any]) -> None:
    client, _ = answering(answer)
    with pytest.raises(ServiceError) as caught:
        choose_api(client)
    assert "find the project of this key" in caught.value.message
    assert "Or say which version of the API to use: --api v1 or --api v2" in str(caught.value.hint)


def test_a_refused_key_is_told_as_that() -> None:
    client, _ = answering((401, {"error": {"message": "Invalid API key provided"}}))
    with pytest.raises(ServiceError) as caught:
        choose_api(client)
    assert "TOGETHER_API_KEY" in str(caught.value.hint)


def test_a_command_names_the_version_where_nothing_else_tells_it() -> None:
    assert option("v2", "job_1") == option("v1", "job-1") == option("v2", "ep_1") == ""
    assert option("v2", "job-1") == option("v2") == " --api v2"
    assert option("v1", "1234") == " --api v1"
    assert set(APIS) | {"auto"} == set(CHOICES)
