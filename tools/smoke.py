"""Install the built wheel into empty environments and use it: newest dependencies, and the oldest that are declared.

With the newest and the sandbox it takes a newcomer's path: check a broken adapter, read its rule, mend, look, release.

usage: python tools/smoke.py FOLDER_WITH_THE_WHEEL
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Sequence
from pathlib import Path

Commands = Sequence[tuple[list[str], int]]
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

# A newcomer's path, in the folder where a broken adapter lies: each command with its exit code.
_BASE = ["--base-config", str(BASE_CONFIG)]
_NAMES = ["--model-name", "my-adapter", "--base-model", "tiny/llama"]
NEWCOMER = (
    (["check", "my-adapter", *_BASE], 1),
    (["rule", "LP311"], 0),
    (["fix", "my-adapter", *_BASE], 0),
    (["check", "my-adapter-fixed", *_BASE, "--html", "report.html"], 0),
    (["release", "my-adapter-fixed", *_BASE, *_NAMES, "--sandbox"], 0),
)


def oldest() -> list[str]:
    """Return the lower bounds in pyproject.toml as exact requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.sub(r">=([\d.]+).*", lambda m: f"=={m[1]}", item) for item in project["dependencies"]]


def broken(folder: Path) -> None:
    """Write an adapter whose tensors have a wrapper's prefix, as a newcomer's may."""
    header, data = _parts((ADAPTER / "adapter_model.safetensors").read_bytes())
    renamed = {name if name == "__metadata__" else f"module.{name}": entry for name, entry in header.items()}
    raw = json.dumps(renamed).encode()
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    shutil.copyfile(ADAPTER / "adapter_config.json", folder / "adapter_config.json")


def _parts(content: bytes) -> tuple[dict[str, object], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def use(wheel: Path, folder: Path, requirements: list[str], extra: str, commands: Commands) -> bool:
    """Install and run; return whether every command exited as it should."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{wheel}{extra}", *requirements], check=True)
    broken(folder / "my-adapter")
    fine = True
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", "AWS_EC2_METADATA_DISABLED": "true"}
    environment |= {"AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example"}
    for arguments, expected in commands:
        done = subprocess.run(
            [folder / "bin" / "lora-packer", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=folder,
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
        for name, requirements, extra, commands in (
            ("newest", [], "[sandbox]", (*COMMANDS, *NEWCOMER)),
            ("oldest", oldest(), "", COMMANDS),
        ):
            results[name] = use(wheel, Path(folder) / name, requirements, extra, commands)
            print(f"wheel with the {name} dependencies: {'ok' if results[name] else 'FAILED'}", flush=True)
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
