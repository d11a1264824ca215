"""Every call of both APIs, and a service in this process to make them of: what tests of every request begin with."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

import httpx2
from together_support import BASE_MODEL, HF_TOKEN, FakeTime, local_files, mock_client, presigned, submission

from lora_packer import together
from lora_packer.redact import Secret
from lora_packer.sandbox import v2_models
from lora_packer.sandbox.answers import Refused, Request
from lora_packer.sandbox.catalogue import configurations, model_path
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.jobs import JobRecord, Jobs
from lora_packer.sandbox.service import Service, _route
from lora_packer.sandbox.weights import base_id
from lora_packer.together import APIS, Client, HubRepo, v2

URL = presigned()
MODEL = "devuser/uploaded"


class World:
    """A service in this process, where a model is uploaded, deployed and can be asked, by both versions of the API."""

    def __init__(self, **faults: bool) -> None:
        self.service = Service(
            delay=0, faults=Faults(stuck=True, v1_endpoints_closed=False, **faults)
        )  # stuck: nothing that is submitted is fetched
        self.job = self._uploaded(self.service.jobs, None)
        model = v2_models.create(self.service, self._request({"name": "uploaded", "baseModelId": base_id(BASE_MODEL)}))
        self.import_job = self._uploaded(self.service.imports, model[1]["id"])
        scaling = {"min_replicas": 1, "max_replicas": 1}
        self.endpoint = self.service.endpoints.create(
            model=MODEL, hardware="1x_nvidia_h100_80gb_sxm", display_name="", autoscaling=scaling, state="STARTED"
        )["id"]
        self.time, self.sent, self.bodies = FakeTime(), list[tuple[str, str]](), list[bytes]()

    def _request(self, body: dict[str, Any]) -> Request:
        return Request("POST", (), {}, json.dumps({"type": "adapter", **body}).encode())

    def _uploaded(self, jobs: Jobs, model_id: str | None) -> str:
        now = datetime.now(UTC)
        record = JobRecord("job-done", model_id or "model-1", MODEL, BASE_MODEL, None, "remote_archive", "", now, now)
        record.status = "Complete"
        record.updates.append({"status": "Complete", "message": "Job is Complete", "timestamp": "2026-01-02T03:04:05Z"})
        jobs._records[record.id] = record
        return record.id

    def deployed(self) -> str:
        """Deploy the model on version 2 and return the endpoint's id; it is not counted among what was sent."""
        before = len(self.sent)
        with self.client() as client:
            found = v2.deploy(client, MODEL).id
        del self.sent[before:]
        return found

    def base_endpoint(self, version: str) -> str:
        """An endpoint of the adapter's base model, which adapters can be attached to."""
        if version == "v1":
            scaling = {"min_replicas": 1, "max_replicas": 1}
            hardware = "1x_nvidia_h100_80gb_sxm"
            return str(
                self.service.endpoints.create(
                    model=BASE_MODEL, hardware=hardware, display_name="", autoscaling=scaling, state="STARTED"
                )["id"]
            )
        endpoint = str(self.service.deployments.create("shared")["id"])
        self.service.deployments.deploy(
            endpoint, name="base", model=model_path(base_id(BASE_MODEL)),
            config=f"projects/x/configs/{configurations([BASE_MODEL])[0]['id']}", hardware="1xnvidia-h100-80gb",
            autoscaling={"minReplicas": 1, "maxReplicas": 1},
        )  # fmt: skip
        return endpoint

    def client(self, fault: Callable[[], httpx2.Response] | None = None, at: int = -1, *, once: bool = True) -> Client:
        """A client whose request number ``at`` (from 0) meets the fault; with ``once``, that one only."""
        asked: list[tuple[str, str]] = []

        def handler(request: httpx2.Request) -> httpx2.Response:
            where = (request.method, str(request.url))
            if not asked or asked[-1] != where:  # the same again is a retry of the client's
                asked.append(where)
            self.sent.append(where)
            met = len(asked) - 1 == at if once else len(asked) - 1 >= at
            answer = self.answer(request)
            return fault() if fault is not None and met else answer

        return mock_client(handler, self.time, base_url="https://service.example/v1")

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        path, _, query = request.url.raw_path.decode().partition("?")
        if request.method == "PUT":
            _, _, model_id, upload_id, number = path.split("/")
            tag = self.service.direct.put(model_id, upload_id, number, query.partition("=")[2], request.content)
            return httpx2.Response(200, headers={"etag": f'"{tag}"'})
        parts = tuple(unquote(part) for part in path.strip("/").split("/"))
        try:
            self.service.base_url = "https://service.example/v1"
            status, body = _route(self.service, Request(request.method, parts, dict(parse_qsl(query)), request.content))
        except Refused as refusal:
            status, body = refusal.status, refusal.body
        return httpx2.Response(204) if status == 204 else httpx2.Response(status, json=body)


