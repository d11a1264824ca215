"""A place to rehearse: a local S3 that verifies signatures and expiry, and a local Together API, on loopback.

Nothing here reaches the network, and its credentials are made anew at each start and open nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Self

from lora_packer.sandbox.faults import FAULT_KINDS, Faults
from lora_packer.sandbox.s3 import LocalS3
from lora_packer.sandbox.service import DEFAULT_BASE_MODELS, Service

__all__ = ["DEFAULT_BASE_MODELS", "FAULT_KINDS", "Faults", "LocalS3", "Sandbox", "Service"]

# What would get in the way of the sandbox's keys in the caller's environment; boto3 takes an empty value for none
# (EnvProvider in botocore/credentials.py).
_CLEARED = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_EXPIRATION")


class Sandbox:
    """The local S3 and the local service, from ``with`` to its end.

    Args:
        base_models: hosted besides ``DEFAULT_BASE_MODELS``.
        faults: what goes wrong at the service.
        delay: seconds that each state of a job lasts at least.

    Attributes:
        s3: the local S3.
        service: the local service.
    """

    def __init__(self, *, base_models: Sequence[str] = (), faults: Faults | None = None, delay: float = 0.3) -> None:
        self.s3 = LocalS3()
        self.service = Service(base_models=base_models, faults=faults, delay=delay)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start both, or neither. Raises SandboxError."""
        with ExitStack() as stack:
            stack.enter_context(self.s3)
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
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key.reveal(),
            "AWS_REGION": self.s3.region,
            "AWS_DEFAULT_REGION": self.s3.region,
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        } | dict.fromkeys(_CLEARED, "")
