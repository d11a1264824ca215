"""The sandbox's endpoints of version 2: deployments below an endpoint, and the split of the traffic between them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from lora_packer.sandbox.answers import Refused, not_found
from lora_packer.sandbox.deployment_records import (
    AttachedRecord,
    DeploymentRecord,
    EndpointRecord,
    attached_told,
    deployment_told,
    endpoint_told,
    is_live,
)

# The words of docs.together.ai/docs/dedicated-endpoints/manage, "Troubleshooting".
_TERMINAL = "the deployment is in a terminal FAILED state and cannot be restarted; create a new deployment"
_REFERENCED = (
    "the deployment is referenced by an endpoint's traffic split and cannot be deleted; please drop traffic split "
    "weight to 0 before deleting the deployment"
)


class Deployments:
    """Every endpoint of the project since the start.

    Args:
        project: the project's id.
        slug: the project's name, which goes before each endpoint's.
        delay: seconds that each state on the way lasts.
        fails: whether those that should start end as ``FAILED``.
        never_stopped: whether those that should stop stay ``STOPPING``.
        rejects_adapters: whether an adapter that is attached is found not to be valid.
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
        rejects_adapters: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._project, self._slug, self._delay, self._clock = project, slug, delay, clock
        self._fails, self._never_stopped, self._rejects_adapters = fails, never_stopped, rejects_adapters
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
            return endpoint_told(record, self._project, self._state)

    def describe_all(self) -> list[dict[str, Any]]:
        """Return all endpoints, oldest first."""
        with self._lock:
            return [endpoint_told(record, self._project, self._state) for record in self._records.values()]

    def get(self, endpoint_id: str) -> dict[str, Any]:
        """Return one endpoint. Raises Refused."""
        with self._lock:
            return endpoint_told(self._found(endpoint_id), self._project, self._state)

    def route(self, endpoint_id: str, split: list[dict[str, Any]], etag: str | None) -> dict[str, Any]:
        """Set which deployments receive traffic. Raises Refused."""
        with self._lock:
            record = self._found(endpoint_id)
            if etag is not None and etag != record.etag:
                raise Refused(409, "the etag is stale: read the endpoint again")
            for entry in split:
                if not isinstance(entry.get("weight"), int | float):
                    raise Refused(422, "each entry of trafficSplit needs a weight", param="trafficSplit")
                if entry.get("deploymentId") not in record.deployments:
                    raise Refused(400, "trafficSplit names a deployment that is not of this endpoint")
            record.split, record.etag = split, uuid.uuid4().hex
            return endpoint_told(record, self._project, self._state)

    def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint without deployments. Raises Refused."""
        with self._lock:
            if self._found(endpoint_id).deployments:
                raise Refused(400, "the endpoint has deployments: delete them first")
            del self._records[endpoint_id]

    def deploy(
        self,
        endpoint_id: str,
        *,
        name: str,
        model: str,
        config: str,
        hardware: str,
        autoscaling: dict[str, Any],
        inactive_timeout: int = 0,
        validate_only: bool = False,
    ) -> dict[str, Any]:
        """Create a deployment below an endpoint; with ``validate_only`` nothing is created. Raises Refused."""
        with self._lock:
            endpoint = self._found(endpoint_id)
            if any(one.name == name for one in endpoint.deployments.values()):
                raise Refused(409, f"deployment {name} already exists")
            record = DeploymentRecord(
                id=f"dep_{uuid.uuid4().hex[:20]}",
                name=name,
                model=model,
                config=config,
                hardware=hardware,
                autoscaling=autoscaling,
                created_at=datetime.now(UTC),
                since=self._clock(),
                inactive_timeout=inactive_timeout,
            )
            if not validate_only:
                endpoint.deployments[record.id] = record
            return self._deployment(endpoint, record)

    def below(self, endpoint_id: str) -> list[dict[str, Any]]:
        """Return every deployment below an endpoint, newest first. Raises Refused."""
        with self._lock:
            record = self._found(endpoint_id)
            return [self._deployment(record, one) for one in reversed(record.deployments.values())]

    def deployment(self, endpoint_id: str, deployment_id: str) -> dict[str, Any]:
        """Return one deployment. Raises Refused."""
        with self._lock:
            return self._deployment(self._found(endpoint_id), self._below(endpoint_id, deployment_id))

    def scale(self, endpoint_id: str, deployment_id: str, autoscaling: dict[str, Any]) -> dict[str, Any]:
        """Change a deployment's replicas. Raises Refused, also for one that is stopping and should start again."""
        with self._lock:
            record = self._below(endpoint_id, deployment_id)
            starts = autoscaling["maxReplicas"] and not record.autoscaling.get("maxReplicas")
            if starts and self._state(record) == "STOPPING":
                raise Refused(400, "the deployment must be stopped before it can be restarted")
            if autoscaling["maxReplicas"] and self._state(record) == "FAILED":
                raise Refused(400, _TERMINAL)
            if autoscaling != record.autoscaling:
                record.autoscaling, record.since = autoscaling, self._clock()
            return self._deployment(self._found(endpoint_id), record)

    def undeploy(self, endpoint_id: str, deployment_id: str) -> None:
        """Remove a deployment that is stopped and has no traffic, as the vendor documents it. Raises Refused."""
        with self._lock:
            endpoint, record = self._found(endpoint_id), self._below(endpoint_id, deployment_id)
            if any(entry["deploymentId"] == deployment_id and entry.get("weight") for entry in endpoint.split):
                raise Refused(400, _REFERENCED)
            if self._state(record) != "STOPPED":
                raise Refused(400, "the deployment must be stopped before it can be deleted")
            endpoint.split = [entry for entry in endpoint.split if entry["deploymentId"] != deployment_id]
            del endpoint.deployments[deployment_id]

    def attach(self, endpoint_id: str, deployment_id: str, model_id: str) -> dict[str, Any]:
        """Attach an adapter to a deployment. Raises Refused."""
        with self._lock:
            record = self._below(endpoint_id, deployment_id)
            if any(one.model_id == model_id for one in record.adapters.values()):
                raise Refused(409, "the adapter is attached to this deployment already")
            made = AttachedRecord(f"dad_{uuid.uuid4().hex[:20]}", model_id, self._clock())
            record.adapters[made.id] = made
            return self._attached(made)

    def attached(self, endpoint_id: str, deployment_id: str) -> list[dict[str, Any]]:
        """Return what is attached to a deployment. Raises Refused."""
        with self._lock:
            record = self._below(endpoint_id, deployment_id)
            return [self._attached(one) for one in record.adapters.values()]

    def detach(self, endpoint_id: str, deployment_id: str, attachment_id: str, etag: str | None) -> None:
        """Detach an adapter. Raises Refused."""
        with self._lock:
            record = self._below(endpoint_id, deployment_id)
            if attachment_id not in record.adapters:
                raise not_found("adapter")
            if etag != record.adapters[attachment_id].etag:
                raise Refused(409, "the etag is stale: read the adapter again")
            del record.adapters[attachment_id]

    def served(self, *, routed: bool) -> dict[str, str]:
        """Return what answers by which name: the id of the model by the endpoint's name, and of each adapter that is
        attached by its own and by both; ``routed`` is whether traffic goes there."""
        with self._lock:
            found: dict[str, str] = {}
            for record in self._records.values():
                ready = [one for one in record.deployments.values() if self._state(one) == "READY"]
                live = [one for one in ready if any(is_live(entry, one.id) for entry in record.split)]
                if ready and bool(live) == routed:
                    found[record.name] = (live or ready)[0].model.split("/")[3]
                if routed:
                    for one in live:
                        for each in one.adapters.values():
                            found |= {each.model_id: each.model_id, f"{record.name}:{each.model_id}": each.model_id}
            return found

    def names(self, *, routed: bool) -> set[str]:
        """Return the endpoints that have a ready deployment, with traffic to it or without."""
        return set(self.served(routed=routed))

    def uses(self, model_id: str) -> bool:
        """Whether a deployment serves this model, or has it attached."""
        with self._lock:
            every = [one for record in self._records.values() for one in record.deployments.values()]
            return any(
                model_id in (one.model.split("/")[3], *(each.model_id for each in one.adapters.values()))
                for one in every
            )

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

    def _deployment(self, endpoint: EndpointRecord, record: DeploymentRecord) -> dict[str, Any]:
        return deployment_told(endpoint, record, self._project, self._state, fails=self._fails)

    def _attached(self, attached: AttachedRecord) -> dict[str, Any]:
        age = self._clock() - attached.since
        return attached_told(attached, age, self._delay, is_rejected=self._rejects_adapters)
