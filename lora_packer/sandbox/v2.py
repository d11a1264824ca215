"""Version 2 of the sandbox's API.

Paths and bodies are those of the vendor's SDK, together 3.1.1 (``resources/`` and ``types/``), which reads these
answers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from lora_packer.sandbox import catalogue, v2_endpoints, v2_models
from lora_packer.sandbox.answers import Refused, Request, not_found, only, page
from lora_packer.sandbox.endpoints import stamp
from lora_packer.sandbox.state import PROJECT, State


def route(state: State, request: Request) -> tuple[int, Any]:
    """Return status and answer; None as the answer is a connection closed without one. Raises Refused."""
    match (request.method, request.path[1:]):
        case ("GET", ("supported-models",)):
            started = stamp(datetime.fromtimestamp(state.started, UTC))
            found = catalogue.supported_models(state.base_models, started, serverless=not state.faults.no_serverless)
            wanted = request.query.get("search", "").lower()
            deep = not state.faults.shallow_search
            return 200, page(request, [model for model in found if catalogue.is_found(model, wanted, deep=deep)])
        case ("GET", ("public", "inference-instance-types")):
            return 200, page(request, catalogue.instance_types(taken=state.faults.no_hardware))
        case ("GET", ("public", "inference-instance-types", name)):
            return 200, only([one for one in catalogue.instance_types() if one["id"] == name], "instance type")
        case ("GET", ("projects", catalogue.PROJECT, "models", model_id)):
            return 200, only(
                [one for one in catalogue.base_models(state.base_models) if one["id"] == model_id], "model"
            )
        case ("GET", ("projects", catalogue.PROJECT, "configs", config_id)):
            configs = catalogue.configurations(state.base_models)
            return 200, only([one for one in configs if one["id"] == config_id], "config")
        case (_, ("projects", project, *rest)):
            if project != PROJECT or state.faults.no_project:
                raise Refused(403, "this key has no access to that project", "forbidden_error")
            return _project(state, request, rest)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")


def _project(state: State, request: Request, rest: list[str]) -> tuple[int, Any]:
    match (request.method, rest):
        case ("POST", ["models"]):
            return v2_models.create(state, request)
        case ("GET", ["models"]):
            return 200, page(request, list(state.models.values()))
        case ("POST", ["models", "upload", step]) if step in ("create", "complete"):
            return 200, v2_models.send(state, request, step)
        case ("POST", ["models", "uploads"]):
            return v2_models.start_import(state, request)
        case ("GET", ["models", "uploads"]):
            return 200, page(request, [v2_models.described_upload(job) for job in state.imports.records()])
        case ("GET", ["models", "uploads", upload_id]):
            return 200, v2_models.described_upload(v2_models.import_job(state, upload_id))
        case ("GET", ["models", "uploads", upload_id, "events"]):
            events = [
                v2_models.described_event(number, one)
                for number, one in enumerate(v2_models.import_job(state, upload_id).updates)
            ]
            return 200, page(request, events)
        case ("GET", ["models", model_id]):
            return 200, v2_models.found(state, model_id)
        case ("GET", ["models", model_id, "revisions"]):
            v2_models.found(state, model_id)
            return 200, page(
                request, [v2_models.described_revision(state, one) for one in v2_models.revisions(state, model_id)]
            )
        case ("GET", ["models", model_id, "files"]):
            return 200, v2_models.files_of(state, request, model_id)
        case ("DELETE", ["models", model_id]):
            v2_models.delete(state, model_id)
            return 200, {}
        case ("GET", ["configs"]):
            wanted = request.query.get("referenceModelId") or request.query.get("referenceModel", "").rpartition("/")[2]
            configs = catalogue.listed_configurations(state.base_models)
            return 200, page(request, [one for one in configs if wanted in ("", one["referenceModelId"])])
        case ("GET", ["configs", config_id]):
            configs = catalogue.configurations(state.base_models)
            return 200, only([one for one in configs if one["id"] == config_id], "config")
        case (_, ["endpoints", *below]):
            return v2_endpoints.route(state, request, below)
    raise not_found(f"{request.method} /{'/'.join(request.path)}")
