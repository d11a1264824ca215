"""What the commands printed in this test run, for the test that looks for secrets in it."""

from __future__ import annotations

PRINTED: list[tuple[str, str]] = []  # (command, text)


def record(arguments: tuple[object, ...], *texts: str) -> None:
    """Keep what a command printed. Printing a secret is the purpose of ``sandbox`` and of ``--show-url``."""
    if "sandbox" not in map(str, arguments[:1]) and "--show-url" not in map(str, arguments):
        command = " ".join(map(str, arguments))
        PRINTED.extend((command, text) for text in texts)
