"""lora-packer: check a LoRA adapter against its base model, pack it, publish it and submit it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lora_packer.errors import (
    CheckFailedError,
    CredentialsError,
    InconclusiveError,
    InputError,
    JobFailedError,
    LoraPackerError,
    PackError,
    PublishError,
    SandboxError,
    ServiceError,
    UnknownArchitecture,
    WaitTimeoutError,
)
from lora_packer.finding import Finding, Unchecked

__version__ = "0.1.0"