Call = Callable[[World, Client, Path], object]
WAIT: dict[str, Any] = {"timeout": timedelta(seconds=90), "on_change": lambda _: None}


def waiting(world: World) -> dict[str, Any]:
    return {**WAIT, "sleep": world.time.sleep, "clock": world.time.clock}


def patient(world: World) -> together.Waiting:
    return together.Waiting(timedelta(seconds=90), sleep=world.time.sleep, clock=world.time.clock)


def for_both(version: str) -> dict[str, Call]:
    """The calls of one version of the API."""
    api = APIS[version]

    def endpoint_of(world: World) -> str:
        return world.endpoint if version == "v1" else world.deployed()

    def looking(call: Callable[[Client, str], object]) -> Call:
        return lambda world, client, _: call(client, endpoint_of(world))

    def rehearsed(world: World, client: Client) -> object:
        """Judged below an endpoint that has nothing of the model."""
        if version == "v2":
            world.service.deployments.create("another")
        return api.rehearse(client, MODEL)

    def local(client: Client, folder: Path) -> object:
        return api.submit(client, submission(source=local_files(folder)))

    hub = {"source": HubRepo("org/repo"), "hf_token": Secret(HF_TOKEN)}
    calls: dict[str, Call] = {
        "submit": lambda world, client, _: api.submit(client, submission(URL)),
        "submit a repo": lambda world, client, _: api.submit(client, submission(**hub)),
        "job": lambda world, client, _: api.job(client, world.job),
        "find": lambda world, client, _: api.find(client, "uploaded"),
        "hosts": lambda world, client, _: api.hosts(client, BASE_MODEL),
        "hardware": lambda world, client, _: api.hardware(client, MODEL),
        "deploy": lambda world, client, _: api.deploy(client, MODEL),
        "deploy a base": lambda world, client, _: api.deploy(client, BASE_MODEL),
        "rehearse": lambda world, client, _: rehearsed(world, client),
        "asked_name": looking(api.asked_name),
        "endpoint": looking(api.endpoint),
        "endpoints": lambda world, client, _: api.endpoints(client, MODEL),
        "all_endpoints": looking(lambda client, _: api.all_endpoints(client)),
        "one_endpoint": looking(api.one_endpoint),
        "attach": lambda world, client, _: api.attach(
            client, MODEL, world.base_endpoint(version), waiting=patient(world)
        ),
        "models": lambda world, client, _: api.models(client),
        "model": lambda world, client, _: api.model(client, MODEL),
        "to_stop": looking(lambda client, _: api.to_stop(client, MODEL)),
        "stop_all": looking(
            lambda client, endpoint: together.stop_all(api, client, [(endpoint, None)], delete=False, waiting=None)
        ),
        "run_smoke": looking(
            lambda client, endpoint: together.run_smoke(
                api,
                client,
                endpoint,
                together.Questions((together.Prompt("Hello"),), compare_base=True),
            )
        ),
        "ask": looking(lambda client, endpoint: api.ask(client, endpoint, "Hello")),
        "stop": looking(api.stop),
        "stop for good": looking(lambda client, endpoint: api.stop(client, endpoint, delete=True)),
        "choose_api": lambda world, client, _: together.choose_api(client),
        "ask_ahead": lambda world, client, _: together.ask_ahead(api, client, "new", BASE_MODEL, lambda *_: None),
        "ensure_endpoint": lambda world, client, _: together.ensure_endpoint(api, client, MODEL),
        "serve": lambda world, client, _: together.serve(
            api, client, together.Endpoint(endpoint_of(world), MODEL, "PENDING"), **waiting(world)
        ),
        "wait_for_job": lambda world, client, _: together.wait_for_job(api, client, world.job, **waiting(world)),
    }
    if version == "v2":
        calls["based_on"] = lambda world, client, _: api.based_on(
            client, together.Job("job-1", "Complete", model_id=next(iter(world.service.models))), BASE_MODEL
        )
        calls["named"] = lambda world, client, _: api.named(
            client, together.Job("job-1", "Complete", model_id=next(iter(world.service.models)))
        )
        calls["base_names"] = lambda world, client, _: api.base_names(client, MODEL)
        calls["delete_model"] = lambda world, client, _: api.delete_model(client, MODEL)
        calls["submit files"] = lambda world, client, folder: local(client, folder)
    return {f"{version}: {name}": call for name, call in calls.items()}


CALLS = for_both("v1") | for_both("v2")
