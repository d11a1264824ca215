"""Version 2 of the service's API: projects, models with validated revisions, endpoints with deployments.

Requests and answers are those of the vendor's SDK, together 3.1.1 (``resources/`` and ``types/``), and of
docs.together.ai/docs/dedicated-endpoints/adapter; docs.together.ai/reference/dmi specifies them.
"""

from __future__ import annotations

from lora_packer.together.v2.endpoints import ask, deploy, endpoint, endpoints, hardware, stop
from lora_packer.together.v2.jobs import find, hosts, job, submit

NAME = "v2"
"""What this version is called."""

__all__ = ["NAME", "ask", "deploy", "endpoint", "endpoints", "find", "hardware", "hosts", "job", "stop", "submit"]
