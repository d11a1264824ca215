"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str = "", many: str = "", noun: str = "tensor") -> str:
    """``1 tensor fits`` or ``3 tensors fit``: the noun, and the verb's form that goes with it."""
    return f"1 {noun} {one}".rstrip() if count == 1 else f"{count} {noun}s {many}".rstrip()
