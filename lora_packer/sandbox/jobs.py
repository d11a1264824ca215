"""The sandbox service's upload jobs: taken, run in threads of their own, and told as the documented API tells them."""

from __future__ import annotations

import io
import json
import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import quote, urlsplit

from lora_packer.errors import InputError
from lora_packer.http import connect
from lora_packer.redact import Secret
from lora_packer.sandbox.archive import ArchiveRefused, inspect, inspect_folder
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.hub import LocalHub

_MAX_ARCHIVE = 8 * 2**30  # bytes
_CHUNK = 2**20

HUB_PAGES = "https://huggingface.co/"

SourceKind = Literal["remote_archive", "huggingface"]


class NameTaken(Exception):  # noqa: N818 - an answer of the service, not an error of ours
    """A model of this name exists, or is being uploaded."""


@dataclass(slots=True)
class JobRecord:
    """A job as the service remembers it. ``source`` is what it may show: never a URL's query. ``refused`` is whether it
    failed for what was fetched, and not for the fetching; ``files`` are the sizes of what was fetched."""

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
    files: dict[str, int] = field(default_factory=dict)
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
        hub: where Hub repositories are fetched from; None is nowhere.
        prefix: what the ids of jobs begin with.
        now: the wall clock.
    """

    def __init__(
        self,
        *,
        account: str,
        delay: float,
        faults: Faults,
        hub: LocalHub | None = None,
        prefix: str = "job-",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._account = account
        self._delay = delay + faults.slow
        self._faults = faults
        self._hub = hub
        self._prefix = prefix
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
        hf_token: str | None = None,
    ) -> JobRecord:
        """Take a submission, start its job and return it. Raises NameTaken."""
        now = self._now()
        record = JobRecord(
            id=f"{self._prefix}{uuid.uuid4()}",
            model_id=model_id or f"model-{uuid.uuid4()}",
            model_name=f"{self._account}/{model_name}",
            base_model=base_model,
            description=description,
            source_kind=kind,
            source=_without_query(model_source) if kind == "remote_archive" else model_source,
            created_at=now,
            updated_at=now,
        )
        token = Secret(hf_token) if hf_token else None
        thread = threading.Thread(target=self._run, args=(record, model_source, token), name=record.id, daemon=True)
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

    def forget(self, model_id: str) -> None:
        """Forget the jobs of a model that was deleted: its name is free again."""
        with self._lock:
            for job_id in [one.id for one in self._records.values() if one.model_id == model_id]:
                del self._records[job_id]

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

    def _run(self, record: JobRecord, model_source: str, token: Secret | None) -> None:
        if self._stopped.wait(self._delay):
            return
        if self._faults.stuck:
            self._move(record, "Processing", "processing model_source")
            return
        self._move(record, "Running", "downloading model_source")
        if self._stopped.wait(self._delay):
            return
        try:
            self._take(record, model_source, token)
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

    def _take(self, record: JobRecord, model_source: str, token: Secret | None) -> None:
        with tempfile.TemporaryDirectory(prefix="lora-packer-sandbox-") as name:
            folder = Path(name)
            if record.source_kind == "huggingface":
                if self._hub is None:
                    raise SourceUnreachable("could not download model_source: this sandbox reaches no Hugging Face Hub")
                _download_repo(self._hub.endpoint, model_source, token, folder, self._stopped)
                record.files = inspect_folder(folder)
            else:
                archive = folder / "archive"
                with archive.open("wb") as file:
                    _download(model_source, file, self._stopped)
                record.files = inspect(archive)
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


def _download(url: str, file: IO[bytes], stopped: threading.Event, token: Secret | None = None) -> None:
    """Fetch an archive with a plain GET, as anybody who has the URL could; or a file of the Hub, with a token."""
    import httpx2

    headers = {"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token.reveal()}"} if token else {})
    try:
        with (
            connect(url, timeout=30.0, headers=headers) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                code = response.headers.get("X-Error-Code")
                answer = f"HTTP {response.status_code}" + (f" ({code})" if code else "")
                raise SourceUnreachable(f"could not download model_source: {answer}")
            received = 0
            for chunk in response.iter_raw(_CHUNK):
                received += len(chunk)
                if received > _MAX_ARCHIVE:
                    raise SourceUnreachable("could not download model_source: the archive is too large")
                if stopped.is_set():
                    raise SourceUnreachable("could not download model_source: the service stops")
                file.write(chunk)
    except InputError as error:
        raise SourceUnreachable(f"could not download model_source: {error.message}") from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceUnreachable(f"could not download model_source: {type(error).__name__}") from error


def _download_repo(endpoint: str, source: str, token: Secret | None, folder: Path, stopped: threading.Event) -> None:
    """Fetch the default branch of a Hub repository, named by its page or its id, into a folder."""
    repo = source.removeprefix(HUB_PAGES).strip("/")
    told = io.BytesIO()
    _download(f"{endpoint}/api/models/{repo}", told, stopped, token)
    for name in (item["rfilename"] for item in json.loads(told.getvalue())["siblings"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            _download(f"{endpoint}/{repo}/resolve/main/{quote(name)}", file, stopped, token)


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
