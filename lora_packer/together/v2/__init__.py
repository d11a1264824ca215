"""Version 2 of the service's API: projects, models with validated revisions, endpoints with deployments.

Requests and answers are those of the vendor's SDK, together 3.1.1 (``resources/`` and ``types/``), and of
docs.together.ai/docs/dedicated-endpoints/adapter; docs.together.ai/reference/dmi specifies them.
"""

from __future__ import annotations

from lora_packer.together.v2.endpoints import (
    ask,
    asked_name,
    deploy,
    endpoint,
    endpoints,
    hardware,
    rehearse,
    stop,
    to_stop,
)
from lora_packer.together.v2.jobs import based_on, find, hosts, job, named, submit
from lora_packer.together.v2.models import base_names, delete_model, model, models
from lora_packer.together.v2.overview import all_endpoints, attach, one_endpoint

NAME = "v2"
"""What this version is called."""

__all__ = [
    "NAME",
    "all_endpoints",
    "ask",
    "asked_name",
    "attach",
    "base_names",
    "based_on",
    "delete_model",
    "deploy",
    "endpoint",
    "endpoints",
    "find",
    "hardware",
    "hosts",
    "job",
    "model",
    "models",
    "named",
    "one_endpoint",
    "rehearse",
    "stop",
    "submit",
    "to_stop",
]
