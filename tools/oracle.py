"""What PEFT loads, against what the check says: thousands of adapters through real PEFT of several releases.

``tools/oracle_cases.py`` makes the adapters, ``tools/loading_oracle.py`` asks PEFT in each environment, and here the
answers are held against the verdict (``disagreements``). What may differ stands in ``REASONS``, each with its reason.

usage: python tools/oracle.py [--of-each N] [--seed N] [--only TYPE ...] [--with PYTHON ...] [--record FILE]
       (--with: the interpreter of an environment with other releases; the first answers are those of this one)
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sweep_cases import write_unread  # noqa: E402

import lora_packer  # noqa: E402

Raw = dict[str, Any]
Answers = Mapping[str, Raw]

_WHOLE, _PART, _UNBUILT, _NOTHING = "all", "part", "unbuilt", ("none", "raises")
_RECORDED_OF_EACH = 3
# PEFT was asked for the class that the base config names.
_OTHER_CLASSES = ("text-only class", "bare model", "class that classifies images")

# The case's name -> why the disagreement stands.
_UNTRAINED = (
    "transformers 5 gives the layers that share keys and values none of their own, 4.57 does: there all that is in the "
    "file lands, and these layers stay untrained, which the check calls missing"
)
_RENAMED_IN_5_23 = (
    "transformers 5.23 renames the model's own code to names that 5.24 has no more; the check knows today's renaming"
)
_TEXT_UNTRAINED_IN_5_23 = (
    "the config asks for the language model's projections too, which are containers in transformers 5.24, so that PEFT "
    "raises; in 5.23 all that is in the file lands, and the language model stays untrained"
)
REASONS: Mapping[str, str] = {
    "inkling2_text: every, the model's own code": _RENAMED_IN_5_23,
    "inkling2_text: of one layer, the model's own code": _RENAMED_IN_5_23,
    "inkling2: a target too many": _TEXT_UNTRAINED_IN_5_23,
    "gemma3n_text: every, model.language_model": _UNTRAINED,
    "gemma3n_text: a pattern, model.language_model": _UNTRAINED,
    "gemma3n_text: dropout, model.language_model": _UNTRAINED,
}


def verdict(case: Raw, target: str, folder: Path) -> tuple[str, str]:
    """Return the status of the check of a case, and what it says of files that today's PEFT does not load."""
    write_unread(folder, case["config"], case["tensors"])
    report = lora_packer.check(folder, base_config=case["base"], target=target, weights=False)
    return report.status, " ".join(item.message for item in report.findings if item.code == "LP322")


def disagreements(case: Raw, answers: Sequence[str], folder: Path) -> list[str]:
    """Return how the check and each pair's answer differ, or ""; the first is today's, and an unbuilt model no answer.

    For today's pair the check with ``--target peft`` passes what loads whole and nothing else. For every pair the check
    with the default target has no error for what that pair loads whole, and what no pair loads whole is an error, or a
    warning that says which class or release would.
    """
    found = [""] * len(answers)
    known = [item for item in answers if item != _UNBUILT]
    if not known:
        return found
    if answers[0] != _UNBUILT:
        said, _ = verdict(case, "peft", folder)
        if (said == "ok") != (answers[0] == _WHOLE):
            found[0] = f"it loads {answers[0]}, the check with --target peft says {said}"
    said, told = verdict(case, "together", folder)
    passed = said == "ok"
    nowhere = len(known) == len(answers) and not any(words in told for words in _OTHER_CLASSES)
    for at, loads in enumerate(answers):
        if found[at] or loads == _UNBUILT:
            continue
        if loads == _WHOLE and not passed:
            found[at] = f"it loads all, the check with the default target says {said}"
        elif passed and nowhere and all(item in _NOTHING for item in known):
            found[at] = f"no pair loads a tensor ({loads}), the check with the default target says ok"
        elif passed and not told and _WHOLE not in known:
            found[at] = f"no pair loads all of it ({loads}), the check with the default target says nothing of it"
    return found


