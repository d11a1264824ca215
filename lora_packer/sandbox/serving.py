"""Who answers at the sandbox by which name: a base model, or an adapter on top of one."""

from __future__ import annotations

from lora_packer.frozen import frozen
from lora_packer.sandbox import catalogue
from lora_packer.sandbox.state import State


@frozen
class Served:
    """What answers: a model's name, and the name of its base where it is an adapter."""

    model: str
    base: str | None = None


def served(state: State) -> dict[str, Served]:
    """Return who answers by which name: what is deployed, and every base model's serverless endpoint."""
    bases = {str(one["id"]): str(one["name"]) for one in catalogue.base_models(state.base_models)}
    found: dict[str, Served] = {}
    if not state.faults.no_serverless:
        found |= {catalogue.serverless_name(name): Served(name) for name in state.base_models}
    uploaded = {record.model_name: record.base_model for record in state.jobs.records()}
    for name, model in state.endpoints.served().items():
        found[name] = Served(model, uploaded.get(model))
    for name, model_id in state.deployments.served(routed=True).items():
        adapter = state.models.get(model_id)
        if adapter is None:
            found[name] = Served(bases.get(model_id, model_id))
            continue
        # What is attached is asked by its own name, or by the endpoint's and its own: so version 1 documents it
        # (docs.together.ai/docs/dedicated-endpoints/lora-adapter); for version 2 nothing does.
        found[name.replace(model_id, adapter["name"])] = Served(adapter["name"], bases.get(adapter["baseModelId"]))
    return found
