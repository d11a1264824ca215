"""The vendor's SDK 3.1 and its command line as clients of the sandbox's second API, and our client against what they
send."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from builders import ROOT
from together_support import (
    BASE_MODEL,
    FILES,
    TOKEN,
    mock_client,
    presigned,
    recording,
    serving_folder,
    submission,
    zip_of,
)

from lora_packer.errors import ServiceError
from lora_packer.redact import Secret
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service
from lora_packer.sandbox.state import DEFAULT_BASE_MODELS
from lora_packer.sandbox.weights import base_id
from lora_packer.together import Asking, Client, HubRepo, Waiting, Wanted, v2
from lora_packer.together.v2.offers import offers_for
from lora_packer.together.v2.supported import base_model_id
from lora_packer.together.v2.told_models import ToldModel

FOLDER = Path(sys.prefix) / "together-3"  # where `make` puts it: beside the packages, not among them
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the vendor's SDK 3.1 is not there: `make test` installs it"
)


def environment(key: str, address: str, project: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(FOLDER),
        "TOGETHER_API_KEY": key,
        "TOGETHER_BASE_URL": address,
        "TOGETHER_PROJECT_ID": project,
        "TOGETHER_TELEMETRY_DISABLED": "1",
        "TOGETHER_DISABLE_VERSION_CHECK": "1",
    }


def run(*command: object, env: dict[str, str]) -> Any:
    done = subprocess.run([sys.executable, *map(str, command)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sdk(scenario: str, service: Service, *arguments: str) -> Any:
    root = service.base_url.removesuffix("/v1")
    env = environment(service.api_key.reveal(), root, "proj-sandbox")
    return run(ROOT / "tests" / "support" / "sdk3_client.py", scenario, *arguments, env=env)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(delay=0) as running:
        yield running


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    with serving_folder(tmp_path) as address:
        yield presigned(host=address, path="/a.zip")


def test_from_upload_to_answer_to_nothing_left(service: Service, url: str) -> None:
    found = sdk("whole", service, url, BASE_MODEL)
    answer = found.pop("answer")
    assert answer.startswith("The sandbox answers for devuser/my-endpoint")
    assert found == {
        "version": "3.1.1",
        "project": "proj-sandbox",
        "base ids": ["arch_", "ml_"],
        "profile": BASE_MODEL,
        "model": ["devuser/my-adapter", "WEIGHTS_TYPE_ADAPTER", "VISIBILITY_PRIVATE"],
        "upload": "REMOTE_UPLOAD_STATUS_SUCCEEDED",
        "uploads": [True],
        "events": ["upload.queued", "upload.running", "upload.complete"],
        "validation": "REVISION_VALIDATION_STATUS_SUCCESS",
        "prices": [390, 780],
        "no route": ["InternalServerError", 503, "no deployment of devuser/my-endpoint receives traffic"],
        "stale etag": ["ConflictError", 409, "the etag is stale: read the endpoint again"],
        "referenced": ["BadRequestError", 400, "the model is referenced by a live deployment"],
        "share": [1.0],
        "endpoints": ["devuser/my-endpoint"],
        "deployments": ["devuser/my-endpoint/my-deployment"],
        "stopped": "DEPLOYMENT_STATE_STOPPED",
        "left": [0, 0],
    }


def test_the_life_of_a_model_and_of_an_attached_adapter(service: Service, url: str) -> None:
    found = sdk("life", service, url, BASE_MODEL)
    assert found == {
        "version": "3.1.1",
        "models": ["devuser/my-adapter"],
        "model": "devuser/my-adapter",
        "base": BASE_MODEL,
        "files": sorted(FILES),
        "whole": True,
        "modes": [["dynamic"], ["disabled"]],
        "dry run": ["devuser/my-endpoint/base", 0],
        "refused": [
            ["BadRequestError", 400, "inactiveTimeout must be 0 or between 30 and 1440 minutes"],
            ["BadRequestError", 400, "minReplicas must be positive and at most maxReplicas, or both 0"],
        ],
        "timeout": 30,
        "attached": [True],
        "valid": [["ADAPTER_LOAD_STATE_READY", True]],
        "referenced": ["BadRequestError", 400, "the model is referenced by a live deployment"],
        "stale": ["ConflictError", 409, "the etag is stale: read the adapter again"],
        "endpoints": [["devuser/my-endpoint", 1]],
        "left": [0, 0],
    }


def test_lists_come_in_pages(service: Service) -> None:
    assert sdk("pages", service)["names"] == list(DEFAULT_BASE_MODELS)


def test_refusals_are_the_sdks_own_errors(service: Service, url: str) -> None:
    found = sdk("refused", service, url, BASE_MODEL)
    assert {name: error[:2] for name, error in found.items() if name != "version"} == {
        "again": ["ConflictError", 409],
        "arch": ["BadRequestError", 400],
        "no model": ["NotFoundError", 404],
        "no url": ["BadRequestError", 400],
        "no upload": ["NotFoundError", 404],
        "no project": ["PermissionDeniedError", 403],
    }


def test_the_command_line_sends_a_folder(service: Service, tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    env = environment(service.api_key.reveal(), service.base_url.removesuffix("/v1"), "proj-sandbox")
    command = (FOLDER / "bin" / "tg", "models")
    made = run(*command, "create", "mine", "--type", "adapter", "--base-model", BASE_MODEL, "--json", env=env)
    sent = run(*command, "upload", made["id"], tmp_path, "--json", env=env)
    (revision,) = service.direct.revisions(made["id"])
    assert sent == {"revisionId": revision.id}
    assert revision.refused is None


def test_the_command_line_attaches_and_removes(service: Service, tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    env = environment(service.api_key.reveal(), service.base_url.removesuffix("/v1"), "proj-sandbox")
    tg = FOLDER / "bin" / "tg"
    made = run(tg, "models", "create", "mine", "--type", "adapter", "--base-model", BASE_MODEL, "--json", env=env)
    run(tg, "models", "upload", made["id"], tmp_path, "--json", env=env)
    where = ("--endpoint", "shared", "--project", "proj-sandbox", "--non-interactive", "--traffic-weight", "1")
    deployed = run(tg, "endpoints", "deploy", made["id"], "--attach-adapter", *where, "--json", env=env)
    assert deployed["adapter"]["adapterModelId"] == made["id"]
    seen = run(tg, "endpoints", "retrieve", deployed["endpoint"]["id"], "--json", env=env)
    assert [one["id"] for one in seen["deployments"]] == [deployed["deployment"]["id"]]
    with Client(service.api_key, service.base_url, sleep=lambda _: None) as client:
        (listed,) = v2.all_endpoints(client)
        shown = v2.one_endpoint(client, "shared")
        assert listed.id == shown.id == deployed["endpoint"]["id"]
        assert [one.model for one in shown.deployments[0].adapters] == [made["id"]]
        assert v2.ask(client, "devuser/mine", "Is it you?").text.startswith("The sandbox answers for devuser/mine")
        assert v2.stop(client, shown.id, delete=True).is_stopped
    run(tg, "models", "rm", made["id"], "--json", env=env)
    assert service.models == {}


# ---- our client against what the SDK sends

ATTACHED = {
    "id": "dad_1",
    "adapterModelId": "ml_a",
    "etag": "e2",
    "perCluster": [{"clusterId": "c", "state": "ADAPTER_LOAD_STATE_READY", "adapterValid": False}],
}
PAGE = json.dumps({"object": "list", "data": [], "next_cursor": None}).encode()


def sent_by_the_sdk(url: str) -> set[tuple[str, str, str]]:
    with recording([(200, b'{"data": [], "object": "list", "files": []}')]) as (address, requests):
        run(ROOT / "tests" / "support" / "sdk3_client.py", "send", url, "", env=environment(TOKEN, address, "proj_x"))
    return {as_sent(one.method, one.path, one.body) for one in requests}


def as_sent(method: str, path: str, body: bytes) -> tuple[str, str, str]:
    """A request as it is compared: query and JSON sorted."""
    where, _, query = path.partition("?")
    content = json.dumps(json.loads(body), sort_keys=True) if body else ""
    return method, f"{where}?{'&'.join(sorted(query.split('&')))}", content


def test_our_client_sends_the_same() -> None:
    from v2_answers import CONFIG, DEPLOYMENT, ENDPOINT, INSTANCE, MODEL, SERVING, SUPPORTED, UPLOAD, P, page

    url = presigned()
    ours: list[tuple[str, str, str]] = []
    state: dict[str, Any] = {"models": [], "endpoint": ENDPOINT, "endpoints": [], "revisions": []}

    def handler(request: httpx2.Request) -> httpx2.Response:
        where = request.url.raw_path.decode()
        ours.append(as_sent(request.method, where, request.content))
        match (request.method, where.partition("?")[0].removeprefix(P)):
            case ("GET", "/v3/whoami"):
                return httpx2.Response(200, json={"project": {"id": "proj_x", "slug": "slug"}})
            case ("GET", "/v2/supported-models"):
                return httpx2.Response(200, json=page(SUPPORTED))
            case ("GET", "/models"):
                return httpx2.Response(200, json=page(*state["models"]))
            case ("POST", "/models"):
                state["models"] = [MODEL]
                return httpx2.Response(200, json=MODEL)
            case ("GET", "/models/uploads" | "/models/uploads/up-1/events"):
                return httpx2.Response(200, json=page())
            case ("GET", "/models/ml_a/revisions"):
                return httpx2.Response(200, json=page(*state["revisions"]))
            case ("GET", "/models/ml_a/files"):
                return httpx2.Response(200, json=page())
            case ("GET", "/endpoints"):
                return httpx2.Response(200, json=page(*state["endpoints"]))
            case ("GET", "/endpoints/ep_1/deployments"):
                return httpx2.Response(200, json=page(DEPLOYMENT))
            case ("GET", "/endpoints/ep_1/deployments/dep_1/adapters"):
                return httpx2.Response(200, json=page())
            case (
                "POST" | "GET",
                "/endpoints/ep_1/deployments/dep_1/adapters" | "/endpoints/ep_1/deployments/dep_1/adapters/dad_1",
            ):
                return httpx2.Response(200, json=ATTACHED)
            case ("POST" | "GET", "/models/uploads" | "/models/uploads/up-1"):
                return httpx2.Response(200, json={**UPLOAD, "status": "REMOTE_UPLOAD_STATUS_SUCCEEDED"})
            case ("GET", "/configs"):
                return httpx2.Response(200, json=page(CONFIG))
            case ("GET", "/v2/public/inference-instance-types"):
                return httpx2.Response(200, json=page(INSTANCE))
            case ("POST", "/endpoints"):
                return httpx2.Response(200, json=ENDPOINT)
            case ("POST", "/endpoints/ep_1/deployments"):
                return httpx2.Response(200, json=DEPLOYMENT)
            case ("PATCH", "/endpoints/ep_1"):
                state["endpoint"] = SERVING
                return httpx2.Response(200, json=SERVING)
            case ("GET", "/endpoints/ep_1"):
                return httpx2.Response(200, json=state["endpoint"])
            case ("POST", "/v1/chat/completions" | "/v1/completions"):
                return httpx2.Response(200, json={"choices": [{"message": {"content": "Hello"}, "text": "Hello"}]})
        return httpx2.Response(200, json={})

    with mock_client(handler) as client:
        repo: dict[str, Any] = {"source": HubRepo("org/repo"), "hf_token": Secret("hf_token")}
        v2.submit(client, submission(url, description="d"))
        v2.submit(client, submission(**repo))
        v2.job(client, "up-1")
        v2.deploy(client, "slug/my-adapter")
        state["endpoint"] = ENDPOINT
        v2.deploy(client, "slug/my-adapter", Wanted(min_replicas=2, max_replicas=4, inactive_timeout=60))
        v2.ask(client, "ep_1", "Where is it? \u2713")
        v2.ask(client, "ep_1", "Where is it? \u2713", Asking("Be kind.", 5, 0.0, logprobs=True))
        v2.ask(client, "ep_1", "Where is it?", Asking(completions=True))
        state["revisions"] = [{"revisionId": "rv_1"}]
        v2.model(client, "ml_a")
        v2.delete_model(client, "ml_a")
        state["endpoints"] = [SERVING]
        v2.all_endpoints(client)
        with pytest.raises(ServiceError, match="not served"):
            v2.attach(client, "ml_a", "ep_1", waiting=Waiting(timedelta(0)))
        v2.stop(client, "ep_1", delete=True)
    theirs = sent_by_the_sdk(url)
    assert set(ours) - theirs == set(), "ours that the SDK does not send"
    assert theirs - set(ours) == set(), "the SDK's that we do not send"


@pytest.mark.parametrize("search", ["deep", "shallow"])
@pytest.mark.parametrize(
    "name",
    [
        "Qwen/Qwen3.5-9B",
        "Qwen/Qwen3.5-9B-FP8",  # of the same supported model, with weights of its own
        "mistralai/Mixtral-8x7B-Instruct-v0.1",  # no base is linked
        BASE_MODEL,
    ],
)
def test_a_base_model_is_the_one_that_the_vendors_command_line_takes(name: str, search: str) -> None:
    with Service(delay=0, faults=Faults(shallow_search=search == "shallow")) as service:
        with Client(service.api_key, service.base_url) as client:
            ours = base_model_id(client, name)
        if search == "shallow" and name.endswith("FP8"):
            return  # the vendor's does not find it then
        env = environment(service.api_key.reveal(), service.base_url.removesuffix("/v1"), "proj-sandbox")
        tg = (FOLDER / "bin" / "tg", "models", "create", "mine", "--type", "adapter", "--base-model", name, "--json")
        assert run(*tg, env=env)["baseModelId"] == ours
    assert ours == base_id(name)


@pytest.mark.parametrize("name", ["Qwen/Qwen3.5-9B-FP8", "mistralai/Mixtral-8x7B-Instruct-v0.1"])
def test_an_adapter_of_any_weights_has_configurations(name: str) -> None:
    with Service(delay=0) as service, Client(service.api_key, service.base_url) as client:
        made = ToldModel("ml_a", base_id=base_model_id(client, name))
        offers = offers_for(client, made)
    suffix = base_id(name).removeprefix("ml_")
    assert [path for _, path in offers] == [f"projects/proj-catalogue/configs/cr_{suffix}_{count}" for count in (1, 2)]
    assert [offer.cents_per_minute for offer, _ in offers] == [6.5, 13.0]
