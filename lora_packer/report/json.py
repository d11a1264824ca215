"""A check's report as one JSON object, and many as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_packer.redact import inert_json

if TYPE_CHECKING:
    from lora_packer.inspector.many import Result


def render(report: Result) -> str:
    """Return the report as ``check --format json`` prints it, without a newline at its end."""
    return inert_json(json.dumps(report.to_dict(), indent=2))


def render_many(results: Sequence[Result]) -> str:
    """Return many reports as ``check --format json`` prints them, in the order given."""
    return inert_json(json.dumps(many_to_dict(results), indent=2))


def many_to_dict(results: Sequence[Result]) -> dict[str, Any]:
    """Return many reports as one JSON object."""
    from lora_packer.inspector.many import overall, summary_of

    summary = summary_of(results)
    return {
        "schema_version": 1,
        "status": overall(summary),
        "reports": [result.to_dict() for result in results],
        "summary": summary,
    }
