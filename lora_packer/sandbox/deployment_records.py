"""What the sandbox remembers of an endpoint of version 2, and how the service's answers tell it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lora_packer.sandbox.endpoints import stamp

_EMBEDDED = 10


@dataclass(slots=True)
class DeploymentRecord:
    """A deployment as the service remembers it; replicas decide where its state moves to."""

    id: str
    name: str
    model: str
    config: str
    hardware: str
    autoscaling: dict[str, Any]
    created_at: datetime
    since: float
    inactive_timeout: int = 0
    adapters: dict[str, AttachedRecord] = field(default_factory=dict)


@dataclass(slots=True)
class AttachedRecord:
    """An adapter that is attached to a deployment; its etag is that of the attachment, not of the endpoint."""

    id: str
    model_id: str
    since: float
    etag: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(slots=True)
class EndpointRecord:
    """An endpoint as the service remembers it."""

    id: str
    name: str
    created_at: datetime
    etag: str = field(default_factory=lambda: uuid.uuid4().hex)
    split: list[dict[str, Any]] = field(default_factory=list)
    deployments: dict[str, DeploymentRecord] = field(default_factory=dict)


State = Callable[[DeploymentRecord], str]


def endpoint_told(record: EndpointRecord, project: str, state: State) -> dict[str, Any]:
    """An ``Endpoint`` of together 3.1.1, types/endpoint.py: with its ten newest deployments, as the vendor's page
    "Manage endpoints" says."""
    newest = list(reversed(record.deployments.values()))
    return {
        "id": record.id,
        "name": record.name,
        "projectId": project,
        "createdAt": stamp(record.created_at),
        "updatedAt": stamp(record.created_at),
        "endpointType": "ENDPOINT_TYPE_DEDICATED",
        "etag": record.etag,
        "trafficSplit": list(record.split),
        "visibility": "VISIBILITY_PRIVATE",
        "deployments": [_summary(record, one, state) for one in newest[:_EMBEDDED]],
    }


def _summary(endpoint: EndpointRecord, record: DeploymentRecord, state: State) -> dict[str, Any]:
    live = any(is_live(entry, record.id) for entry in endpoint.split)
    up = state(record) == "READY"
    return {
        "id": record.id,
        "name": f"{endpoint.name}/{record.name}",
        "model": record.model,
        "modelId": record.model.split("/")[3],
        "autoscaling": record.autoscaling,
        "createdAt": stamp(record.created_at),
        "estimatedEffectiveTrafficShare": 1.0 if live else 0.0,
        "state": f"DEPLOYMENT_STATE_{state(record)}",
        "trafficMode": "TRAFFIC_MODE_LIVE",
        "hardware": record.hardware,
        "desiredReplicas": record.autoscaling["minReplicas"],
        "readyReplicas": record.autoscaling["minReplicas"] if up else 0,
    }


def deployment_told(
    endpoint: EndpointRecord, record: DeploymentRecord, project: str, state: State, *, fails: bool
) -> dict[str, Any]:
    """An ``EndpointDeployment`` of together 3.1.1, types/endpoint_deployment.py."""
    summary = _summary(endpoint, record, state)
    named = summary.pop("state")
    share = summary.pop("estimatedEffectiveTrafficShare")
    ready = summary.pop("readyReplicas")
    return {
        **summary,
        "config": record.config,
        "configId": record.config.split("/")[3],
        "endpointId": endpoint.id,
        "etag": endpoint.etag,
        "estimatedEffectiveTrafficShare": share,
        "modelRevisionId": "rev_sandbox",
        "projectId": project,
        "inactiveTimeout": record.inactive_timeout,
        "status": {
            "message": "Timed out waiting for readiness" if fails else "",
            "state": named,
            "readyReplicas": ready,
        },
        "updatedAt": stamp(record.created_at),
    }


def attached_told(attached: AttachedRecord, age: float, delay: float, *, is_rejected: bool) -> dict[str, Any]:
    """An ``AdapterRetrieveResponse`` of together 3.1.1, types/endpoints/: each cluster says how it fares there."""
    status: dict[str, Any] = {
        "adapterModelId": attached.model_id,
        "clusterId": "cluster-1",
        "failedPodCount": 0,
        "readyPodCount": 1,
        "totalPodCount": 1,
        "state": "ADAPTER_LOAD_STATE_READY",
    }
    if age < delay:
        status |= {"state": "ADAPTER_LOAD_STATE_LOADING", "readyPodCount": 0}
    elif age >= 2 * delay:
        status["adapterValid"] = not is_rejected
        if is_rejected:
            status["adapterValidReason"] = "the probe's answer was empty"
    return {
        "id": attached.id,
        "adapterModelId": attached.model_id,
        "desiredRevisionId": "rev_sandbox",
        "etag": attached.etag,
        "perCluster": [status],
    }


def is_live(entry: dict[str, Any], deployment_id: str) -> bool:
    """Whether an entry of a traffic split sends anything to a deployment."""
    return bool(entry.get("deploymentId") == deployment_id and entry.get("weight"))
