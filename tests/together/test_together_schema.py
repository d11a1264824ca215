"""Every request and every answer of version 1, ours and the sandbox's, against the service's own specification."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from builders import ROOT
from together_calls import CALLS, MODEL, URL, World
from together_support import BASE_MODEL
from v1_answers import CREATED_IN_SPEC, CREATED_ON_PAGE, JOB_IN_SPEC, JOB_ON_PAGE


def with_null(value: Any) -> Any:
    """``nullable`` of OpenAPI 3.0, which the specification still uses, as JSON Schema has it."""
    if isinstance(value, list):
        return [with_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: with_null(item) for key, item in value.items()}
    return {**found, "type": [found["type"], "null"]} if found.get("nullable") and "type" in found else found


SPECIFICATION = with_null(json.loads((ROOT / "fixtures" / "together-openapi" / "openapi.json").read_text()))
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in SPECIFICATION["paths"].items()
    for method, operation in methods.items()
}

# Answers that are not those of the specification, and who else says that the service answers so.
PAGE = "the examples of docs.together.ai/docs/dedicated-endpoints/v1/adapter"
DEVIATIONS = {
    "POST /models 200: 'data' is a required property": "a comment in together 2.42.0, lib/cli/api/models/upload.py",
    "POST /models 200: 'model_id' is a required property": PAGE,
    "GET /jobs/{jobId} 200: 'args' is a required property": PAGE,
    "GET /jobs/{jobId} 200: 'created_at' is a required property": PAGE,
    "GET /jobs/{jobId} 200: 'updated_at' is a required property": PAGE,
    "GET /jobs/{jobId} 200: 'Processing' is not one of ['Queued', 'Running', 'Complete', 'Failed']": "that page's "
    "troubleshooting section",
    "POST /models 400": "docs.together.ai/docs/error-codes",
    "POST /models 422": "docs.together.ai/docs/error-codes",
    "GET /hardware 404": "docs.together.ai/docs/error-codes",
    "GET /jobs/{jobId} 404": "docs.together.ai/docs/error-codes",
    "POST /endpoints 400": "docs.together.ai/docs/error-codes",
    "POST /endpoints 422": "docs.together.ai/docs/error-codes",
    "PATCH /endpoints/{endpointId} 422": "docs.together.ai/docs/error-codes",
    "POST /chat/completions 422": "docs.together.ai/docs/error-codes",
}
# What the specification does not have: whose the key is (together 3.1.1, resources/), and adapters that are attached
# (docs.together.ai/docs/dedicated-endpoints/lora-adapter).
ELSEWHERE = re.compile(r"/v3/whoami|/v1/endpoints/[^/]+/adapters")
ERROR_DATA = {"$ref": "#/components/schemas/ErrorData"}


def operation_of(request: httpx2.Request) -> str:
    """``GET /jobs/{jobId}``, as the specification names it."""
    path = request.url.path.removeprefix("/v1")
    for name in OPERATIONS:
        method, _, template = name.partition(" ")
        if method == request.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return name
    raise AssertionError(f"{request.method} {path} is not in the specification")


def complaints(value: Any, schema: dict[str, Any]) -> list[str]:
    """What is wrong with a value: what the schema forbids, and what it does not name."""
    whole = {**schema, "components": SPECIFICATION["components"]}
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    found = jsonschema.Draft202012Validator(whole, format_checker=checker).iter_errors(value)
    return [error.message for error in found] + [f"{name} is not in the schema" for name in unnamed(value, schema)]


def unnamed(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    while "$ref" in schema:
        schema = SPECIFICATION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for item in value:
            yield from unnamed(item, schema.get("items", {}))
    if isinstance(value, dict) and "properties" in schema:
        for name, item in value.items():
            if name not in schema["properties"]:
                yield name
            else:
                yield from unnamed(item, schema["properties"][name])


def schema_in(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["content"]["application/json"]["schema"]
    return found


def judge_request(request: httpx2.Request) -> list[str]:
    operation = OPERATIONS[operation_of(request)]
    named = {one["name"]: one["schema"] for one in operation.get("parameters", []) if one["in"] == "query"}
    found = [f"{name} is not a parameter" for name in request.url.params if name not in named]
    for name, value in request.url.params.items():
        typed = {"true": True, "false": False}.get(value, value)
        found += complaints(typed, named.get(name, {}))
    assert bool(request.content) == ("requestBody" in operation)
    return found + (
        complaints(json.loads(request.content), schema_in(operation["requestBody"])) if request.content else []
    )


def judge_answer(name: str, status: int, body: Any) -> list[str]:
    """What deviates in an answer, each by the name that it has in ``DEVIATIONS``."""
    documented = OPERATIONS[name]["responses"].get(str(status))
    if documented is None:
        return [f"{name} {status}", *complaints(body, ERROR_DATA)]
    if "content" not in documented:
        return [] if body is None else [f"{name} {status}: has a body"]
    return [f"{name} {status}: {one}" for one in complaints(body, schema_in(documented))]


class Watched(World):
    """A world that keeps every request and its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[tuple[httpx2.Request, httpx2.Response]] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        answer = super().answer(request)
        if not ELSEWHERE.fullmatch(request.url.path):
            self.exchanges.append((request, answer))
        return answer


