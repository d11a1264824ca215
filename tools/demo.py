"""``make demo``: a real adapter from check to its first answer, on both APIs, from S3 and from a Hub repo, all of it in
the sandbox; then three broken adapters that stop.

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

from lora_packer.sandbox import Sandbox

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


def released(api: str, sandbox: Sandbox, folder: str) -> bool:
    """Release, deploy and ask, from S3 and from the Hub; return whether both came to an answer."""
    question = ("--deploy", "--ask", "What is the capital of France?")
    steps = () if api == "v1" else ("--quiet",)  # they are those of v1
    commands = [
        (*source, *BASE, "--model-name", f"{name}-{api}", "--receipt", f"{folder}/{name}-{api}.json", "--api", api)
        for name, source in {"s3": (GOOD, "--to", sandbox.destination), "hub": (f"hf://{REPO}",)}.items()
    ]
    finished = run(((*command, *question, *steps) for command in commands), sandbox.environment())
    return all(done.returncode == 0 and "status   Complete\n" in done.stdout for done in finished) and all(
        "\nanswer   " in done.stdout for done in finished
    )


def main() -> int:
    """Run the demo; return 0 where everything went as it should."""
    started = time.perf_counter()
    with Sandbox(delay=0.05) as sandbox, tempfile.TemporaryDirectory(prefix="demo-") as folder:
        sandbox.hub.add(REPO, ROOT / GOOD)
        print(f"A sandbox on 127.0.0.1: an S3, the service, and a Hub with {REPO}. Nothing here costs money.")
        if not all(released(api, sandbox, folder) for api in ("v1", "v2")):
            print("\nA release did not come to an answer.")
            return 1
    broken = ((f"fixtures/broken/{name}", *BASE, "--model-name", "demo", "--sandbox") for name in BROKEN)
    if any(done.returncode != 1 for done in run(broken, {})):
        print("\nA broken adapter was not stopped by its check.")
        return 1
    taken = time.perf_counter() - started
    print(f"\nOne adapter answered on both APIs, from S3 and from the Hub; three broken ones stopped: {taken:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
