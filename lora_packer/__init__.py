"""lora-packer: check a LoRA adapter against its base model, pack it, publish it and submit it."""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own takes longer to load than all else here
if TYPE_CHECKING:
    from typing import Any

    from lora_packer.base_model import BaseModel, Module
    from lora_packer.errors import (
        CheckFailedError,
        CredentialsError,
        InconclusiveError,
        InputError,
        Interrupted,
        JobFailedError,
        LoraPackerError,
        OutputError,
        PackError,
        PublishError,
        SandboxError,
        ServiceError,
        SmokeTestError,
        UnknownArchitecture,
        WaitTimeoutError,
    )
    from lora_packer.finding import Finding, Unchecked
    from lora_packer.inspector import Report, check
    from lora_packer.inspector.changes import Diff, ModuleChange
    from lora_packer.inspector.config_changes import ConfigChange
    from lora_packer.inspector.diff import diff
    from lora_packer.inspector.identify import Candidate, identify
    from lora_packer.inspector.manifest import read_manifest
    from lora_packer.inspector.many import Listed, Unreadable, check_many
    from lora_packer.inspector.suppression import Suppression
    from lora_packer.packager import Archive
    from lora_packer.pipeline.calls import ask, deploy, stop, submit, wait
    from lora_packer.pipeline.check import CheckOptions
    from lora_packer.pipeline.fix import Fixed, fix
    from lora_packer.pipeline.pack import ArchiveOptions, pack
    from lora_packer.pipeline.publish import Publication, StoreOptions, presign, publish
    from lora_packer.pipeline.receipt import Receipt
    from lora_packer.pipeline.release import release
    from lora_packer.pipeline.service import ServiceOptions
    from lora_packer.pipeline.verify import Discrepancy, Verification, verify
    from lora_packer.publisher import Published
    from lora_packer.redact import PresignedUrl
    from lora_packer.together import Answer, Client, Endpoint, Job

__version__ = "0.1.0"

_ERRORS = (
    "CheckFailedError",
    "CredentialsError",
    "InconclusiveError",
    "InputError",
    "Interrupted",
    "JobFailedError",
    "LoraPackerError",
    "OutputError",
    "PackError",
    "PublishError",
    "SandboxError",
    "ServiceError",
    "SmokeTestError",
    "UnknownArchitecture",
    "WaitTimeoutError",
)
# Loaded when first asked for, so that `import lora_packer` stays fast, and a program that is interrupted ends at once.
_LAZY = {
    **dict.fromkeys(_ERRORS, "lora_packer.errors"),
    "Finding": "lora_packer.finding",
    "Unchecked": "lora_packer.finding",
    "BaseModel": "lora_packer.base_model",
    "Module": "lora_packer.base_model",
    "Report": "lora_packer.inspector",
    "check": "lora_packer.inspector",
    "Candidate": "lora_packer.inspector.identify",
    "ConfigChange": "lora_packer.inspector.config_changes",
    **dict.fromkeys(("Diff", "ModuleChange"), "lora_packer.inspector.changes"),
    "diff": "lora_packer.inspector.diff",
    "identify": "lora_packer.inspector.identify",
    **dict.fromkeys(("Listed", "Unreadable", "check_many"), "lora_packer.inspector.many"),
    "Suppression": "lora_packer.inspector.suppression",
    "read_manifest": "lora_packer.inspector.manifest",
    "Archive": "lora_packer.packager",
    "Receipt": "lora_packer.pipeline.receipt",
    **dict.fromkeys(("Fixed", "fix"), "lora_packer.pipeline.fix"),
    "pack": "lora_packer.pipeline.pack",
    "publish": "lora_packer.pipeline.publish",
    "presign": "lora_packer.pipeline.publish",
    "release": "lora_packer.pipeline.release",
    **dict.fromkeys(("ask", "deploy", "stop", "submit", "wait"), "lora_packer.pipeline.calls"),
    **dict.fromkeys(("Discrepancy", "Verification", "verify"), "lora_packer.pipeline.verify"),
    "ArchiveOptions": "lora_packer.pipeline.pack",
    "CheckOptions": "lora_packer.pipeline.check",
    "Publication": "lora_packer.pipeline.publish",
    "ServiceOptions": "lora_packer.pipeline.service",
    "StoreOptions": "lora_packer.pipeline.publish",
    "Published": "lora_packer.publisher",
    "PresignedUrl": "lora_packer.redact",
    **dict.fromkeys(("Answer", "Client", "Endpoint", "Job"), "lora_packer.together"),
}

__all__ = [
    "Answer",
    "Archive",
    "ArchiveOptions",
    "BaseModel",
    "Candidate",
    "CheckFailedError",
    "CheckOptions",
    "Client",
    "ConfigChange",
    "CredentialsError",
    "Diff",
    "Discrepancy",
    "Endpoint",
    "Finding",
    "Fixed",
    "InconclusiveError",
    "InputError",
    "Interrupted",
    "Job",
    "JobFailedError",
    "Listed",
    "LoraPackerError",
    "Module",
    "ModuleChange",
    "OutputError",
    "PackError",
    "PresignedUrl",
    "Publication",
    "PublishError",
    "Published",
    "Receipt",
    "Report",
    "SandboxError",
    "ServiceError",
    "ServiceOptions",
    "SmokeTestError",
    "StoreOptions",
    "Suppression",
    "Unchecked",
    "UnknownArchitecture",
    "Unreadable",
    "Verification",
    "WaitTimeoutError",
    "ask",
    "check",
    "check_many",
    "deploy",
    "diff",
    "fix",
    "identify",
    "pack",
    "presign",
    "publish",
    "read_manifest",
    "release",
    "stop",
    "submit",
    "verify",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
