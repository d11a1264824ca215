"""The sandbox's endpoints of version 2: deployments below an endpoint, and the split of the traffic between them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lora_packer.sandbox.answers import Refused, not_found
from lora_packer.sandbox.endpoints import stamp


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


@dataclass(slots=True)
class EndpointRecord:
    """An endpoint as the service remembers it."""

    id: str
    name: str
    created_at: datetime
    etag: str = field(default_factory=lambda: uuid.uuid4().hex)
    split: list[dict[str, Any]] = field(default_factory=list)
    deployments: dict[str, DeploymentRecord] = field(default_factory=dict)


class Deployments:
    """Every endpoint of the project since the start.

    Args:
        project: the project's id.
        slug: the project's name, which goes before each endpoint's.
        delay: seconds that each state on the way lasts.
        fails: whether those that should start end as ``FAILED``.
        never_stopped: whether those that should stop stay ``STOPPING``.
        clock: the time, in seconds.
    """

    def __init__(
        self,
        *,
        project: str,
        slug: str,
        delay: float,
        fails: bool = False,
        never_stopped: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._project, self._slug, self._delay, self._clock = project, slug, delay, clock
        self._fails, self._never_stopped = fails, never_stopped
        self._lock = threading.RLock()
        self._records: dict[str, EndpointRecord] = {}

    def create(self, name: str) -> dict[str, Any]:
        """Create an endpoint; its name is its address for good. Raises Refused where the name is taken."""
        with self._lock:
            full = f"{self._slug}/{name}"
            if any(record.name == full for record in self._records.values()):
                raise Refused(409, f"endpoint {name} already exists")
            record = EndpointRecord(id=f"ep_{uuid.uuid4().hex[:20]}", name=full, created_at=datetime.now(UTC))
            self._records[record.id] = record
            return self._endpoint(record)

    def describe_all(self) -> list[dict[str, Any]]:
        """Return all endpoints, oldest first."""
        with self._lock:
            return [self._endpoint(record) for record in self._records.values()]

    def get(self, endpoint_id: str) -> dict[str, Any]:
        """Return one endpoint. Raises Refused."""
        with self._lock:
            return self._endpoint(self._found(endpoint_id))

    def route(self, endpoint_id: str, split: list[dict[str, Any]], etag: str | None) -> dict[str, Any]:
        """Set which deployments receive traffic. Raises Refused."""
        with self._lock:
            record = self._found(endpoint_id)
            if etag is not None and etag != record.etag:
                raise Refused(409, "the etag is stale: read the endpoint again")
            for entry in split:
                if entry.get("deploymentId") not in record.deployments:
                    raise Refused(400, "trafficSplit names a deployment that is not of this endpoint")
            record.split, record.etag = split, uuid.uuid4().hex
            return self._endpoint(record)

    def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint without deployments. Raises Refused."""
        with self._lock:
            if self._found(endpoint_id).deployments:
                raise Refused(400, "the endpoint has deployments: delete them first")
            del self._records[endpoint_id]

    def deploy(
        self, endpoint_id: str, *, name: str, model: str, config: str, hardware: str, autoscaling: dict[str, Any]
    ) -> dict[str, Any]:
        """Create a deployment below an endpoint. Raises Refused."""
        with self._lock:
            endpoint = self._found(endpoint_id)
            record = DeploymentRecord(
                id=f"dep_{uuid.uuid4().hex[:20]}",
                name=name,
                model=model,
                config=config,
                hardware=hardware,
                autoscaling=autoscaling,
                created_at=datetime.now(UTC),
                since=self._clock(),
            )
            endpoint.deployments[record.id] = record
            return self._deployment(endpoint, record)

    def deployment(self, endpoint_id: str, deployment_id: str) -> dict[str, Any]:
        """Return one deployment. Raises Refused."""
        with self._lock:
            return self._deployment(self._found(endpoint_id), self._below(endpoint_id, deployment_id))

    def scale(self, endpoint_id: str, deployment_id: str, autoscaling: dict[str, Any]) -> dict[str, Any]:
        """Change a deployment's replicas. Raises Refused, also for one that is stopping and should start again."""
        with self._lock:
            record = self._below(endpoint_id, deployment_id)
            if autoscaling["maxReplicas"] and self._state(record) == "STOPPING":
                raise Refused(400, "the deployment must be stopped before it can be restarted")
            if autoscaling != record.autoscaling:
                record.autoscaling, record.since = autoscaling, self._clock()
            return self._deployment(self._found(endpoint_id), record)

    def undeploy(self, endpoint_id: str, deployment_id: str) -> None:
        """Remove a deployment that is stopped and has no traffic, as the vendor documents it. Raises Refused."""
        with self._lock:
            endpoint, record = self._found(endpoint_id), self._below(endpoint_id, deployment_id)
            if any(entry["deploymentId"] == deployment_id for entry in endpoint.split):
                raise Refused(400, "the deployment is in the endpoint's traffic split")
            if self._state(record) != "STOPPED":
                raise Refused(400, "the deployment must be stopped before it can be deleted")
            del endpoint.deployments[deployment_id]

    def names(self, *, routed: bool) -> set[str]:
        """Return the endpoints that have a ready deployment, with traffic to it or without."""
        with self._lock:
            found = set()
            for record in self._records.values():
                ready = {one.id for one in record.deployments.values() if self._state(one) == "READY"}
                live = {entry["deploymentId"] for entry in record.split if entry.get("weight")}
                if ready and bool(ready & live) == routed:
                    found.add(record.name)
            return found

    def _found(self, endpoint_id: str) -> EndpointRecord:
        if endpoint_id not in self._records:
            raise not_found("endpoint")
        return self._records[endpoint_id]

    def _below(self, endpoint_id: str, deployment_id: str) -> DeploymentRecord:
        endpoint = self._found(endpoint_id)
        if deployment_id not in endpoint.deployments:
            raise not_found("deployment")
        return endpoint.deployments[deployment_id]

    def _state(self, record: DeploymentRecord) -> str:
        done = self._clock() - record.since >= self._delay
        if not record.autoscaling.get("maxReplicas"):
            return "STOPPED" if done and not self._never_stopped else "STOPPING"
        ready = "FAILED" if self._fails else "READY"
        return ready if done else "PROVISIONING"

    def _endpoint(self, record: EndpointRecord) -> dict[str, Any]:
        """An ``Endpoint`` of together 3.1.1, types/endpoint.py."""
        return {
            "id": record.id,
            "name": record.name,
            "projectId": self._project,
            "createdAt": stamp(record.created_at),
            "updatedAt": stamp(record.created_at),
            "endpointType": "ENDPOINT_TYPE_DEDICATED",
            "etag": record.etag,
            "trafficSplit": list(record.split),
            "visibility": "VISIBILITY_PRIVATE",
            "deployments": [self._summary(record, one) for one in record.deployments.values()],
        }

    def _summary(self, endpoint: EndpointRecord, record: DeploymentRecord) -> dict[str, Any]:
        live = any(entry["deploymentId"] == record.id for entry in endpoint.split)
        return {
            "id": record.id,
            "name": record.name,
            "model": record.model,
            "modelId": record.model.split("/")[3],
            "autoscaling": record.autoscaling,
            "createdAt": stamp(record.created_at),
            "estimatedEffectiveTrafficShare": 1.0 if live else 0.0,
            "state": f"DEPLOYMENT_STATE_{self._state(record)}",
            "trafficMode": "TRAFFIC_MODE_LIVE",
            "hardware": record.hardware,
        }

    def _deployment(self, endpoint: EndpointRecord, record: DeploymentRecord) -> dict[str, Any]:
        """An ``EndpointDeployment`` of together 3.1.1, types/endpoint_deployment.py."""
        summary = self._summary(endpoint, record)
        state = summary.pop("state")
        share = summary.pop("estimatedEffectiveTrafficShare")
        return {
            **summary,
            "config": record.config,
            "configId": record.config.split("/")[3],
            "endpointId": endpoint.id,
            "etag": endpoint.etag,
            "estimatedEffectiveTrafficShare": share,
            "modelRevisionId": "rev_sandbox",
            "projectId": self._project,
            "status": {"message": "no replica became ready" if self._fails else "", "state": state},
            "updatedAt": stamp(record.created_at),
        }