def judge(world: Watched) -> Iterator[str]:
    for request, answer in world.exchanges:
        body = answer.json() if answer.content else None
        yield from judge_answer(operation_of(request), answer.status_code, body)


@pytest.mark.parametrize("name", [name for name in CALLS if name.startswith("v1") and "choose_api" not in name])
def test_what_we_send_and_what_the_sandbox_answers(name: str, tmp_path: Path) -> None:
    world = Watched()
    with world.client() as client:
        CALLS[name](world, client, tmp_path)
    assert world.exchanges
    assert [judge_request(request) for request, _ in world.exchanges] == [[]] * len(world.exchanges)
    assert list(judge(world)) == []


def test_every_operation_of_the_specification_is_used(tmp_path: Path) -> None:
    used = set()
    for name in CALLS:
        if name.startswith("v1"):
            world = Watched()
            with world.client() as client:
                CALLS[name](world, client, tmp_path)
            used |= {operation_of(request) for request, _ in world.exchanges}
    assert used == set(OPERATIONS)


SUBMISSION = {"model_name": "a", "model_source": URL, "model_type": "adapter", "base_model": BASE_MODEL}
ENDPOINT = {
    "model": MODEL,
    "hardware": "1x_nvidia_h100_80gb_sxm",
    "autoscaling": {"min_replicas": 1, "max_replicas": 1},
}
QUESTION = {"model": "tiny/none", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/models", {**SUBMISSION, "model_name": "uploaded"}, 200),
        ("POST", "/models", {**SUBMISSION, "base_model": "org/none"}, 400),
        ("POST", "/models", {**SUBMISSION, "model_name": 7}, 422),
        ("GET", "/jobs/job-none", None, 404),
        ("GET", "/hardware?model=org%2Fnone", None, 404),
        ("POST", "/endpoints", {**ENDPOINT, "hardware": "none"}, 400),
        ("POST", "/endpoints", {**ENDPOINT, "state": "ON"}, 422),
        ("GET", "/endpoints/endpoint-none", None, 404),
        ("PATCH", "/endpoints/endpoint-none", {"state": "STOPPED"}, 404),
        ("PATCH", "/endpoints/endpoint-none", {"state": "ON"}, 422),
        ("DELETE", "/endpoints/endpoint-none", None, 404),
        ("POST", "/chat/completions", QUESTION, 400),
        ("POST", "/chat/completions", {**QUESTION, "messages": "x"}, 422),
    ],
)
def test_what_the_sandbox_refuses(method: str, path: str, body: Any, status: int) -> None:
    world = Watched()
    answer = world.answer(httpx2.Request(method, f"https://service.example/v1{path}", json=body))
    assert answer.status_code == status
    assert [one for one in judge(world) if one not in DEVIATIONS] == []


def test_a_job_that_stands_still_is_in_a_state_of_the_page() -> None:
    world = Watched()
    with world.client() as client:
        job = CALLS["v1: submit"](world, client, Path())
    world.service.jobs.join()
    world.exchanges.clear()
    world.answer(httpx2.Request("GET", f"https://service.example/v1/jobs/{job.id}"))  # type: ignore[attr-defined]
    (only,) = judge(world)
    assert only in DEVIATIONS


EXAMPLES: list[tuple[str, Any, int]] = [
    ("POST /models", CREATED_ON_PAGE, 1),
    ("POST /models", CREATED_IN_SPEC, 0),
    ("GET /jobs/{jobId}", JOB_ON_PAGE, 3),
    ("GET /jobs/{jobId}", JOB_IN_SPEC, 0),
    ("GET /jobs/{jobId}", {**JOB_IN_SPEC, "status": "Processing"}, 1),
    ("POST /models", {"message": "Model name already exists"}, 1),
]


def test_the_examples_deviate_as_listed_and_the_list_is_no_longer_than_that() -> None:
    found = set()
    for name, body, count in EXAMPLES:
        deviations = judge_answer(name, 200, body)
        assert len(deviations) == count
        found |= set(deviations)
    assert found == {name for name in DEVIATIONS if ": " in name}
    for name in set(DEVIATIONS) - found:
        operation, _, status = name.rpartition(" ")
        assert status not in OPERATIONS[operation]["responses"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body.pop("model_name"), "'model_name' is a required property"),
        (lambda body: body.update(model_type="lora"), "'lora' is not one of ['model', 'adapter']"),
        (lambda body: body.update(model_name=5), "5 is not of type 'string'"),
        (lambda body: body.update(allow_unsupported=True), "allow_unsupported is not in the schema"),
    ],
)
def test_this_test_can_fail(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    body: dict[str, Any] = dict(SUBMISSION)
    change(body)
    assert judge_request(httpx2.Request("POST", "https://service.example/v1/models", json=body)) == [said]
