"""Version 1 of the service's API, as docs.together.ai/docs/dedicated-endpoints/v1/adapter has it."""

from __future__ import annotations

from lora_packer.together.v1.endpoints import ask, deploy, endpoint, endpoints, hardware, stop
from lora_packer.together.v1.jobs import find, hosts, job, submit

NAME = "v1"
"""What this version is called."""

__all__ = ["NAME", "ask", "deploy", "endpoint", "endpoints", "find", "hardware", "hosts", "job", "stop", "submit"]
