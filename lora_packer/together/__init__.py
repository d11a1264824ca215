"""Together AI's side: submit an adapter, look at its upload job, wait for it.

One small interface (``UploadApi``) with the versions of the service's API behind it; each version is a module.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from lora_packer.errors import ServiceError
from lora_packer.together import v1
from lora_packer.together.client import Client, read_token
from lora_packer.together.model import HubRepo, Job, ModelSource, StatusUpdate, Submission, validate_names
from lora_packer.together.source import MINIMUM_LIFE, parse_presigned, parse_source, require_life

__all__ = [
    "APIS",
    "MINIMUM_LIFE",
    "Client",
    "HubRepo",
    "Job",
    "ModelSource",
    "StatusUpdate",
    "Submission",
    "UploadApi",
    "parse_presigned",
    "parse_source",
    "read_token",
    "require_life",
    "validate_names",
]


class UploadApi(Protocol):
    """What every version of the service's API can do with an upload; a module is an implementation."""

    def submit(self, client: Client, submission: Submission) -> Job:
        """Create the upload job, once. Raises ServiceError, InputError."""

    def job(self, client: Client, job_id: str) -> Job:
        """Return the job as the service sees it now. Raises ServiceError, InputError."""

    def find(self, client: Client, model_name: str) -> Job | None:
        """Return the newest job that did not fail for a model of this name, or None. Raises ServiceError."""

    def wait(
        self,
        client: Client,
        job_id: str,
        *,
        timeout: timedelta,
        on_change: Callable[[Job], None],
        on_trouble: Callable[[ServiceError], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Job:
        """Return the job once it is complete. Raises JobFailedError, WaitTimeoutError, ServiceError, InputError."""


APIS: dict[str, UploadApi] = {"v1": v1}
