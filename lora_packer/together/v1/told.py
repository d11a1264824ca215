"""What version 1 tells: a reader for each shape, which every call uses.

The shapes are those of openapi.yaml in github.com/togethercomputer/openapi. Ids and states are required where requests
are made of them; the rest is read leniently, for the page's examples leave it out.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from lora_packer.frozen import frozen
from lora_packer.redact import escape, scrub
from lora_packer.together import refusal
from lora_packer.together.answers import LONGEST_NAME, count, fields, listed, number, objects, optional_id, text
from lora_packer.together.endpoints import Endpoint
from lora_packer.together.refusal import Purpose
from lora_packer.together.submission import Job, StatusUpdate, canonical_status, told_source
from lora_packer.together.wanted import Hardware

_MAX_UPDATES = 200  # of a job, the last ones


@frozen
class Listed:
    """An endpoint in a list, which tells little of it: its own name and its model's; None where they are not told."""

    id: str | None
    name: str | None = None
    model: str | None = None


@frozen
class ListedJob:
    """An upload job in a list.

    Attributes:
        job: the job; None where no id or no status is told.
        name: of the model that it is to make; empty where that is not told.
        created_at: when, as the service writes it; empty where that is not told.
        status: in the service's word; None where none is told.
        is_adapter: whether it is an adapter's; where no type is told, it is.
        description: as it was given.
        address: what is fetched. It may be a key itself.
    """

    job: Job | None
    name: str
    created_at: str
    status: str | None
    is_adapter: bool
    description: str | None
    address: object = field(repr=False)


def submitted_in(answer: Any, purpose: Purpose, status: str) -> Job:
    """Return the job that an upload began. Raises ServiceError where no job is named."""
    data = fields(fields(answer).get("data"))
    found = optional_id(data.get("job_id"))
    if found is None:
        raise refusal.without(purpose, answer, "names no job in 'data.job_id'")
    return Job(
        id=found,
        status=status,
        model_name=text(data.get("model_name"), *purpose.secrets),
        model_id=text(data.get("model_id"), *purpose.secrets),
    )


def job_in(answer: Any, job_id: str, purpose: Purpose) -> Job:
    """Return the job that an answer describes. Raises ServiceError where it names no status."""
    found = _job(fields(answer), job_id)
    if found is None:
        raise refusal.without(purpose, answer, "names no status")
    return found


def jobs_in(answer: Any, purpose: Purpose) -> list[ListedJob]:
    """Return the jobs of a list, or of a mapping by their ids, as one of the service's other clients reads it
    (github.com/oumi-ai/oumi, src/oumi/deploy/together_client.py), the newest first. Raises ServiceError."""
    data = fields(answer).get("data")
    if isinstance(data, dict):
        items = [{"job_id": job_id, **fields(item)} for job_id, item in data.items()]
    else:
        items = listed(answer, purpose)
    return sorted((_listed_job(item) for item in items), key=lambda one: one.created_at, reverse=True)


def ids_in(answer: Any, purpose: Purpose) -> list[str]:
    """Return the ids of what an answer lists. Raises ServiceError."""
    return [found for item in listed(answer, purpose) if isinstance(found := item.get("id"), str)]


def hardware_in(answer: Any, purpose: Purpose) -> list[Hardware]:
    """Return the hardware that an answer lists; what has no id is none. Raises ServiceError."""
    return [one for item in listed(answer, purpose) if (one := _hardware(item)).id]


def endpoint_in(answer: Any, purpose: Purpose, cents_per_minute: float | None = None) -> Endpoint:
    """Return the endpoint that an answer describes. Raises ServiceError where it has no id or no state."""
    found = _endpoint(fields(answer), cents_per_minute)
    if found is None:
        raise refusal.without(purpose, answer, "describes no endpoint: its 'id' or its 'state' is missing or no text")
    return found


def own_name_in(answer: Any) -> str | None:
    """Return an endpoint's own name, which is not its model's; None where it is not told."""
    return text(fields(answer).get("name"), limit=LONGEST_NAME)


def endpoints_in(answer: Any, purpose: Purpose) -> list[tuple[Listed, Endpoint | None]]:
    """Return the endpoints that an answer lists, each as far as a list tells of it. Raises ServiceError."""
    return [(_listed(item), _endpoint(item, None)) for item in listed(answer, purpose)]


def _listed(item: dict[str, Any]) -> Listed:
    return Listed(optional_id(item.get("id")), own_name_in(item), text(item.get("model"), limit=LONGEST_NAME))


def _endpoint(item: dict[str, Any], cents_per_minute: float | None) -> Endpoint | None:
    found, state = optional_id(item.get("id")), text(item.get("state"))
    if found is None or not state:
        return None
    model, scaling = text(item.get("model"), limit=LONGEST_NAME), fields(item.get("autoscaling"))
    return Endpoint(
        id=found,
        # An adapter is called by the name of its upload: docs.together.ai/docs/dedicated-endpoints/v1/adapter.
        name=model or found,
        state=state.upper(),
        model=model,
        hardware=text(item.get("hardware")),
        cents_per_minute=cents_per_minute,
        min_replicas=count(scaling.get("min_replicas")),
        max_replicas=count(scaling.get("max_replicas")),
    )


def _hardware(item: dict[str, Any]) -> Hardware:
    specs = fields(item.get("specs"))
    return Hardware(
        id=text(item.get("id")) or "",
        gpu_type=text(specs.get("gpu_type")) or "",
        gpu_count=count(specs.get("gpu_count")),
        cents_per_minute=number(fields(item.get("pricing")).get("cents_per_minute")),
        availability=text(fields(item.get("availability")).get("status")),
    )


def _listed_job(item: dict[str, Any]) -> ListedJob:
    args, found = fields(item.get("args")), optional_id(item.get("job_id"))
    return ListedJob(
        job=_job(item, found) if found is not None else None,
        name=text(_name(item), limit=LONGEST_NAME) or "",
        created_at=text(item.get("created_at")) or "",
        status=text(item.get("status")),
        is_adapter=item.get("type") in ("adapter_upload", None),
        description=text(args.get("description"), limit=400),
        address=args.get("modelSource"),
    )


def _job(item: dict[str, Any], job_id: str) -> Job | None:
    """The job that an answer describes; None where it names no status."""
    status = item.get("status")
    if not isinstance(status, str) or not status.strip():
        return None
    status = scrub(status)
    return Job(
        id=job_id,
        status=canonical_status(status),
        model_name=text(_name(item), limit=LONGEST_NAME),
        updates=tuple(_update(one) for one in objects(item.get("status_updates"))[-_MAX_UPDATES:]),
        raw_status=escape(status, 60),
        source=told_source(fields(item.get("args")).get("modelSource")),
    )


def _update(item: dict[str, Any]) -> StatusUpdate:
    return StatusUpdate(
        status=text(item.get("status")) or "",
        message=text(item.get("message"), limit=400) or "",
        timestamp=text(item.get("timestamp")) or "",
    )


def _name(item: dict[str, Any]) -> object:
    return fields(item.get("args")).get("modelName") or item.get("modelName")
