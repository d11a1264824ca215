"""The sandbox service's upload jobs: taken, run in threads of their own, and told as the documented API tells them."""

from __future__ import annotations

import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import urlsplit

from lora_packer.sandbox.archive import ArchiveRefused, inspect
from lora_packer.sandbox.faults import Faults

_MAX_ARCHIVE = 8 * 2**30  # bytes
_CHUNK = 2**20

SourceKind = Literal["remote_archive", "huggingface"]


class NameTaken(Exception):  # noqa: N818 - an answer of the service, not an error of ours
    """A model of this name exists, or is being uploaded."""


@dataclass(slots=True)
class JobRecord:
    """A job as the service remembers it. ``source`` is what it may show: never a URL's query. ``refused`` is whether it
    failed for what was fetched, and not for the fetching."""

    id: str
    model_id: str
    model_name: str
    base_model: str
    description: str | None
    source_kind: SourceKind
    source: str
    created_at: datetime
    updated_at: datetime
    status: str = "Queued"
    refused: bool = False
    updates: list[dict[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the body of ``GET /jobs/{id}``: JobInfoSuccessResponse of the service's openapi.yaml."""
        arguments = {"modelName": self.model_name, "modelSource": self.source}
        if self.description is not None:
            arguments["description"] = self.description
        return {
            "type": "adapter_upload",
            "job_id": self.id,
            "status": self.status,
            "status_updates": list(self.updates),
            "args": arguments,
            "created_at": _stamp(self.created_at),
            "updated_at": _stamp(self.updated_at),
        }


class Jobs:
    """Every job since the start, and the threads that run them.

    Args:
        account: the name that goes before each model's.
        delay: seconds that each state lasts at least.
        faults: what goes wrong.
        now: the wall clock.
    """

    def __init__(
        self, *, account: str, delay: float, faults: Faults, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._account = account
        self._delay = delay + faults.slow
        self._faults = faults
        self._now = now
        self._lock = threading.Lock()
        self._records: dict[str, JobRecord] = {}
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()

    def create(
        self,
        *,
        model_name: str,
        model_source: str,
        kind: SourceKind,
        base_model: str,
        description: str | None,
        model_id: str | None = None,
    ) -> JobRecord:
        """Take a submission, start its job and return it. Raises NameTaken."""
        now = self._now()
        record = JobRecord(
            id=f"job-{uuid.uuid4()}",
            model_id=model_id or f"model-{uuid.uuid4()}",
            model_name=f"{self._account}/{model_name}",
            base_model=base_model,
            description=description,
            source_kind=kind,
            source=_without_query(model_source) if kind == "remote_archive" else model_source,
            created_at=now,
            updated_at=now,
        )
        thread = threading.Thread(target=self._run, args=(record, model_source), name=record.id, daemon=True)
        with self._lock:
            if any(old.model_name == record.model_name and old.status != "Failed" for old in self._records.values()):
                raise NameTaken
            record.updates.append(self._update("Queued", "job created"))
            self._records[record.id] = record
            self._threads.append(thread)
        thread.start()
        return record

    def describe(self, job_id: str) -> dict[str, Any] | None:
        """Return the answer about one job, or None where there is no such job."""
        with self._lock:
            record = self._records.get(job_id)
            return record.to_json() if record else None

    def describe_all(self) -> list[dict[str, Any]]:
        """Return the answers about all jobs, oldest first."""
        with self._lock:
            return [record.to_json() for record in self._records.values()]

    def records(self) -> list[JobRecord]:
        """Return all jobs, oldest first."""
        with self._lock:
            return list(self._records.values())

    def uploaded(self) -> list[str]:
        """Return the names of the models whose upload is complete."""
        with self._lock:
            return [record.model_name for record in self._records.values() if record.status == "Complete"]

    def join(self, timeout: float = 30.0) -> None:
        """Wait until every job has ended (seconds per job)."""
        for thread in tuple(self._threads):
            thread.join(timeout)

    def stop(self) -> None:
        """End every job's thread where it stands."""
        self._stopped.set()
        self.join(5.0)

    def _run(self, record: JobRecord, model_source: str) -> None:
        if self._stopped.wait(self._delay):
            return
        if self._faults.stuck:
            self._move(record, "Processing", "processing model_source")
            return
        self._move(record, "Running", "downloading model_source")
        if self._stopped.wait(self._delay):
            return
        try:
            self._take(record, model_source)
        except SourceUnreachable as trouble:
            if self._faults.stuck_unreachable:
                self._move(record, "Processing", "processing model_source")
            else:
                self._move(record, "Failed", str(trouble))
        except ArchiveRefused as refusal:
            record.refused = True
            self._move(record, "Failed", str(refusal))
        except Exception as bug:  # noqa: BLE001 - a job that dies without a word would look like one that runs forever
            self._move(record, "Failed", f"internal error: {type(bug).__name__}")
        else:
            self._move(record, "Complete", "Job is Complete")

    def _take(self, record: JobRecord, model_source: str) -> None:
        if record.source_kind == "huggingface":
            raise SourceUnreachable("could not download model_source: this sandbox reaches no Hugging Face Hub")
        with tempfile.TemporaryDirectory(prefix="lora-packer-sandbox-") as folder:
            archive = Path(folder) / "archive"
            with archive.open("wb") as file:
                _download(model_source, file, self._stopped)
            inspect(archive)
        if self._faults.fail_job is not None:
            raise ArchiveRefused(self._faults.fail_job)

    def _move(self, record: JobRecord, status: str, message: str) -> None:
        with self._lock:
            if self._stopped.is_set():
                return
            record.status = status
            record.updated_at = self._now()
            record.updates.append(self._update(status, message))

    def _update(self, status: str, message: str) -> dict[str, str]:
        return {"status": status, "message": message, "timestamp": _stamp(self._now())}


class SourceUnreachable(Exception):  # noqa: N818 - a verdict of the service, not an error of ours
    """The archive could not be downloaded; the message says why, without the URL."""


def _download(url: str, file: IO[bytes], stopped: threading.Event) -> None:
    """Fetch the archive with a plain GET, as anybody who has the URL could."""
    import httpx2

    loopback = (urlsplit(url).hostname or "") in ("127.0.0.1", "::1", "localhost")
    try:
        with (
            httpx2.Client(timeout=30.0, trust_env=not loopback) as client,
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != 200:
                raise SourceUnreachable(f"could not download model_source: HTTP {response.status_code}")
            received = 0
            for chunk in response.iter_raw(_CHUNK):
                received += len(chunk)
                if received > _MAX_ARCHIVE:
                    raise SourceUnreachable("could not download model_source: the archive is too large")
                if stopped.is_set():
                    raise SourceUnreachable("could not download model_source: the service stops")
                file.write(chunk)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceUnreachable(f"could not download model_source: {type(error).__name__}") from error


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
