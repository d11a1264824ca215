"""Write the first version of a model type's definition: what transformers builds, in the blocks that we have.

Needs torch and transformers (see the Makefile's ``proof``). The type's classes are built on the meta device under many
configs; sizes become expressions over fields, numbered layers a loop, and parts that a block of ours yields become
that block. What is not explained is marked with ``DRAFT``. A person finishes it: CONTRIBUTING.md walks through one.

usage: python tools/draft.py TYPE [--random N] [--output FILE]
       (exit 1: something is not explained, or the draft yields something else than transformers for a config)
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from drafting.draft import differences, draft  # noqa: E402
from drafting.record import record  # noqa: E402


def formatted(source: str) -> str:
    """Return the source as ruff formats it, where ruff is at hand."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(ROOT / ".venv" / "bin"))
    if ruff is None:
        return source
    call = [ruff, "format", "--config", str(ROOT / "pyproject.toml"), "-"]
    done = subprocess.run(call, input=source, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else source


def main() -> int:
    """Record, draft, compare, print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("type")
    options.add_argument("--random", type=int, default=24, help="how many random configs are built")
    options.add_argument("--output", type=Path, help="a file in place of the standard output")
    args = options.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    started = time.perf_counter()
    try:
        recorded = record(args.type, args.random)
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 1
    drafted = draft(recorded)
    wrong = list(differences(drafted, recorded))
    source = formatted(drafted.source)
    if args.output:
        args.output.write_text(source, encoding="utf-8")
    else:
        print(source, end="")
    seconds = time.perf_counter() - started
    print(
        f"{args.type}: {len(recorded.configs)} configs, {', '.join(recorded.heads)}; {seconds:.0f} s", file=sys.stderr
    )
    for note in [*(f"not explained: {note}" for note in drafted.open), *(f"differs under {line}" for line in wrong)]:
        print(note, file=sys.stderr)
    return 1 if drafted.open or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
