"""Ctrl-C and SIGTERM at each stage of ``release --deploy``: what is said, what is left, what the next run does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from test_release_kills import environment, sandbox, trap

__all__ = ["environment", "sandbox", "trap"]

Cli = Callable[..., Any]
