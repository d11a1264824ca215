"""A check's report as one JSON object."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_packer.inspector import Report


def render(report: Report) -> str:
    """Return the report as ``check --format json`` prints it, without a newline at its end."""
    return json.dumps(report.to_dict(), indent=2)
