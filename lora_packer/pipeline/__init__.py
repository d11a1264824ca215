"""One release: check, pack, upload, presign, prove, submit, wait, deploy, ask.

``release`` has the order, ``routes`` the three ways to the service, ``service`` what is asked of it, ``receipt`` the
memory of it all; ``check``, ``pack`` and ``publish`` are its first steps, and commands of their own.
"""

from __future__ import annotations

from collections.abc import Callable

# Tells a step's name and what it proved.
Note = Callable[[str, str], None]
# The name of what only somebody wants to hear who asked for every detail.
DETAIL = "detail"
# Tells how many bytes are done, of how many.
Progress = Callable[[int, int], None]


def silent(_stage: str, _text: str) -> None:
    """Tell nobody."""
