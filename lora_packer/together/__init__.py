"""Together AI's side: submit an adapter, wait for its upload job, deploy it, ask it, stop what costs money.

One small interface (``Api``) with the versions of the service's API behind it; each version is a module.
"""

from __future__ import annotations

from typing import Protocol

from lora_packer.hub import HubRepo
from lora_packer.redact import read_token
from lora_packer.together import v1, v2
from lora_packer.together.client import Client
from lora_packer.together.diagnose_job import why_it_stands_still
from lora_packer.together.endpoints import (
    Answer,
    Endpoint,
    EndpointApi,
    Hardware,
    choose_hardware,
    ensure_endpoint,
    serve,
)
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
from lora_packer.together.uploads import STALE_AFTER, UploadApi, ask_ahead, wait_for_job

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


class Api(UploadApi, EndpointApi, Protocol):
    """What every version of the service's API can do; a module is an implementation.

    Every function raises ServiceError where the service refuses or does not answer, and InputError for a name that
    cannot be one.
    """


APIS: dict[str, Api] = {"v1": v1, "v2": v2}
