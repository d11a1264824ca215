"""The formats for machines under their names: what ``check --format NAME`` prints, also where there is no report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lora_packer.errors import LoraPackerError
    from lora_packer.inspector.many import Result


def render(
    name: str, results: Sequence[Result], *, exit_code: int, fail_on: Literal["error", "warning"] = "error"
) -> str:
    """Return the results of a check as ``sarif``, ``junit`` or ``github``.

    Args:
        name: the format's.
        results: of each adapter, in the order given.
        exit_code: what the command ends with.
        fail_on: from which severity on a finding fails.
    """
    from lora_packer.report import github, junit, sarif

    if name == "sarif":
        return sarif.render(results, exit_code=exit_code)
    if name == "junit":
        return junit.render(results, fail_on=fail_on)
    return github.render(results)


def render_error(name: str, error: LoraPackerError) -> str:
    """Return the same for a command that has no result, about no adapter: what it ends with."""
    from lora_packer.inspector.many import Unreadable
    from lora_packer.inspector.report import AdapterSummary

    told = Unreadable(AdapterSummary("", 0, 0, 0, (), ()), "", error)
    return render(name, (told,), exit_code=error.exit_code)
