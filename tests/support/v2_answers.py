"""Answers of version 2 of the API."""

from __future__ import annotations

from typing import Any

from together_support import BASE_MODEL, presigned

P = "/v2/projects/proj_x"
UPLOAD = {
    "id": "up-1",
    "createdAt": "2026-01-02T03:04:05Z",
    "modelId": "ml_a",
    "projectId": "proj_x",
    "remoteUrl": presigned(),
    "status": "REMOTE_UPLOAD_STATUS_PENDING",
}
SUPPORTED = {"id": "arch_b", "name": BASE_MODEL, "baseModelId": "ml_b", "deploymentProfiles": []}
MODEL = {"id": "ml_a", "name": "slug/my-adapter", "projectId": "proj_x", "baseModelId": "ml_b"}
CONFIG = {
    "id": "cr_1",
    "projectId": "proj_cat",
    "selectors": [
        {"key": "accelerator_type", "value": "nvidia-h100-80gb"},
        {"key": "accelerator_count", "value": "1"},
    ],
}
INSTANCE = {"id": "it_1", "name": "1xnvidia-h100-80gb", "priceCentsPerHour": 390, "regions": []}
DEPLOYMENT = {"id": "dep_1", "modelId": "ml_a", "state": "DEPLOYMENT_STATE_READY", "hardware": "1xnvidia-h100-80gb"}
ENDPOINT: dict[str, Any] = {
    "id": "ep_1",
    "name": "slug/my-adapter",
    "etag": "e1",
    "trafficSplit": [],
    "deployments": [],
}
SERVING = {**ENDPOINT, "deployments": [DEPLOYMENT], "trafficSplit": [{"deploymentId": "dep_1", "weight": 1}]}


def page(*items: Any, **more: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(items), **more}
