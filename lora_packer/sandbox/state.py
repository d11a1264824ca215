"""What every route of the sandbox's service shares: its key, its models, and what was uploaded and deployed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from lora_packer.redact import Secret
from lora_packer.sandbox.deployments import Deployments
from lora_packer.sandbox.direct import DirectUploads
from lora_packer.sandbox.endpoints import Endpoints
from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.hub import LocalHub
from lora_packer.sandbox.jobs import Jobs

ACCOUNT = "devuser"
"""The account whose name goes before each model's; the one of the service's page."""

PROJECT = "proj-sandbox"
"""The project of the key, on version 2."""

DEFAULT_BASE_MODELS = (
    # Named as base of an adapter, or as a model, in the service's openapi.yaml.
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen3.5-9B",
    "meta-llama/Meta-Llama-3.1-8B-Instruct-Reference",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
    # Bases of adapters in docs.together.ai/docs/dedicated-endpoints/lora-adapter.
    "google/gemma-3-27b-it-lora",
    "meta-llama/Llama-3.3-70B-Instruct-FP8-Lora",
    "mistralai/Mixtral-8x7B-Instruct-v0.1-FP8-Lora",
    # The one of this project's examples, and the sandbox's own.
    "meta-llama/Llama-3.3-70B-Instruct",
    "tiny/llama",
)


class State:
    """The service's memory, from its start on.

    Args:
        base_models: hosted besides ``DEFAULT_BASE_MODELS``.
        faults: what goes wrong.
        delay: seconds that each state of a job lasts at least.
        hub: where it fetches Hub repositories from; None is nowhere.

    Attributes:
        account: whose the key is.
        delay: seconds that each state lasts at least, with what the faults add.
        base_models: the ids of every base model it hosts.
        api_key: the key it was started with; a new one each time.
        base_url: its address, with ``/v1``; known once it runs.
        started: when, in seconds since 1970.
        jobs: its upload jobs, version 1.
        endpoints: its endpoints, version 1.
        models, imports, direct, deployments: the same of version 2.
    """

    def __init__(
        self,
        *,
        base_models: Sequence[str] = (),
        faults: Faults | None = None,
        delay: float = 0.3,
        hub: LocalHub | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.delay = delay + self.faults.slow
        self.account = ACCOUNT
        self.base_models = tuple(dict.fromkeys((*DEFAULT_BASE_MODELS, *base_models)))
        self.api_key = Secret(f"sandbox-{secrets.token_hex(16)}")
        self.base_url = ""
        self.started = int(time.time())
        self.jobs = Jobs(account=ACCOUNT, delay=delay, faults=self.faults, hub=hub)
        self.endpoints = Endpoints(account=ACCOUNT, delay=delay, fails=self.faults.endpoint_fails)
        self.models: dict[str, dict[str, Any]] = {}
        self.imports = Jobs(account=ACCOUNT, delay=delay, faults=self.faults, hub=hub, prefix="job_")
        self.direct = DirectUploads()
        self.deployments = Deployments(
            project=PROJECT,
            slug=ACCOUNT,
            delay=delay,
            fails=self.faults.endpoint_fails,
            never_stopped=self.faults.never_stopped,
            rejects_adapters=self.faults.rejects_adapters,
        )
