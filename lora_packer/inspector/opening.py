"""Open an adapter where it is: on this machine, on the Hub, at a store or behind a URL."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from lora_packer.adapter import AdapterSource, open_source
from lora_packer.adapter.elsewhere import is_elsewhere


def open_adapter(adapter: str | Path | AdapterSource) -> AbstractContextManager[AdapterSource]:
    """Open what ADAPTER names, or take what is open already.

    Raises InputError where there is nothing to read, InconclusiveError where whoever has it cannot be asked.
    """
    if isinstance(adapter, str) and is_elsewhere(adapter):
        from lora_packer.publisher.reading import open_elsewhere

        return open_elsewhere(adapter)
    return open_source(adapter)
