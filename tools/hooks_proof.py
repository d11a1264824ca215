"""The real pre-commit installs the hook from this repository, as it is committed, and runs it in one made for that.

usage: python tools/hooks_proof.py    (needs git, pre-commit beside this Python, and a package index)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASE = "fixtures/base-configs/tiny-llama.json"
PRE_COMMIT = Path(sys.executable).parent / "pre-commit"
CONFIG = """\
repos:
  - repo: {root}
    rev: {rev}
    hooks:
      - id: lora-packer-check
        args: [--base-config=base.json]
"""


def run(*words: str | Path, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, apart from the settings of whoever calls it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "PRE_COMMIT_HOME": str(home),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }
    names = ("-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main")
    command = ["git", *names, *map(str, words[1:])] if words[0] == "git" else [str(word) for word in words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def committed(folder: Path, home: Path, adapter: Path) -> subprocess.CompletedProcess[str]:
    """Commit an adapter, and return how that went."""
    shutil.copytree(adapter, folder / "adapters" / adapter.name)
    run("git", "add", "--all", folder=folder, home=home)
    return run("git", "commit", "--message", adapter.name, folder=folder, home=home)


def main() -> int:
    """Commit a good adapter and a broken one, and return whether both went as they should."""
    with tempfile.TemporaryDirectory() as made:
        folder, home = Path(made, "project"), Path(made, "home")
        folder.mkdir()
        rev = run("git", "rev-parse", "HEAD", folder=ROOT, home=home).stdout.strip()
        run("git", "init", folder=folder, home=home)
        (folder / ".pre-commit-config.yaml").write_text(CONFIG.format(root=ROOT, rev=rev))
        shutil.copy(ROOT / BASE, folder / "base.json")
        installed = run(PRE_COMMIT, "install", "--install-hooks", folder=folder, home=home)
        if installed.returncode:
            print(f"pre-commit could not install the hook:\n{installed.stdout}{installed.stderr}")
            return 1
        good = committed(folder, home, ROOT / "fixtures" / "adapters" / "tiny-llama-qv")
        broken = committed(folder, home, ROOT / "fixtures" / "broken" / "nan")
        told = broken.stdout + broken.stderr
        fine = good.returncode == 0 and "Passed" in good.stdout + good.stderr
        refused = broken.returncode == 1 and "LP401 not-finite" in told and "adapters/nan" in told
        print(f"{'ok  ' if fine else 'FAIL'} a good adapter is committed")
        print(f"{'ok  ' if refused else 'FAIL'} a broken one is not")
        if not (fine and refused):
            print(good.stdout, good.stderr, told)
        return 0 if fine and refused else 1


if __name__ == "__main__":
    sys.exit(main())
