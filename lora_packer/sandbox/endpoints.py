"""The sandbox's dedicated endpoints, version 1: they start after a while, answer questions, and can be stopped."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

HARDWARE = (
    # (id, GPU, link, memory in GB, count, cents a minute, availability); ids and GPUs are the service's own examples
    # (openapi.yaml), the prices are not.
    ("1x_nvidia_a100_80gb_sxm", "a100-80gb", "sxm", 80, 1, 4.5, "insufficient"),
    ("1x_nvidia_h100_80gb_sxm", "h100-80gb", "sxm", 80, 1, 6.5, "available"),
    ("2x_nvidia_a100_80gb_sxm", "a100-80gb", "sxm", 80, 2, 9.0, "available"),
    ("8x_nvidia_h200_140gb_sxm", "h200-140gb", "sxm", 140, 8, 66.0, "unavailable"),
)


@dataclass(slots=True)
class EndpointRecord:
    """An endpoint as the service remembers it; ``wanted`` is where its state moves to."""

    id: str
    name: str
    display_name: str
    model: str
    hardware: str
    owner: str
    autoscaling: dict[str, int]
    created_at: datetime
    wanted: str
    since: float
    adapters: list[str] = field(default_factory=list)

    def to_json(self, state: str) -> dict[str, Any]:
        """Return the DedicatedEndpoint of the service's openapi.yaml."""
        return {
            "object": "endpoint",
            "id": self.id,
            "name": self.name,
            "display_name": self.display_name,
            "model": self.model,
            "hardware": self.hardware,
            "type": "dedicated",
            "owner": self.owner,
            "state": state,
            "autoscaling": dict(self.autoscaling),
            "created_at": stamp(self.created_at),
        }


class Endpoints:
    """Every endpoint since the start. States follow the clock, so nothing runs in between.

    Args:
        account: whose they are.
        delay: seconds that each state on the way lasts.
        fails: whether those that should start end as ``ERROR``.
        clock: the time, in seconds.
    """

    def __init__(
        self, *, account: str, delay: float, fails: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._account, self._delay, self._fails, self._clock = account, delay, fails, clock
        self._lock = threading.Lock()
        self._records: dict[str, EndpointRecord] = {}

    def create(
        self, *, model: str, hardware: str, display_name: str, autoscaling: dict[str, int], state: str
    ) -> dict[str, Any]:
        """Create one and return its answer."""
        unique = str(uuid.uuid4())
        name = model if model.startswith(f"{self._account}/") else f"{self._account}/{model}"
        record = EndpointRecord(
            id=f"endpoint-{unique}",
            name=f"{name}-{unique[:8]}",
            display_name=display_name or model,
            model=model,
            hardware=hardware,
            owner=self._account,
            autoscaling=autoscaling,
            created_at=datetime.now(UTC),
            wanted=state,
            since=self._clock(),
        )
        with self._lock:
            self._records[record.id] = record
        return record.to_json("PENDING")

    def describe(self, endpoint_id: str) -> dict[str, Any] | None:
        """Return the answer about one, or None where there is none."""
        with self._lock:
            record = self._records.get(endpoint_id)
            return record.to_json(self._state(record)) if record else None

    def describe_all(self) -> list[dict[str, Any]]:
        """Return the answers about all, oldest first."""
        with self._lock:
            return [record.to_json(self._state(record)) for record in self._records.values()]

    def update(
        self, endpoint_id: str, *, state: str | None, display_name: str | None, autoscaling: dict[str, int] | None
    ) -> dict[str, Any] | None:
        """Change one and return its answer, or None where there is none."""
        with self._lock:
            record = self._records.get(endpoint_id)
            if record is None:
                return None
            if state is not None and state != record.wanted:
                record.wanted, record.since = state, self._clock()
            record.display_name = display_name or record.display_name
            record.autoscaling = autoscaling or record.autoscaling
            return record.to_json(self._state(record))

    def delete(self, endpoint_id: str) -> bool:
        """Remove one; whether there was one."""
        with self._lock:
            return self._records.pop(endpoint_id, None) is not None

    def served(self) -> dict[str, str]:
        """Return the names by which a model can be asked, those of models and of endpoints that serve, and what model
        that is: with an adapter that is attached too."""
        with self._lock:
            started = [record for record in self._records.values() if self._state(record) == "STARTED"]
            found = {name: record.model for record in started for name in (record.model, record.name)}
            for record in started:
                for adapter in record.adapters:
                    found |= {adapter: adapter, f"{record.name}:{adapter}": adapter}
            return found

    def attach(self, endpoint_id: str, adapter: str) -> bool:
        """Attach an adapter to one; whether there is one."""
        with self._lock:
            record = self._records.get(endpoint_id)
            if record is not None and adapter not in record.adapters:
                record.adapters.append(adapter)
            return record is not None

    def _state(self, record: EndpointRecord) -> str:
        age = self._clock() - record.since
        if record.wanted == "STOPPED":
            return "STOPPED" if age >= self._delay else "STOPPING"
        ready = "ERROR" if self._fails else "STARTED"
        return ready if age >= 2 * self._delay else "STARTING" if age >= self._delay else "PENDING"


def hardware_list(*, with_availability: bool, taken: bool = False) -> dict[str, Any]:
    """Return the answer of ``GET /hardware``: the availability is told for one model only. ``taken`` is whether none is
    to be had."""
    now = stamp(datetime.now(UTC))
    data: list[dict[str, Any]] = []
    for name, gpu, link, memory, count, cents, status in HARDWARE:
        specs = {"gpu_type": gpu, "gpu_link": link, "gpu_memory": memory, "gpu_count": count}
        entry: dict[str, Any] = {
            "object": "hardware",
            "id": name,
            "pricing": {"cents_per_minute": cents},
            "specs": specs,
            "updated_at": now,
        }
        if with_availability:
            entry["availability"] = {"status": "unavailable" if taken else status}
        data.append(entry)
    return {"object": "list", "data": data}


def stamp(moment: datetime) -> str:
    """Return a time as the service writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
