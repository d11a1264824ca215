"""``sandbox``: a local S3, a local Together API and a local Hub to rehearse against."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lora_packer.cli.common import command
from lora_packer.cli.named_files import require_place, write_named
from lora_packer.errors import InputError
from lora_packer.files import is_stream, names_stdout

_HEADER = "# lora-packer sandbox\n"


@command
def sandbox(
    base_model: Annotated[
        list[str] | None,
        typer.Option("--base-model", metavar="ID", help="Host this base model too; may be given again."),
    ] = None,
    fail: Annotated[
        str | None,
        typer.Option(
            "--fail",
            metavar="KIND",
            help="Make the service fail: job, stuck, unreachable, slow, lost-answer, no-hardware, endpoint, stopping, "
            "validation, split, adapter-invalid, adapter-ignored, no-serverless, no-project or refuse-STATUS (such as "
            "refuse-429).",
        ),
    ] = None,
    v1_endpoints: Annotated[
        bool,
        typer.Option(
            "--v1-endpoints",
            help="Let version 1 of the API create endpoints, as it did before. The service refuses that by now.",
        ),
    ] = False,
    hub: Annotated[
        list[str] | None,
        typer.Option(
            "--hub",
            metavar="ORG/NAME=FOLDER",
            help="Serve this folder on the local Hub as hf://ORG/NAME; may be given again.",
        ),
    ] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(
            "--env-file",
            metavar="FILE",
            help="Write the exports to this file (mode 0600) and print how to read it; removed at the end.",
        ),
    ] = None,
) -> None:
    """Run a local S3, a local Together API and a local Hub until Ctrl-C, and print the environment to export."""
    from lora_packer.sandbox import Faults, Sandbox

    faults = replace(Faults.named(fail) if fail else Faults(), v1_endpoints_closed=not v1_endpoints)
    if env_file is not None and names_stdout(env_file):
        env_file = None
    if env_file is not None:
        require_place(env_file, "--env-file")
        _refuse_foreign(env_file)
    folders = [_folder(item) for item in hub or ()]
    with Sandbox(base_models=base_model or (), faults=faults) as running:
        for repo_id, folder in folders:
            running.hub.add(repo_id, folder)
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in running.environment().items())
        try:
            if env_file is None:
                sys.stdout.write(exports)
            else:
                write_named(env_file, (_HEADER + exports).rstrip("\n"), "--env-file", private=True)
                sys.stdout.write(f". {shlex.quote(str(env_file.absolute()))}\n")
            sys.stdout.flush()
            served = "".join(f"Its Hub has hf://{repo_id}. " for repo_id, _ in folders)
            sys.stderr.write(
                f"The sandbox runs: set the variables above in another shell, publish to {running.destination} and use "
                f"--base-model {running.base_models[-1]}. {served}Ctrl-C stops it.\n"
            )
            sys.stderr.flush()
            threading.Event().wait()
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave the S3 server behind
            sys.stderr.write("The sandbox stops.\n")
        finally:
            if env_file is not None:
                _remove_own(env_file)


def _folder(text: str) -> tuple[str, Path]:
    """``ORG/NAME=FOLDER`` -> the repository's id and the folder. Raises InputError."""
    from lora_packer.hub import parse_repo

    name, equals, folder = text.partition("=")
    if not equals or not Path(folder).is_dir():
        raise InputError("--hub needs ORG/NAME=FOLDER, and the folder to be there.", hint="Like me/my-lora=my-adapter.")
    return parse_repo(name).id, Path(folder)


def _refuse_foreign(path: Path) -> None:
    """Raise InputError where a file holds something that this command did not write (an empty one may be used)."""
    if is_stream(path):
        return
    try:
        mine = not path.exists() or (path.is_file() and path.read_bytes()[: len(_HEADER)] in (b"", _HEADER.encode()))
    except OSError as error:
        raise InputError(f"--env-file cannot be used: {error.strerror}.", hint="Choose another path.") from None
    if not mine:
        raise InputError(
            "--env-file exists and was not written by this command.", hint="Choose another path, or remove the file."
        )


def _remove_own(path: Path) -> None:
    """Remove what this command wrote; a pipe and a device stay, and so does a link."""
    if is_stream(path):
        return
    try:
        if path.read_bytes().startswith(_HEADER.encode()):
            path.resolve().unlink()
    except OSError:
        pass
