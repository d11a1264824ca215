"""Install the built wheel into empty environments and use it: newest dependencies, and the oldest that are declared.

usage: python tools/smoke.py FOLDER_WITH_THE_WHEEL
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADAPTER = ROOT / "fixtures" / "adapters" / "tiny-llama-qv"
BASE_CONFIG = ROOT / "fixtures" / "base-configs" / "tiny-llama.json"
NOWHERE = ["--to", "s3://bucket/x/", "--endpoint-url", "http://127.0.0.1:9"]
COMMANDS = (
    (["--help"], 0),
    (["--version"], 0),
    (["check", str(ADAPTER), "--base-config", str(BASE_CONFIG)], 0),
    (["check", str(ROOT / "fixtures" / "broken" / "nan"), "--base-config", str(BASE_CONFIG)], 1),
    (["publish", str(ADAPTER), "--base-config", str(BASE_CONFIG), *NOWHERE], 4),
    (["submit", "org/repo", "--model-name", "x", "--base-model", "y"], 2),
)


def oldest() -> list[str]:
    """Return the lower bounds in pyproject.toml as exact requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.sub(r">=([\d.]+).*", lambda m: f"=={m[1]}", item) for item in project["dependencies"]]


def use(wheel: Path, folder: Path, requirements: list[str]) -> bool:
    """Install and run; return whether every command exited as it should."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, str(wheel), *requirements], check=True)
    fine = True
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= {"AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example"}
    for arguments, expected in COMMANDS:
        done = subprocess.run(
            [folder / "bin" / "lora-packer", *arguments], capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode != expected or "Traceback" in done.stderr:
            print(f"lora-packer {' '.join(arguments)}: exit {done.returncode}, not {expected}\n{done.stderr}")
            fine = False
    return fine


def main() -> int:
    """Run both environments."""
    wheel = next(Path(sys.argv[1]).resolve().glob("*.whl"))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, requirements in {"newest": [], "oldest": oldest()}.items():
            results[name] = use(wheel, Path(folder) / name, requirements)
            print(f"wheel with the {name} dependencies: {'ok' if results[name] else 'FAILED'}", flush=True)
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
