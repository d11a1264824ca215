"""A place to rehearse, on loopback: a local S3 that verifies signatures and expiry, a local Together API, a local Hub.

Nothing here reaches the network, and its credentials are made anew at each start and open nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lora_packer.sandbox.faults import FAULT_KINDS, Faults
from lora_packer.sandbox.hub import LocalHub
from lora_packer.sandbox.s3 import LocalS3
from lora_packer.sandbox.service import Service
from lora_packer.sandbox.state import DEFAULT_BASE_MODELS, PROJECT

if TYPE_CHECKING:
    import boto3

__all__ = ["DEFAULT_BASE_MODELS", "FAULT_KINDS", "Faults", "LocalHub", "LocalS3", "Sandbox", "Service"]

# What would get in the way of the sandbox's keys in the caller's environment; boto3 takes an empty value for none
# (EnvProvider in botocore/credentials.py).
_CLEARED = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION")
# A profile cannot be cleared: boto3 looks for one with an empty name. It can be another one, in a file of ours.
_AWS_CONFIG = str(Path(__file__).with_name("aws-config.ini"))
_PROFILE = "default"


class Sandbox:
    """The local S3, the local Hub and the local service, from ``with`` to its end.

    Args:
        base_models: hosted besides ``DEFAULT_BASE_MODELS``.
        faults: what goes wrong at the service.
        delay: seconds that each state of a job lasts at least.

    Attributes:
        s3: the local S3.
        hub: the local Hub, where the service fetches repositories.
        service: the local service.
    """

    def __init__(self, *, base_models: Sequence[str] = (), faults: Faults | None = None, delay: float = 0.3) -> None:
        self.s3 = LocalS3()
        self.hub = LocalHub()
        self.service = Service(base_models=base_models, faults=faults, delay=delay, hub=self.hub)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start them all, or none. Raises SandboxError."""
        with ExitStack() as stack:
            stack.enter_context(self.s3)
            stack.enter_context(self.hub)
            stack.enter_context(self.service)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def base_models(self) -> tuple[str, ...]:
        """The ids of the base models that the service hosts."""
        return self.service.base_models

    @property
    def destination(self) -> str:
        """Where to publish to: ``s3://bucket/prefix/``."""
        return f"s3://{self.s3.bucket}/adapters/"

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point every command, boto3 and the vendor's SDK here."""
        return {
            "TOGETHER_API_KEY": self.service.api_key.reveal(),
            "TOGETHER_BASE_URL": self.service.base_url,
            "TOGETHER_PROJECT_ID": "" if self.service.faults.no_project else PROJECT,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key.reveal(),
            "AWS_REGION": self.s3.region,
            "AWS_DEFAULT_REGION": self.s3.region,
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PROFILE": _PROFILE,
            "AWS_CONFIG_FILE": _AWS_CONFIG,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_TOKEN": self.hub.token.reveal(),
        } | dict.fromkeys(_CLEARED, "")

    def session(self) -> boto3.Session:
        """Return a boto3 session with the sandbox's keys, and nothing of the caller's profile."""
        import boto3
        from botocore.session import get_session

        core = get_session()
        core.set_config_variable("profile", _PROFILE)
        core.set_config_variable("config_file", _AWS_CONFIG)
        core.set_config_variable("credentials_file", os.devnull)
        return boto3.Session(
            self.s3.access_key, self.s3.secret_key.reveal(), region_name=self.s3.region, botocore_session=core
        )
