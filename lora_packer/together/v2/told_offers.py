"""What version 2 tells of configurations, machines and supported models: a reader for each shape."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.together.answers import count, fields, number, objects, required_id, text
from lora_packer.together.refusal import Purpose

_MODEL = re.compile(r"projects/([^/]+)/models/([^/]+)(?:/revisions/[^/]+)?")
_CONFIG = re.compile(r"projects/([^/]+)/configs/([^/]+)")


@frozen
class Config:
    """A configuration that deployments can have: its id, its project and what it selects, by the service's keys."""

    id: str
    project_id: str
    selectors: Mapping[str, str]

    @property
    def path(self) -> str:
        """The path that a deployment names it by."""
        return f"projects/{self.project_id}/configs/{self.id}"


@frozen
class Machine:
    """A machine that replicas run on: its name, its price in US cents an hour, whether a region has room for one."""

    name: str | None
    cents_per_hour: float | None
    availability: str | None


@frozen
class Profile:
    """One way in which a supported model is deployed.

    Attributes:
        name: what the model is called so; None where it is not.
        model_id: the ``ml_`` id of the weights; None where it names none.
        project: of which project they are.
        quantization: of the weights; empty where it names none.
        config: the configuration's project and id; None where it names none.
        gpu_type, gpu_count: the GPUs of one replica.
    """

    name: str | None
    model_id: str | None
    project: str | None
    quantization: str
    config: tuple[str, str] | None
    gpu_type: str
    gpu_count: int | None

    def __str__(self) -> str:
        return f"{self.name or 'no name'} ({', '.join(filter(None, (self.model_id, self.quantization)))})"


@frozen
class Supported:
    """A model of the catalogue.

    Attributes:
        name: its name.
        base_id: the ``ml_`` id of its base model; None where none is linked.
        profiles: how it is deployed.
        serverless: by which name it is asked without a deployment; None where it cannot be.
    """

    name: str | None
    base_id: str | None
    profiles: tuple[Profile, ...]
    serverless: str | None = None

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the models that it stands for: its base model's, and those of each quantization's weights."""
        return frozenset(filter(None, (self.base_id, *(one.model_id for one in self.profiles))))


def config_in(answer: Any, purpose: Purpose) -> Config:
    """Return the configuration that an answer describes. Raises ServiceError, which names the field."""
    what = "a configuration"
    found, project = required_id(answer, "id", purpose, what), required_id(answer, "projectId", purpose, what)
    return Config(found, project, selectors_in(answer))


def selectors_in(answer: Any) -> dict[str, str]:
    """Return what a configuration selects, by the service's keys."""
    told = objects(fields(answer).get("selectors"))
    pairs = ((text(one.get("key")), text(one.get("value"))) for one in told)
    return {key: value for key, value in pairs if key and value}


def machine_in(answer: Any) -> Machine:
    """Return the machine that an answer describes; nothing of it has to be told."""
    item = fields(answer)
    return Machine(text(item.get("name")), number(item.get("priceCentsPerHour")), _availability(item))


def supported_in(answer: Any, purpose: Purpose) -> Supported:  # noqa: ARG001 - what reads a list has it
    """Return the supported model that an answer describes; nothing of it has to be told."""
    item = fields(answer)
    profiles = objects(item.get("deploymentProfiles"))
    return Supported(
        text(item.get("name")),
        text(item.get("baseModelId")),
        tuple(_profile(one) for one in profiles),
        text(item.get("serverlessEndpoint")),
    )


def _profile(item: dict[str, Any]) -> Profile:
    model = _MODEL.fullmatch(text(item.get("model")) or "")
    path, revision = _CONFIG.fullmatch(text(item.get("config")) or ""), text(item.get("certifiedConfigRevisionId"))
    config = (path[1], path[2]) if path else (model[1], revision) if revision and model else None
    return Profile(
        name=text(item.get("modelName")),
        model_id=model[2] if model else None,
        project=model[1] if model else None,
        quantization=text(item.get("quantization")) or "",
        config=config,
        gpu_type=text(item.get("gpuType")) or "",
        gpu_count=count(item.get("gpuCount")),
    )


def _availability(item: dict[str, Any]) -> str | None:
    """Whether a region has room; None where the service does not tell."""
    rooms = [fields(one.get("headroom")) for one in objects(item.get("regions"))]
    told = [(text(room.get("relation")), number(room.get("value")) or 0) for room in rooms if room]
    if not told:
        return None
    return "available" if any(value > 0 or relation == "RELATION_GTE" for relation, value in told) else "unavailable"
