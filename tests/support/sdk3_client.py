"""A program for the vendor's SDK 3.1, which cannot be installed beside the 2.42 that the other tests use: it is run as a
process of its own, makes the calls that its argument names, and prints what came back as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import together


def whole(sdk: Any, url: str, base: str) -> dict[str, Any]:
    """From the key's project to an answer and back, as a user of the SDK would."""
    (supported,) = [one for one in sdk.models.list_supported(search=base) if one.name == base]
    model = sdk.models.create(name="my-adapter", base_model_id=supported.base_model_id, type="adapter")
    upload = sdk.models.remote_uploads.create(model_id=model.id, remote_url=url)
    while upload.status not in ("REMOTE_UPLOAD_STATUS_SUCCEEDED", "REMOTE_UPLOAD_STATUS_FAILED"):
        upload = sdk.models.remote_uploads.retrieve(upload.id)
    (revision,) = sdk.models.list_revisions(model.id).data
    reference = f"projects/{model.project_id}/models/{supported.base_model_id}"
    config = next(iter(sdk.models.configs.list(reference_model=reference)))
    endpoint = sdk.endpoints.create(name="my-endpoint")
    deployment = sdk.endpoints.deployments.create(
        endpoint.id,
        name="my-deployment",
        model=f"projects/{model.project_id}/models/{model.id}",
        config=f"projects/{config.project_id}/configs/{config.id}",
        autoscaling={"min_replicas": 1, "max_replicas": 1},
    )
    while deployment.status.state != "DEPLOYMENT_STATE_READY":
        deployment = sdk.endpoints.deployments.retrieve(deployment.id, endpoint_id=endpoint.id)
    question = {"model": endpoint.name, "messages": [{"role": "user", "content": "Is it you?"}]}
    before = error_of(lambda: sdk.chat.completions.create(**question))
    split = [{"deployment_id": deployment.id, "weight": 1}]
    stale = error_of(
        lambda: sdk.endpoints.update(endpoint.id, traffic_split=split, update_mask="trafficSplit", etag="stale")
    )
    sdk.endpoints.update(endpoint.id, traffic_split=split, update_mask="trafficSplit", etag=endpoint.etag)
    answer = sdk.chat.completions.create(**question)
    referenced = error_of(lambda: sdk.models.delete(model.id))
    seen = sdk.endpoints.retrieve(endpoint.id)
    sdk.endpoints.update(endpoint.id, traffic_split=[], update_mask="trafficSplit")
    idle = {"min_replicas": 0, "max_replicas": 0}
    stopped = sdk.endpoints.deployments.update(
        deployment.id, endpoint_id=endpoint.id, autoscaling=idle, update_mask="autoscaling"
    )
    found = {
        "project": sdk.whoami().project.id,
        "base ids": [supported.id[:5], supported.base_model_id[:3]],
        "profile": supported.deployment_profiles[0].api_model_name,
        "model": [model.name, model.weights.type, model.visibility],
        "upload": upload.status,
        "uploads": [one.id == upload.id for one in sdk.models.remote_uploads.list()],
        "events": [one.type for one in sdk.models.remote_uploads.events(upload.id).data],
        "validation": revision.validation_status,
        "prices": [one.price_cents_per_hour for one in sdk.endpoints.hardware.list().data],
        "no route": before,
        "stale etag": stale,
        "answer": answer.choices[0].message.content,
        "referenced": referenced,
        "share": [one.estimated_effective_traffic_share for one in seen.deployments],
        "endpoints": [one.name for one in sdk.endpoints.list()],
        "deployments": [one.name for one in sdk.endpoints.deployments.list(endpoint.id)],
        "stopped": stopped.status.state,
    }
    sdk.endpoints.deployments.delete(deployment.id, endpoint_id=endpoint.id)
    sdk.endpoints.delete(endpoint.id)
    sdk.models.delete(model.id)
    return found | {"left": [len(list(sdk.endpoints.list())), len(list(sdk.models.list()))]}


