"""The safetensors library's second opinion on a file that this package has read itself."""

from __future__ import annotations

from pathlib import Path

from lora_packer.adapter import WEIGHTS_NAME, Adapter
from lora_packer.finding import Finding
from lora_packer.inspector import rules
from lora_packer.redact import escape


def second_opinion(path: Path, adapter: Adapter) -> list[Finding]:
    """Compare our reading of the header with the safetensors library's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            theirs = {}
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                part = opened.get_slice(name)
                theirs[name] = (part.get_dtype(), tuple(part.get_shape()))
    except (SafetensorError, OSError) as error:
        message = f"the safetensors library refuses {WEIGHTS_NAME}: {escape(str(error))}"
        return [rules.READERS_DISAGREE.finding(message, file=WEIGHTS_NAME)]
    ours = {name: (info.dtype, info.shape) for name, info in adapter.tensors.items()}
    if ours == theirs:
        return []
    name = next(name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name))
    message = f"the safetensors library reads {WEIGHTS_NAME} otherwise than this package"
    return [
        rules.READERS_DISAGREE.finding(
            message,
            file=WEIGHTS_NAME,
            tensor=escape(name),
            expected=escape(str(ours.get(name)), 80),
            actual=escape(str(theirs.get(name)), 80),
        )
    ]
