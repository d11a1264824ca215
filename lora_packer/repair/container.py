"""What the weights file says about itself: the metadata that PEFT writes and transformers asks for."""

from __future__ import annotations

from dataclasses import replace

from lora_packer.repair.draft import METADATA, Draft
from lora_packer.repair.result import repaired
from lora_packer.repair.setting import Mended, Setting


def metadata(draft: Draft, _setting: Setting) -> Mended:
    """Write ``format: pt``, without which transformers refuses a file (modeling_utils.py::load_state_dict)."""
    if draft.metadata.get("format") == METADATA["format"]:
        return draft, []
    had = draft.metadata.get("format")
    mended = replace(draft, metadata={**draft.metadata, **METADATA}, whole=None)
    message = (
        f"the weights' metadata says format pt, {'which was missing' if had is None else 'instead of ' + had[:20]}"
    )
    proof = "it is what PEFT itself writes; no tensor is touched"
    return mended, [repaired("metadata", None, 1, message, proof)]
