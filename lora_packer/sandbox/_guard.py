"""Runs one command for as long as the process that started it lives, then removes every trace of it.

Started as a script of its own: ``python -I -S _guard.py FOLDER SOCKETS -- COMMAND...``. Its standard input is a pipe
that nobody writes to: it ends when the parent closes it or dies, however it dies, and that is the signal to kill the
command and to delete the folder. A kill -9 of the parent therefore leaves neither a server nor its data behind.

It uses the standard library alone and imports nothing of this package, so that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

LOG_NAME = "server.log"
_LOG_TAIL = 4000  # bytes of the log that are shown where the command ends by itself
_LOOK_EVERY = 0.25  # seconds between two looks at the command


def main(arguments: list[str]) -> int:
    """Guard the command; return 0 where the parent ended it, 1 (with the log's end on stdout) where it ended itself."""
    split = arguments.index("--")
    folder, *leftovers = arguments[:split]
    signal.signal(signal.SIGTERM, _stop)
    with Path(folder, LOG_NAME).open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 - the command is the parent's own
            arguments[split + 1 :], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        while server.poll() is None:
            if select.select([sys.stdin], [], [], _LOOK_EVERY)[0]:
                return 0
        sys.stdout.write(_tail(Path(folder, LOG_NAME)))
        return 1
    finally:
        server.kill()
        server.wait()
        for path in leftovers:
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108 - no pathlib needed for a name
        shutil.rmtree(folder, ignore_errors=True)


def _stop(_signum: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def _tail(log: Path) -> str:
    return log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
