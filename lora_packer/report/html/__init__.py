"""A check's report as one page that needs nothing beside itself: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from lora_packer.report.html.document import render

__all__ = ["render"]
