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
    SmokeTestError,
    UnknownArchitecture,
    WaitTimeoutError,
)
from lora_packer.finding import Finding, Unchecked

if TYPE_CHECKING:
    from lora_packer.base_model import BaseModel, Module
    from lora_packer.inspector import Report, check
    from lora_packer.inspector.identify import Candidate, identify
    from lora_packer.packager import Archive
    from lora_packer.pipeline.pack import pack
    from lora_packer.pipeline.publish import publish
    from lora_packer.pipeline.receipt import Receipt
    from lora_packer.pipeline.release import release

__version__ = "0.1.0"

# Loaded when first asked for, so that `import lora_packer` stays fast.
_LAZY = {
    "BaseModel": "lora_packer.base_model",
    "Module": "lora_packer.base_model",
    "Report": "lora_packer.inspector",
    "check": "lora_packer.inspector",
    "Candidate": "lora_packer.inspector.identify",
    "identify": "lora_packer.inspector.identify",
    "Archive": "lora_packer.packager",
    "Receipt": "lora_packer.pipeline.receipt",
    "pack": "lora_packer.pipeline.pack",
    "publish": "lora_packer.pipeline.publish",
    "release": "lora_packer.pipeline.release",
}

__all__ = [
    "Archive",
    "BaseModel",
    "Candidate",
    "CheckFailedError",
    "CredentialsError",
    "Finding",
    "InconclusiveError",
    "InputError",
    "JobFailedError",
    "LoraPackerError",
    "Module",
    "PackError",
    "PublishError",
    "Receipt",
    "Report",
    "SandboxError",
    "ServiceError",
    "SmokeTestError",
    "Unchecked",
    "UnknownArchitecture",
    "WaitTimeoutError",
    "check",
    "identify",
    "pack",
    "publish",
    "release",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
