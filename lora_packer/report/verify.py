"""What ``verify`` found, as text for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_packer.redact import escape
from lora_packer.report.canvas import Canvas

if TYPE_CHECKING:
    from lora_packer.pipeline.verify import Verification

_WIDEST = 360  # characters of one value


def render(result: Verification, canvas: Canvas) -> str:
    """Return what was compared, what differs, what that means, and the verdict."""
    lines: list[str] = []
    if not canvas.quiet:
        lines += [f"archive   {escape(result.archive, _WIDEST)}", f"receipt   {_receipt(result)}"]
    if canvas.verbose:
        lines.append(f"compared  {', '.join(result.compared)}")
    for item in result.findings:
        lines.append(f"{canvas.style('differs', 'bold', 'red')}   {item.what}")
        lines += [f"    expected  {_shown(item.expected)}", f"    actual    {_shown(item.actual)}"]
    if not canvas.quiet:
        lines += [f"note      {note}" for note in result.notes]
    count = len(result.findings)
    if result.ok:
        what = "it is the archive of this receipt" if "sha256" in result.compared else "the files are those recorded"
        lines.append(f"{canvas.style('ok', 'bold', 'green')}: {what}")
    else:
        differ = "1 difference" if count == 1 else f"{count} differences"
        lines.append(f"{canvas.style('failed', 'bold', 'red')}: {differ}")
    return "\n".join(lines)


def _receipt(result: Verification) -> str:
    told = result.receipt
    job = f", job {told['job_id']}" if told["job_id"] else ""
    return f"{told['path']}: {told['model_name'] or 'a model'} on {told['base_model'] or 'a base model'}{job}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{value:,}" if isinstance(value, int) else escape(str(value), _WIDEST)
