"""What the sandbox can serve by version 2: the supported models, their configurations, the machines and their prices.

Bodies are those of together 3.1.1, ``types/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lora_packer.sandbox.weights import base_id, is_linked, weights_of

PROJECT = "proj-catalogue"
"""The project that the supported models are of."""

_HARDWARE = (
    # (instance type, GPU, GiB, count, US cents an hour, headroom)
    ("1xnvidia-h100-80gb", "nvidia-h100-80gb", 80, 1, 390, 4),
    ("2xnvidia-h100-80gb", "nvidia-h100-80gb", 80, 2, 780, 0),
)


def model_path(base: str) -> str:
    """Return the full name of a supported model, by its ``ml_`` id."""
    return f"projects/{PROJECT}/models/{base}"


def supported_models(names: Sequence[str], created_at: str, *, serverless: bool = True) -> list[dict[str, Any]]:
    """Return a ``SupportedModel`` for each name; ``serverless`` is whether they can be asked without a deployment."""
    return [_supported(name, created_at, serverless=serverless) for name in names]


def base_models(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return a ``Model`` for the weights of each of these models, as the catalogue's project has it."""
    return [
        {
            "id": one.id,
            "name": one.name,
            "organizationId": "org-catalogue",
            "projectId": PROJECT,
            "visibility": "VISIBILITY_INTERNAL",
            "weights": {"type": "WEIGHTS_TYPE_DEFAULT"},
        }
        for name in names
        for one in weights_of(name)
    ]


def serverless_name(name: str) -> str:
    """Return by which name a base model that is not deployed is asked; the real service's are no rule."""
    return f"{name}-Turbo"


def configurations(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the configurations of all models of these names."""
    return [config for name in names for one in weights_of(name) for config in _configs_of(one.id)]


def listed_configurations(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return those of them that a list has; of the others the deployment profiles tell."""
    return configurations([name for name in names if is_linked(name)])


def is_found(model: dict[str, Any], wanted: str, *, deep: bool) -> bool:
    """Whether a search finds a supported model: by its ids and name; a ``deep`` one by its deployments' names too."""
    names = [model["id"], model["name"], model["baseModelId"]]
    if deep:
        names += [profile["modelName"] for profile in model["deploymentProfiles"]]
    return any(wanted in name.lower() for name in names)


def instance_type_of(config_id: str) -> str:
    """Return the name of the machine that a configuration runs on."""
    return next(entry[0] for entry in _HARDWARE if config_id.endswith(f"_{entry[3]}"))


def instance_types(*, taken: bool = False) -> list[dict[str, Any]]:
    """Return an ``InferenceInstanceType`` for each machine; ``taken`` is whether none is to be had."""
    return [
        {
            "id": f"it_{name}",
            "name": name,
            "description": name,
            "gpuType": gpu,
            "gpuCount": count,
            "gpuMemoryGib": memory,
            "priceCentsPerHour": cents,
            "regions": [
                {"name": "us-central", "headroom": {"relation": "RELATION_EQ", "value": 0 if taken else headroom}}
            ],
        }
        for name, gpu, memory, count, cents, headroom in _HARDWARE
    ]


def _supported(name: str, created_at: str, *, serverless: bool) -> dict[str, Any]:
    """Its id is another than the one that models are created on."""
    base = base_id(name)
    profiles = [
        {
            "certifiedConfigRevisionId": config["id"],
            "certifiedModelRevisionId": "rev_certified",
            "config": f"projects/{PROJECT}/configs/{config['id']}",
            "gpuCount": count,
            "gpuType": gpu,
            "model": model_path(one.id),
            "modelName": one.name,
            "parallelism": f"tp{count}",
            "performanceBenchmarks": {},
            "profileId": f"prof_{config['id']}",
            "quantization": one.quantization,
        }
        for one in weights_of(name)
        for config, (_, gpu, _, count, _, _) in zip(_configs_of(one.id), _HARDWARE, strict=True)
    ]
    return {
        "id": f"arch_{base.removeprefix('ml_')}",
        "name": name,
        "displayName": name,
        "displayType": "chat",
        "baseModel": model_path(base) if is_linked(name) else "",
        "baseModelId": base if is_linked(name) else "",
        "capabilities": ["CAPABILITY_CHAT"],
        "createdAt": created_at,
        "updatedAt": created_at,
        "deploymentProfiles": profiles,
        "inputModalities": ["MODALITY_TEXT"],
        "outputModalities": ["MODALITY_TEXT"],
        "products": ["PRODUCT_DEDICATED"],
        "publisher": name.partition("/")[0],
        "serverlessEndpoint": serverless_name(name) if serverless else "",
        "status": "SUPPORTED_MODEL_STATUS_SUPPORTED",
    }


def _configs_of(base: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"cr_{base.removeprefix('ml_')}_{count}",
            "projectId": PROJECT,
            "referenceModel": model_path(base),
            "referenceModelId": base,
            "certifications": [],
            "selectors": [
                {"key": "accelerator_type", "value": gpu},
                {"key": "accelerator_count", "value": str(count)},
                {"key": "adapter_mode", "value": "dynamic" if count == 1 else "disabled"},
            ],
        }
        for _, gpu, _, count, _, _ in _HARDWARE
    ]
