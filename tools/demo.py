"""``make demo``: the main job end to end on a real adapter against the sandbox, then three broken adapters that stop.

usage: python tools/demo.py
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE_CONFIG = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
GOOD = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BROKEN = ("wrong-hidden-size", "missing-lora-b", "nan")


QUESTION = ("--deploy", "--ask", "What is the capital of France?")


def release(adapter: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run ``lora-packer release --sandbox`` on an adapter; its steps go to the terminal."""
    options = ["--model-name", "demo", "--base-model", "tiny/llama", "--sandbox", *more]
    paths = [str(adapter.relative_to(ROOT)), "--base-config", str(BASE_CONFIG.relative_to(ROOT))]
    print(f"\n$ lora-packer release {shlex.join([*paths, *options])}", flush=True)
    command = [sys.executable, "-m", "lora_packer", "release", *paths, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    print(done.stdout, end="", flush=True)
    return done


def main() -> int:
    """Run the demo; return 0 where everything went as it should."""
    started = time.perf_counter()
    for api in ("v1", "v2"):
        good = release(GOOD, "--api", api, *QUESTION)
        if good.returncode != 0 or "status   Complete" not in good.stdout or "answer" not in good.stdout:
            print(f"\nThe release did not complete (exit {good.returncode}).")
            return 1
    for name in BROKEN:
        done = release(ROOT / "fixtures" / "broken" / name)
        print(f"exit {done.returncode}: stopped at the check; the sandbox was not even started")
        if done.returncode != 1:
            return 1
    taken = time.perf_counter() - started
    print(f"\nOne adapter released, deployed and asked on both APIs, three broken ones stopped, in {taken:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