def ask(python: str, cases: Path, out: Path) -> tuple[str, Answers]:
    """Return the releases of an environment, and what its PEFT does with each case."""
    tool = Path(__file__).with_name("loading_oracle.py")
    subprocess.run([python, tool, cases, out], check=True)
    head, *lines = out.read_text(encoding="utf-8").splitlines()
    releases = json.loads(head)
    answers = (json.loads(line) for line in lines)
    name = f"PEFT {releases['peft']}, transformers {releases['transformers']}"
    return name, {answer["id"]: answer for answer in answers}


def compared(cases: Iterable[Raw], pairs: Mapping[str, Answers]) -> tuple[Mapping[str, Counter[str]], list[str]]:
    """Return for each pair how many cases agree and disagree, and each disagreement that has no reason."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in pairs}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            own = [answers[case["id"]] for answers in pairs.values()]
            loads = [answer["loads"] for answer in own]
            for name, answer, wrong in zip(pairs, own, disagreements(case, loads, Path(folder)), strict=True):
                kind = "explained" if wrong and case["id"] in REASONS else "disagree" if wrong else "agree"
                counts[name][_UNBUILT if answer["loads"] == _UNBUILT else kind] += 1
                if kind == "disagree":
                    found.append(f"{name}: {case['id']}: {wrong}; {answer['why'][:120]} {case['config']}")
    return counts, found


def record(path: Path, cases: Sequence[Raw], pairs: Mapping[str, Answers]) -> int:
    """Write a slice of the cases with their answers, for a test without torch; return how many."""
    kept: list[list[Any]] = []
    bases: dict[str, int] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for case in cases:
        answers = [answers[case["id"]]["loads"] for answers in pairs.values()]
        seen[case["type"], answers[0]] += 1
        if answers[0] == _UNBUILT or seen[case["type"], answers[0]] > _RECORDED_OF_EACH:
            continue
        at = bases.setdefault(json.dumps(case["base"]), len(bases))
        kept.append([case["id"], at, case["config"], case["tensors"], answers])
    whole = {
        "by": "tools/oracle.py",
        "pairs": list(pairs),
        "bases": [json.loads(base) for base in bases],
        "cases": kept,
    }
    path.write_bytes(lzma.compress(json.dumps(whole).encode(), preset=9))
    return len(kept)


def main() -> int:
    """Make the cases, ask every environment, and say what differs."""
    options = argparse.ArgumentParser()
    options.add_argument("--of-each", type=int, default=12)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", nargs="*", default=())
    options.add_argument("--with", nargs="*", default=(), dest="others")
    options.add_argument("--record", type=Path)
    options.add_argument("--keep", type=Path)
    args = options.parse_args()
    from oracle_cases import cases

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        made = list(cases(args.seed, args.of_each, frozenset(args.only)))
        file = folder / "cases.jsonl"
        file.write_text("".join(json.dumps(case) + "\n" for case in made), encoding="utf-8")
        pythons = (sys.executable, *args.others)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            places = (folder / f"answers-{at}.jsonl" for at in range(len(pythons)))
            pairs = dict(pool.map(ask, pythons, repeat(file), places))
    print(f"{len(made)} cases of {len({case['type'] for case in made})} types")
    counts, found = compared(made, pairs)
    for name, answers in pairs.items():
        loads = Counter(item["loads"] for item in answers.values() if item["loads"] != _UNBUILT)
        listed = ", ".join(f"{kind} {loads[kind]}" for kind in (_WHOLE, _PART, *_NOTHING))
        said = ", ".join(f"{counts[name][kind]} {kind}" for kind in ("agree", "explained", "disagree"))
        print(f"{name}: {loads.total()} built, of which PEFT loads {listed}; {said}", flush=True)
    for line in found:
        print(f"oracle: {line}", file=sys.stderr)
    if args.record:
        print(f"{args.record.name}: {record(args.record, made, pairs)} cases")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
