"""``make demo``: a real adapter from check to its first answer, from S3 and from a Hub repo, all of it in the sandbox.

Then the same with a key that has no project, to the end of its upload; and three broken adapters that stop.

usage: python tools/demo.py
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lora_packer.sandbox import Faults, Sandbox

ROOT = Path(__file__).resolve().parent.parent
BASE = ("--base-config", "fixtures/base-configs/tiny-llama.json", "--base-model", "tiny/llama")
GOOD = "fixtures/adapters/tiny-llama-qv"
BROKEN = ("wrong-hidden-size", "missing-lora-b", "nan")
REPO = "demo/tiny-llama-qv"


def release(arguments: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``lora-packer release`` from the repository's root; its steps come with its result."""
    return subprocess.run(
        [sys.executable, "-m", "lora_packer", "release", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def run(commands: Iterable[tuple[str, ...]], environment: dict[str, str]) -> list[subprocess.CompletedProcess[str]]:
    """Run the releases side by side, since they mostly wait, and print each with its result."""
    commands = tuple(commands)
    finished = []
    with ThreadPoolExecutor() as pool:
        for arguments, done in zip(commands, pool.map(lambda each: release(each, environment), commands), strict=True):
            print(f"\n$ lora-packer release {shlex.join(arguments)}\n{done.stdout}exit {done.returncode}", flush=True)
            finished.append(done)
    return finished


def released(folder: str, *more: str, last: str, version: int) -> bool:
    """Release from S3 and from the Hub; return whether both came to the last line, through this version of the API.

    The version is that of ``--api auto``: the second where the key has a project.
    """
    with Sandbox(delay=0.05, faults=Faults(no_project=version == 1)) as sandbox:
        sandbox.hub.add(REPO, ROOT / GOOD)
        print(f"\nA sandbox on 127.0.0.1: an S3, the service, and a Hub with {REPO}. Nothing here costs money.")
        commands = [
            (*source, *BASE, "--model-name", name, "--receipt", f"{folder}/{name}-{version}.json", *more)
            for name, source in {"s3": (GOOD, "--to", sandbox.destination), "hub": (f"hf://{REPO}",)}.items()
        ]
        finished = run(commands, {**sandbox.environment(), "TOGETHER_PROJECT_ID": ""})
    wanted = ("status   Complete\n", f"api       version {version} of the API", last)
    return all(done.returncode == 0 and all(one in done.stdout for one in wanted) for done in finished)


def main() -> int:
    """Run the demo; return 0 where everything went as it should."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        question = ("--deploy", "--ask", "What is the capital of France?")
        if not released(folder, *question, last="\nanswer   ", version=2):
            print("\nA release did not come to an answer.")
            return 1
        print("\nThe same with a key that has no project: version 1 of the API, which ends with 2026.")
        if not released(folder, last="\njob      job-", version=1):
            print("\nA release through version 1 did not come to its end.")
            return 1
    broken = ((f"fixtures/broken/{name}", *BASE, "--model-name", "demo", "--sandbox") for name in BROKEN)
    if any(done.returncode != 1 for done in run(broken, {})):
        print("\nA broken adapter was not stopped by its check.")
        return 1
    taken = time.perf_counter() - started
    print(
        "\nOne adapter answered, from S3 and from the Hub, and was uploaded through version 1 too; three broken ones "
        f"stopped: {taken:.1f} s."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
