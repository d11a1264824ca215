"""Together AI's side: submit an adapter, wait for its upload job, deploy it, ask it, stop what costs money.

One small interface (``Api``) with the versions of the service's API behind it; each version is a module, and
``choose_api`` chooses.
"""

from __future__ import annotations

from lora_packer.hub import HubRepo
from lora_packer.redact import read_token
from lora_packer.together.asking import MAX_TOKENS, Answer, Asking
from lora_packer.together.choice import APIS, Api, Choice, choose_api
from lora_packer.together.client import Client
from lora_packer.together.deploying import choose_hardware, ensure_endpoint, serve
from lora_packer.together.diagnose_job import why_it_stands_still
from lora_packer.together.endpoints import Endpoint
from lora_packer.together.models import Model
from lora_packer.together.polling import Waiting
from lora_packer.together.prices import dollars, hourly_words
from lora_packer.together.questions import Prompt, Questions, read_prompts
from lora_packer.together.smoke import LIMITS, PROOF, Smoke, run_smoke
from lora_packer.together.source import MINIMUM_LIFE, parse_presigned, parse_source, require_life
from lora_packer.together.stopping import stop_all
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
from lora_packer.together.wanted import Hardware, Rehearsal, Wanted

__all__ = [
    "APIS",
    "AUTO",
    "CHOICES",
    "LIMITS",
    "MAX_TOKENS",
    "MINIMUM_LIFE",
    "PROOF",
    "STALE_AFTER",
    "Answer",
    "Api",
    "Asking",
    "Choice",
    "Client",
    "Endpoint",
    "Hardware",
    "HubRepo",
    "Job",
    "LocalFiles",
    "Model",
    "ModelSource",
    "Prompt",
    "Questions",
    "Rehearsal",
    "Sent",
    "Smoke",
    "StatusUpdate",
    "Submission",
    "Waiting",
    "Wanted",
    "ask_ahead",
    "choose_api",
    "choose_hardware",
    "dollars",
    "ensure_endpoint",
    "hourly_words",
    "news",
    "option",
    "parse_presigned",
    "parse_source",
    "read_prompts",
    "read_token",
    "require_life",
    "run_smoke",
    "serve",
    "stop_all",
    "validate_names",
    "wait_for_job",
    "why_it_stands_still",
]
