"""The errors this package raises on purpose.

Each says what is wrong, where, and (in ``hint``) what to do next. ``exit_code`` is what the command line exits with;
the codes are documented in the README. Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
from typing import Any


class LoraPackerError(Exception):
    """Base of every error raised on purpose.

    Args:
        message: one sentence: what, where, expected and got.
        hint: what to do next, one sentence.
    """

    exit_code = 2
    tells_cost = False
    """Whether the hint's last line says already what may still cost money."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class InputError(LoraPackerError):
    """Input that cannot be read at all, or an option that makes no sense (exit 2)."""


class UsageError(LoraPackerError):
    """A command line that cannot be parsed (exit 2)."""


class _CheckError(LoraPackerError):
    """An error that a check's report stands behind: ``report`` is the Report, or None."""

    def __init__(self, message: str, *, hint: str | None = None, report: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class CheckFailedError(_CheckError):
    """The adapter failed its check, so nothing was packed or sent (exit 1)."""

    exit_code = 1


class InconclusiveError(_CheckError):
    """A required check could not run; "could not check" is never "fine" (exit 3)."""

    exit_code = 3


class UnknownArchitecture(InconclusiveError):  # noqa: N818 - the name is part of the public contract
    """There is no proven definition for the base model's architecture."""


class PackError(LoraPackerError):
    """Packing failed; no archive was left behind (exit 4)."""

    exit_code = 4


class PublishError(LoraPackerError):
    """Upload or presigning failed; nothing was submitted (exit 4)."""

    exit_code = 4


class CredentialsError(PublishError):
    """The AWS credentials are missing, refused, or die before the URL may."""


class ServiceError(LoraPackerError):
    """The service refused a request (exit 5).

    Attributes:
        status: the HTTP status, or None where no answer came.
        in_doubt: whether the request may have been carried out nevertheless.
        again: whether the service says that the same request may succeed later; None where it does not say.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        status: int | None = None,
        in_doubt: bool = False,
        again: bool | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.in_doubt = in_doubt
        self.again = again


class JobFailedError(ServiceError):
    """The remote upload job ended as Failed (exit 5)."""


class WaitTimeoutError(LoraPackerError):
    """The remote job was still running when the time was up (exit 6)."""

    exit_code = 6


class SmokeTestError(LoraPackerError):
    """Deployed, but an answer is not what was expected, or the adapter seems to have no effect (exit 7)."""

    exit_code = 7


class InternalError(LoraPackerError):
    """A bug, or too little memory: no verdict on anything (exit 70, EX_SOFTWARE of sysexits.h)."""

    exit_code = 70


class OutputError(LoraPackerError):
    """The result could not be written: what was to take it is closed or full (exit 70, as for a bug: no verdict)."""

    exit_code = 70

    @classmethod
    def because(cls, error: OSError) -> OutputError:
        """Return what there is to say where standard output failed: nothing where its reader has gone."""
        if isinstance(error, BrokenPipeError):
            return cls("")
        reason = "standard output is closed" if error.errno == errno.EBADF else error.strerror or str(error)
        return cls(f"The result cannot be printed: {reason}.")


class Interrupted(LoraPackerError):  # noqa: N818 - nothing is wrong
    """The command was interrupted by Ctrl-C or SIGTERM (exit 130).

    Args:
        hint: what runs on, what was kept, and the command that goes on: each on a line of its own.
    """

    exit_code = 130

    def __init__(self, hint: str | None = None) -> None:
        super().__init__("interrupted", hint=hint)


class SandboxError(LoraPackerError):
    """The local sandbox could not be started (exit 2)."""
