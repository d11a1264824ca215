"""Together AI's side: submit an adapter, wait for its upload job, deploy it, ask it, stop what costs money.

One small interface (``Api``) with the versions of the service's API behind it; each version is a module, and
``choose_api`` chooses.
"""

from __future__ import annotations

from lora_packer.hub import HubRepo
from lora_packer.redact import read_token
from lora_packer.together.choice import APIS, Api, Choice, choose_api
from lora_packer.together.client import Client
from lora_packer.together.diagnose_job import why_it_stands_still
from lora_packer.together.endpoints import (
    Answer,
    Endpoint,
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
from lora_packer.together.uploads import STALE_AFTER, ask_ahead, wait_for_job
from lora_packer.together.versions import AUTO, CHOICES, option

__all__ = [
    "APIS",
    "AUTO",
    "CHOICES",
    "MINIMUM_LIFE",
    "STALE_AFTER",
    "Answer",
    "Api",
    "Choice",
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
    "choose_api",
    "choose_hardware",
    "ensure_endpoint",
    "news",
    "option",
    "parse_presigned",
    "parse_source",
    "read_token",
    "require_life",
    "serve",
    "validate_names",
    "wait_for_job",
    "why_it_stands_still",
]
