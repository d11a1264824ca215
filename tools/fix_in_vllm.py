"""What vLLM itself makes of the results of ``fix``: its own config reader, loader and LoRA manager take every tensor.

usage: python tools/fix_in_vllm.py [--cache FOLDER] CASES [VERSION]

CASES is what ``fix_cases.py`` wrote. Only its classes that build on a CPU are asked; see ``proof_targets.py``. Exit 1
where vLLM refuses a result, or a tensor of it has no place.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import vllm_on_cpu
from proof_targets import said_by_vllm, served
from record_vllm import RELEASES

ROOT = Path(__file__).resolve().parent.parent
CLASSES = {"llama": "LlamaForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "gemma3": "Gemma3ForConditionalGeneration"}
# What vLLM takes in no form, or not for this class, which has each expert by itself: `check --target vllm` says it.
_NOT_TAKEN = {"DoRA off": "DoRA", "single experts": "fused 3D MoE"}


def main() -> int:
    """Start a process in which the release can be imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "vllm-wheels")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("cases", type=Path)
    parser.add_argument("version", nargs="?", default=RELEASES[-1])
    options = parser.parse_args()
    if options.inside:
        return read(options.cases, options.version)
    options.cache.mkdir(parents=True, exist_ok=True)
    folder = vllm_on_cpu.unpacked(options.version, options.cache)
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, __file__, "--inside", str(options.cases), options.version]
    return subprocess.run(command, check=False, env=environment).returncode


def read(cases: Path, version: str) -> int:
    """Have the release read all results."""
    vllm_on_cpu.prepare()
    counts: Counter[str] = Counter()
    managers: dict[str, Any] = {}
    for path in sorted(cases.glob("*/case.json")):
        case = json.loads(path.read_text())
        base = json.loads((path.parent / "base.json").read_text())
        base["architectures"] = [CLASSES[base["model_type"]]]
        key = json.dumps(base, sort_keys=True)
        if key not in managers:
            managers[key] = served(base)
        if isinstance(managers[key], str):
            counts[f"not made here: {managers[key]}"] += 1
            continue
        verdict, why = said_by_vllm(managers[key], path.parent / "fixed")
        is_known = verdict == "refused" and _NOT_TAKEN.get(case["name"], "\0") in why
        counts["refused, as check says" if is_known else verdict] += 1
        if verdict != "used" and not is_known:
            counts["wrong"] += 1
            print(f"WRONG {case['name']} ({case['repair']}): {verdict}: {why}"[:300])
    print(f"vLLM {version}: {dict(counts)}")
    return 1 if counts["wrong"] or not counts["used"] else 0


if __name__ == "__main__":
    sys.exit(main())
