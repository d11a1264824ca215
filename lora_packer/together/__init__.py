"""Together AI's side: submit an adapter, wait for its upload job, deploy it, ask it, stop what costs money.

One small interface (``Api``) with the versions of the service's API behind it; each version is a module.
"""

from __future__ import annotations

from typing import Protocol

from lora_packer.hub import HubRepo
from lora_packer.redact import read_token
from lora_packer.together import v1, v2
from lora_packer.together.ahead import ask_ahead
from lora_packer.together.client import Client
from lora_packer.together.deploying import ensure_endpoint, serve
from lora_packer.together.diagnose_job import why_it_stands_still
from lora_packer.together.endpoint import Answer, Endpoint, Hardware, choose_hardware
from lora_packer.together.source import MINIMUM_LIFE, parse_presigned, parse_source, require_life
from lora_packer.together.submission import (
    Job,
    LocalFiles,
    ModelSource,
    Sent,
    StatusUpdate,
    Submission,
    news,
    validate_names,
)
from lora_packer.together.uploads import STALE_AFTER, wait_for_job

__all__ = [
    "APIS",
    "MINIMUM_LIFE",
    "STALE_AFTER",
    "Answer",
    "Api",
    "Client",
    "Endpoint",
    "Hardware",
    "HubRepo",
    "Job",
    "LocalFiles",
    "ModelSource",
    "Sent",
    "StatusUpdate",
    "Submission",
    "ask_ahead",
    "choose_hardware",
    "ensure_endpoint",
    "news",
    "parse_presigned",
    "parse_source",
    "read_token",
    "require_life",
    "serve",
    "validate_names",
    "wait_for_job",
    "why_it_stands_still",
]


class Api(Protocol):
    """What every version of the service's API can do; a module is an implementation.

    Every function raises ServiceError where the service refuses or does not answer, and InputError for a name that
    cannot be one.

    Attributes:
        OPTION: what a command line needs to mean this version.
    """

    OPTION: str

    def submit(self, client: Client, submission: Submission) -> Job:
        """Create the upload job, once."""

    def job(self, client: Client, job_id: str, *, retry: bool = True) -> Job:
        """Return the job as the service sees it now."""

    def find(self, client: Client, model_name: str, sent: Sent | None = None) -> Job | None:
        """Return the newest job that did not fail for a model of this name, and may be what was sent; or None."""

    def hosts(self, client: Client, base_model: str) -> bool:
        """Whether the service says that it serves the base model on dedicated endpoints."""

    def hardware(self, client: Client, model: str) -> tuple[Hardware, ...]:
        """Return what can serve the model, cheapest first."""

    def deploy(
        self, client: Client, model: str, *, hardware_id: str | None = None, display_name: str | None = None
    ) -> Endpoint:
        """Create an endpoint with one replica, once; without ``hardware_id`` on the cheapest that can be had."""

    def endpoint(self, client: Client, endpoint_id: str) -> Endpoint:
        """Return the endpoint as it is now."""

    def endpoints(self, client: Client, model: str) -> tuple[Endpoint, ...]:
        """Return the account's endpoints that serve the model, or are about to."""

    def ask(self, client: Client, name: str, prompt: str) -> Answer:
        """Ask an endpoint, by its id or its name."""

    def stop(self, client: Client, endpoint_id: str, *, delete: bool = False) -> Endpoint:
        """Stop an endpoint, or delete it for good, and return it as it is then."""


APIS: dict[str, Api] = {"v1": v1, "v2": v2}