def life(sdk: Any, url: str, base: str) -> dict[str, Any]:
    """A model listed, looked at and deleted; endpoints listed; a dry run; an adapter attached and detached."""
    (supported,) = [one for one in sdk.models.list_supported(search=base) if one.name == base]
    model = sdk.models.create(name="my-adapter", base_model_id=supported.base_model_id, type="adapter")
    upload = sdk.models.remote_uploads.create(model_id=model.id, remote_url=url)
    while upload.status not in ("REMOTE_UPLOAD_STATUS_SUCCEEDED", "REMOTE_UPLOAD_STATUS_FAILED"):
        upload = sdk.models.remote_uploads.retrieve(upload.id)
    files = sdk.models.list_files(model.id)
    _, _, owner, _, base_id = ["", *supported.base_model.split("/")]
    base_model = sdk.models.retrieve(base_id, project_id=owner)
    (config, other) = sdk.models.configs.list(reference_model_id=base_id)
    endpoint = sdk.endpoints.create(name="my-endpoint")
    wanted = {
        "name": "base",
        "model": supported.base_model,
        "config": f"projects/{config.project_id}/configs/{config.id}",
        "autoscaling": {"min_replicas": 1, "max_replicas": 2},
        "inactive_timeout": 30,
    }
    dry = sdk.endpoints.deployments.create(endpoint.id, validate_only=True, **wanted)
    before = len(list(sdk.endpoints.deployments.list(endpoint.id)))
    short = error_of(
        lambda: sdk.endpoints.deployments.create(endpoint.id, validate_only=True, **{**wanted, "inactive_timeout": 5})
    )
    none = error_of(
        lambda: sdk.endpoints.deployments.create(
            endpoint.id, **{**wanted, "autoscaling": {"min_replicas": 0, "max_replicas": 1}}
        )
    )
    deployment = sdk.endpoints.deployments.create(endpoint.id, **wanted)
    where = {"endpoint_id": endpoint.id, "deployment_id": deployment.id}
    attached = sdk.endpoints.adapters.create(adapter_model_id=model.id, **where)
    while attached.per_cluster[0].adapter_valid is None:
        attached = sdk.endpoints.adapters.retrieve(attached.id, **where)
    referenced = error_of(lambda: sdk.models.delete(model.id))
    stale = error_of(lambda: sdk.endpoints.adapters.delete(attached.id, etag="stale", **where))
    found = {
        "models": [one.name for one in sdk.models.list()],
        "model": sdk.models.retrieve(model.id).name,
        "base": base_model.name,
        "files": sorted(one.path for one in files.data),
        "whole": files.total_size_bytes == str(sum(int(one.size_bytes) for one in files.data)),
        "modes": [[one.value for one in each.selectors if one.key == "adapter_mode"] for each in (config, other)],
        "dry run": [dry.name, before],
        "refused": [short, none],
        "timeout": deployment.inactive_timeout,
        "attached": [one.id == attached.id for one in sdk.endpoints.adapters.list(endpoint.id, deployment.id)],
        "valid": [[one.state, one.adapter_valid] for one in attached.per_cluster],
        "referenced": referenced,
        "stale": stale,
        "endpoints": [[one.name, len(one.deployments)] for one in sdk.endpoints.list()],
    }
    sdk.endpoints.adapters.delete(attached.id, etag=attached.etag, **where)
    sdk.models.delete(model.id)
    return found | {
        "left": [len(list(sdk.endpoints.adapters.list(endpoint.id, deployment.id))), len(list(sdk.models.list()))]
    }


def pages(sdk: Any, *_: str) -> dict[str, Any]:
    """Lists, page by page."""
    return {"names": [one.name for one in sdk.models.list_supported(limit=2)]}


def refused(sdk: Any, url: str, base: str) -> dict[str, Any]:
    """Refusals, as the SDK's own errors."""
    (supported,) = [one for one in sdk.models.list_supported(search=base) if one.name == base]
    made = {"name": "my-adapter", "base_model_id": supported.base_model_id, "type": "adapter"}
    model = sdk.models.create(**made)
    return {
        "again": error_of(lambda: sdk.models.create(**made)),
        "arch": error_of(lambda: sdk.models.create(**{**made, "name": "b", "base_model_id": supported.id})),
        "no model": error_of(lambda: sdk.models.remote_uploads.create(model_id="ml_none", remote_url=url)),
        "no url": error_of(lambda: sdk.models.remote_uploads.create(model_id=model.id, remote_url="ftp://x")),
        "no upload": error_of(lambda: sdk.models.remote_uploads.retrieve("none")),
        "no project": error_of(lambda: sdk.models.list(project_id="proj-other")),
    }


