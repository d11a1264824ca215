"""What version 2 tells of endpoints and what runs below them: a reader for each shape, which every call uses.

The shapes are those of together 3.1.1, ``types/``. An id, the list of deployments and the traffic decide what is
created and ended: they are required, or have to be lists. The rest is read leniently.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.together.answers import (
    LONGEST_NAME,
    count,
    fields,
    number,
    objects,
    optional_id,
    optional_list,
    required_id,
    text,
)
from lora_packer.together.attached import Attached, Cluster
from lora_packer.together.refusal import Purpose

_MODEL = re.compile(r"projects/[^/]+/models/([^/]+)(?:/.*)?")
_CONFIG = re.compile(r"projects/([A-Za-z0-9_-]+)/configs/([A-Za-z0-9_-]+)")


@frozen
class Share:
    """A deployment's share of an endpoint's traffic.

    Attributes:
        deployment_id: whose it is.
        weight: how much of it; 0 is none.
        told: all that the service tells of it, which goes back to it as it was.
    """

    deployment_id: str
    weight: float
    told: Mapping[str, Any] = field(repr=False)


@frozen
class ToldDeployment:
    """A deployment as the service tells it.

    Attributes:
        id, name: its own; the name is empty where none is told.
        state: without its prefix; PROVISIONING where none is told yet.
        tells_state: whether one is told.
        model_id: of what it serves.
        hardware: the machine of one replica.
        config: its configuration's project and id.
        min_replicas, max_replicas, ready_replicas: how many there are.
        reason: the service's words about the state.
    """

    id: str
    name: str = ""
    state: str = "PROVISIONING"
    tells_state: bool = False
    model_id: str | None = None
    hardware: str | None = None
    config: tuple[str, str] | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    ready_replicas: int | None = None
    reason: str = ""


@frozen
class ToldEndpoint:
    """An endpoint as the service tells it.

    Attributes:
        id, name: its own; None where no name is told.
        etag: what a change of it has to name.
        split: which deployments get traffic, and how much of it.
        deployments: those that it tells by itself: the newest.
    """

    id: str
    name: str | None = None
    etag: str | None = field(default=None, repr=False)
    split: tuple[Share, ...] = ()
    deployments: tuple[ToldDeployment, ...] = ()

    def weight_of(self, deployment_id: str) -> float:
        """Return the deployment's weight in the traffic; 0 where it gets none."""
        return next((one.weight for one in self.split if one.deployment_id == deployment_id), 0.0)

    def has_traffic(self, deployment_id: str) -> bool:
        """Whether some of the traffic goes to the deployment."""
        return any(one.deployment_id == deployment_id and one.weight for one in self.split)


def endpoint_in(answer: Any, purpose: Purpose) -> ToldEndpoint:
    """Return the endpoint that an answer describes. Raises ServiceError, which names the field."""
    what = "an endpoint"
    found, item = required_id(answer, "id", purpose, what), fields(answer)
    etag = item.get("etag")
    shares = optional_list(item, "trafficSplit", purpose, what)
    below = optional_list(item, "deployments", purpose, what)
    return ToldEndpoint(
        id=found,
        name=text(item.get("name"), limit=LONGEST_NAME),
        etag=etag if isinstance(etag, str) else None,
        split=tuple(_share(one, purpose) for one in shares),
        deployments=tuple(deployment_in(one, purpose) for one in below),
    )


def deployment_in(answer: Any, purpose: Purpose) -> ToldDeployment:
    """Return the deployment that an answer describes. Raises ServiceError, which names the field."""
    found = required_id(answer, "id", purpose, "a deployment")
    return _deployment(fields(answer), found)


def changed_deployment(answer: Any, deployment_id: str) -> ToldDeployment:
    """Return the deployment that was changed, by what the answer tells of it."""
    return _deployment(fields(answer), deployment_id)


def id_in(answer: Any) -> str | None:
    """Return the id of what an answer describes; None where it tells none."""
    return optional_id(fields(answer).get("id"))


def attachment_in(answer: Any, purpose: Purpose) -> Attached:
    """Return the attached adapter that an answer describes. Raises ServiceError, which names the field."""
    found, item = required_id(answer, "id", purpose, "an attachment"), fields(answer)
    return Attached(
        id=found,
        model=text(item.get("adapterModelId")) or "",
        clusters=tuple(_cluster(one) for one in objects(item.get("perCluster"))),
        etag=text(item.get("etag")) or "",
    )


def _share(item: dict[str, Any], purpose: Purpose) -> Share:
    of = required_id(item, "deploymentId", purpose, "a share of the traffic")
    return Share(of, number(item.get("weight")) or 0.0, item)


def _deployment(item: dict[str, Any], found: str) -> ToldDeployment:
    scaling, status = fields(item.get("autoscaling")), fields(item.get("status"))
    state = text(item.get("state") or status.get("state"))
    path = _CONFIG.fullmatch(text(item.get("config")) or "")
    return ToldDeployment(
        id=found,
        name=text(item.get("name"), limit=LONGEST_NAME) or "",
        state=state.removeprefix("DEPLOYMENT_STATE_") if state else "PROVISIONING",
        tells_state="state" in item or "status" in item,
        model_id=_model_id(item),
        hardware=text(item.get("hardware")),
        config=(path[1], path[2]) if path else None,
        min_replicas=count(scaling.get("minReplicas")),
        max_replicas=count(scaling.get("maxReplicas")),
        ready_replicas=count(item.get("readyReplicas") if "readyReplicas" in item else status.get("readyReplicas")),
        reason=text(status.get("message"), limit=400) or "",
    )


def _model_id(item: dict[str, Any]) -> str | None:
    """The id of the model that a deployment serves; None where it tells none."""
    path = _MODEL.fullmatch(text(item.get("model")) or "")
    return path[1] if path else text(item.get("modelId"))


def _cluster(item: dict[str, Any]) -> Cluster:
    valid = item.get("adapterValid")
    why = (item.get("adapterValidReason") if valid is False else None) or item.get("message") or item.get("reason")
    return Cluster(
        id=text(item.get("clusterId")) or "?",
        state=(text(item.get("state")) or "PENDING").removeprefix("ADAPTER_LOAD_STATE_"),
        valid=valid if isinstance(valid, bool) else None,
        reason=text(why, limit=400) or "",
    )
