"""A command in a process of its own that can be killed, started in milliseconds: forked from one that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    ["kill_support", "lora_packer.pipeline.release", "lora_packer.cli", "boto3", "httpx2", "numpy"]
)


def _command(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    from lora_packer.cli import build

    os.environ.update(environment)
    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        build()(arguments)


def _told(arguments: list[str], environment: dict[str, str], folder: str, told: str) -> None:
    from lora_packer.cli import main

    os.environ.update(environment)
    os.chdir(folder)
    for descriptor, name in ((1, f"{told}.out"), (2, f"{told}.err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(arguments)


def start_told(arguments: list[str], environment: dict[str, str], folder: Path, told: str) -> BaseProcess:
    """Start a command line as from a shell; what it says is in ``told.out`` and ``told.err`` in the folder."""
    process = _CONTEXT.Process(target=_told, args=(arguments, environment, str(folder), told), daemon=True)
    process.start()
    return process


def start(arguments: list[str], environment: dict[str, str], folder: Path) -> BaseProcess:
    """Start a command line; the caller kills it or waits for it."""
    process = _CONTEXT.Process(target=_command, args=(arguments, environment, str(folder)), daemon=True)
    process.start()
    return process
