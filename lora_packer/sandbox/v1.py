"""Version 1 of the sandbox's API.

Paths and bodies are those of openapi.yaml in github.com/togethercomputer/openapi and of the examples in
docs.together.ai/docs/dedicated-endpoints/v1/adapter. Where neither says what a refusal looks like, it is an
``ErrorData`` body with status 400.
"""

from __future__ import annotations

import re
from typing import Any

from lora_packer.sandbox import chat
from lora_packer.sandbox.answers import Refused, Request, not_found
from lora_packer.sandbox.endpoints import HARDWARE, hardware_list
from lora_packer.sandbox.jobs import JobRecord, NameTaken, SourceKind
from lora_packer.sandbox.state import State

_HUB_SOURCE = re.compile(r"(?:https://huggingface\.co/)?[\w.-]+/[\w.-]+/?")


def route(state: State, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one, or 204. Raises Refused."""
    match (request.method, request.path[1:]):
        case ("POST", ("models",)):
            return _submit(state, request)
        case ("GET", ("models",)):
            return 200, [_model(state, model) for model in (*state.base_models, *state.jobs.uploaded())]
        case ("GET", ("jobs",)):
            return 200, {"data": state.jobs.describe_all()}
        case ("GET", ("jobs", job_id)):
            return 200, _found(state.jobs.describe(job_id), "job")
        case ("GET", ("hardware",)):
            return _hardware(state, request)
        case ("POST", ("chat", "completions")):
            return chat.complete(state, request)
        case ("POST", ("completions",)):
            return chat.complete(state, request, chat=False)
        case (_, ("endpoints", *rest)):
            return _endpoints(state, request, rest)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _endpoints(state: State, request: Request, rest: list[str]) -> tuple[int, Any]:
    match (request.method, rest):
        case ("GET", []):
            return 200, {"object": "list", "data": _listed(state, request)}
        case ("POST", []):
            return _create_endpoint(state, request)
        case ("GET", [endpoint_id]):
            return 200, _found(state.endpoints.describe(endpoint_id), "endpoint")
        case ("PATCH", [endpoint_id]):
            return _update_endpoint(state, request, endpoint_id)
        case ("DELETE", [endpoint_id]):
            if not state.endpoints.delete(endpoint_id):
                raise not_found("endpoint")
            return 204, None
        case ("POST", [endpoint_id, "adapters"]):
            return _attach(state, request, endpoint_id)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _listed(state: State, request: Request) -> list[dict[str, Any]]:
    """The account's endpoints as ListEndpoint: less than what one look at one of them tells."""
    if request.query.get("type") == "serverless":
        return []
    names = ("object", "id", "name", "model", "type", "owner", "state", "created_at")
    return [{name: entry[name] for name in names} for entry in state.endpoints.describe_all()]


def _hardware(state: State, request: Request) -> tuple[int, Any]:
    model = request.query.get("model")
    if model is not None and model not in (*state.base_models, *state.jobs.uploaded()):
        raise not_found(f"model {model}")
    return 200, hardware_list(with_availability=model is not None, taken=state.faults.no_hardware)


def _create_endpoint(state: State, request: Request) -> tuple[int, Any]:
    _require_open(state)
    body = request.json("model", "hardware", "display_name", "state")
    request.require(body, "model", "hardware", "autoscaling")
    if body["model"] not in (*state.base_models, *state.jobs.uploaded()):
        raise Refused(400, f"model {body['model']} was not found", param="model")
    if body["hardware"] not in (entry[0] for entry in HARDWARE):
        raise Refused(400, "invalid hardware provided: check the hardware API", param="hardware")
    wanted = body.get("state", "STARTED")
    if wanted not in ("STARTED", "STOPPED"):
        raise Refused(422, "state must be STARTED or STOPPED", param="state")
    return 200, state.endpoints.create(
        model=body["model"],
        hardware=body["hardware"],
        display_name=body.get("display_name", ""),
        autoscaling=_autoscaling(body["autoscaling"]),
        state=wanted,
    )


def _update_endpoint(state: State, request: Request, endpoint_id: str) -> tuple[int, Any]:
    body = request.json("display_name", "state")
    wanted = body.get("state")
    if wanted not in (None, "STARTED", "STOPPED"):
        raise Refused(422, "state must be STARTED or STOPPED", param="state")
    if wanted == "STARTED":
        _require_open(state)
    scaling = _autoscaling(body["autoscaling"]) if "autoscaling" in body else None
    changed = state.endpoints.update(
        endpoint_id, state=wanted, display_name=body.get("display_name"), autoscaling=scaling
    )
    return 200, _found(changed, "endpoint")


def _attach(state: State, request: Request, endpoint_id: str) -> tuple[int, Any]:
    """Attach an adapter: docs.together.ai/docs/dedicated-endpoints/lora-adapter, whose words these refusals are."""
    body = request.json("model_id")
    request.require(body, "model_id")
    endpoint = _found(state.endpoints.describe(endpoint_id), "endpoint")
    name, colon, adapter = body["model_id"].partition(":")
    if not (name and colon and adapter):
        raise Refused(400, "model_id must be in format 'endpoint_model_name:adapter_name'", param="model_id")
    if name != endpoint["name"]:
        raise Refused(400, "endpoint name in model_id does not match endpoint", param="model_id")
    bases = {record.model_name: record.base_model for record in state.jobs.records() if record.status == "Complete"}
    if adapter not in bases:
        raise Refused(404, "Could not find model", param="model_id")
    if bases[adapter] != endpoint["model"]:
        raise Refused(400, "adapter base model is not compatible with endpoint model", param="model_id")
    state.endpoints.attach(endpoint_id, adapter)
    return 200, {"model_id": body["model_id"]}


def _require_open(state: State) -> None:
    """Refuse to start an endpoint where the sandbox was told to, as the service refuses it by now."""
    if state.faults.v1_endpoints_closed:
        message = "Creating and restarting endpoints is disabled on this version of the API. Use version 2."
        raise Refused(403, message, "forbidden_error", code="endpoints_v1_create_access_disabled")


def _autoscaling(value: Any) -> dict[str, int]:
    names = ("min_replicas", "max_replicas")
    if not isinstance(value, dict) or not all(type(value.get(name)) is int for name in names):
        raise Refused(422, "autoscaling must have min_replicas and max_replicas", param="autoscaling")
    return {name: value[name] for name in names}


def _found(answer: dict[str, Any] | None, what: str) -> dict[str, Any]:
    if answer is None:
        raise not_found(what)
    return answer


def _submit(state: State, request: Request) -> tuple[int, Any]:
    if state.faults.refuse_submit is not None:
        raise Refused(state.faults.refuse_submit, "refused, as the sandbox was started to do", "sandbox_fault")
    body = request.json("model_name", "model_source", "model_type", "base_model", "description", "hf_token")
    request.require(body, "model_name", "model_source")
    if body.get("model_type", "model") != "adapter":
        raise Refused(400, "this sandbox takes adapters only: model_type must be adapter", param="model_type")
    base_model = body.get("base_model")
    if not base_model:
        raise Refused(400, "base_model is required for an adapter", param="base_model")
    if base_model not in state.base_models:
        raise Refused(400, f"base model {base_model} is not supported for dedicated inference", param="base_model")
    source = body["model_source"]
    try:
        record = state.jobs.create(
            model_name=body["model_name"],
            model_source=source,
            kind=_source_kind(source),
            base_model=base_model,
            description=body.get("description"),
            hf_token=body.get("hf_token"),
        )
    except NameTaken:
        # Some refusals come as a success without data: a comment in together 2.42.0, lib/cli/api/models/upload.py.
        return 200, {"message": "Model name already exists"}
    return 200, None if state.faults.lose_answer else _created(record)


def _source_kind(source: str) -> SourceKind:
    if _HUB_SOURCE.fullmatch(source):
        return "huggingface"
    if source.startswith(("https://", "http://")):
        return "remote_archive"
    raise Refused(400, "model_source is neither a Hugging Face repo nor a URL", param="model_source")


def _created(record: JobRecord) -> dict[str, Any]:
    return {
        "data": {
            "job_id": record.id,
            "model_name": record.model_name,
            "model_id": record.model_id,
            "model_source": record.source_kind,
        },
        "message": "job created",
    }


def _model(state: State, model: str) -> dict[str, Any]:
    """Return one ModelInfo of the service's openapi.yaml."""
    organisation, _, name = model.rpartition("/")
    return {
        "id": model,
        "object": "model",
        "created": state.started,
        "type": "chat",
        "display_name": name,
        "organization": organisation,
        "link": "",
        "license": "",
        "context_length": 2048,
        "pricing": {"hourly": 0, "input": 0, "output": 0, "base": 0, "finetune": 0},
    }