def send(sdk: Any, url: str, _: str) -> dict[str, Any]:
    """Every request that our client makes too, to a service that keeps them; its answers are no concern here."""
    (sdk.whoami(), sdk.models.list_supported(search="tiny/llama"), sdk.models.list())
    sdk.models.create(base_model_id="ml_b", name="my-adapter", type="adapter", description="d")
    sdk.models.remote_uploads.create(model_id="ml_a", remote_url=url)
    sdk.models.remote_uploads.create(model_id="ml_a", remote_url="https://huggingface.co/org/repo", token="hf_token")
    (sdk.models.remote_uploads.retrieve("up-1"), sdk.models.remote_uploads.list())
    (sdk.models.remote_uploads.events("up-1"), sdk.models.list_revisions("ml_a"))
    (sdk.models.configs.list(reference_model_id="ml_b"), sdk.endpoints.hardware.list())
    (sdk.endpoints.list(), sdk.endpoints.create(name="my-adapter"), sdk.endpoints.retrieve("ep_1"))
    wanted = {
        "autoscaling": {"min_replicas": 1, "max_replicas": 1},
        "name": "my-adapter-ml_a",
        "config": "projects/proj_cat/configs/cr_1",
        "model": "projects/proj_x/models/ml_a",
    }
    sdk.endpoints.deployments.create("ep_1", validate_only=True, **wanted)
    sdk.endpoints.deployments.create("ep_1", **wanted)
    sdk.endpoints.deployments.list("ep_1")
    more = {**wanted, "autoscaling": {"min_replicas": 2, "max_replicas": 4}, "inactive_timeout": 60}
    sdk.endpoints.deployments.create("ep_1", validate_only=True, **more)
    sdk.endpoints.deployments.create("ep_1", **more)
    (sdk.models.list_files("ml_a", revision_id="rv_1"), sdk.models.delete("ml_a"), sdk.models.list_supported())
    where = {"endpoint_id": "ep_1", "deployment_id": "dep_1"}
    (sdk.endpoints.adapters.list("ep_1", "dep_1"), sdk.endpoints.adapters.create(adapter_model_id="ml_a", **where))
    (sdk.endpoints.adapters.retrieve("dad_1", **where), sdk.endpoints.adapters.delete("dad_1", etag="e2", **where))
    split = [{"deployment_id": "dep_1", "weight": 1}]
    sdk.endpoints.update("ep_1", etag="e1", traffic_split=split, update_mask="trafficSplit")
    question = [{"role": "user", "content": "Where is it? \u2713"}]
    sdk.chat.completions.create(model="slug/my-adapter", messages=question, max_tokens=128)
    kind = [{"role": "system", "content": "Be kind."}, *question]
    judged = {"messages": kind, "max_tokens": 5, "temperature": 0.0, "logprobs": 1}
    sdk.chat.completions.create(model="slug/my-adapter", **judged)
    sdk.completions.create(model="slug/my-adapter", prompt="Where is it?", max_tokens=128)
    sdk.endpoints.update("ep_1", traffic_split=[], update_mask="trafficSplit")
    idle = {"min_replicas": 0, "max_replicas": 0}
    sdk.endpoints.deployments.update("dep_1", endpoint_id="ep_1", autoscaling=idle, update_mask="autoscaling")
    sdk.endpoints.deployments.retrieve("dep_1", endpoint_id="ep_1")
    sdk.endpoints.deployments.delete("dep_1", endpoint_id="ep_1")
    sdk.endpoints.delete("ep_1")
    return {}


def error_of(call: Any) -> list[Any]:
    """The SDK's error that a call ends with: its name, the status and what the service said."""
    try:
        call()
    except together.APIStatusError as error:
        return [type(error).__name__, error.status_code, said_in(error.body)]
    return []


def said_in(body: Any) -> str:
    """What the service said, as the SDK's own command line reads it (lib/cli/utils/_api_error.py)."""
    said: str = body["error"]["message"] if "error" in body else body["details"][0]["detail"]
    return said


if __name__ == "__main__":
    scenario, *arguments = sys.argv[1:]
    with together.Together(max_retries=0) as client:
        print(json.dumps({"version": together.__version__, **globals()[scenario](client, *arguments)}))
