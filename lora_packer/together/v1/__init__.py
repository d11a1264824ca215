"""Version 1 of the service's API, as docs.together.ai/docs/dedicated-endpoints/v1/adapter has it."""

from __future__ import annotations

from lora_packer.together.v1.endpoints import (
    all_endpoints,
    ask,
    asked_name,
    attach,
    deploy,
    endpoint,
    endpoints,
    hardware,
    one_endpoint,
    rehearse,
    stop,
    to_stop,
)
from lora_packer.together.v1.jobs import based_on, find, hosts, job, named, submit
from lora_packer.together.v1.models import base_names, delete_model, model, models

NAME = "v1"
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
