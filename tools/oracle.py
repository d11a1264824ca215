"""What PEFT loads, against what the check says: thousands of adapters through real PEFT of several releases.

``tools/oracle_cases.py`` makes the adapters, ``tools/loading_oracle.py`` asks PEFT in each environment, and here the
answers are held against the verdict. For today's pair of PEFT and transformers: with ``--target peft`` the check
passes an adapter exactly where all of it loads. Over all pairs: for the default target, what some pair loads whole is
no error, and what none loads a tensor of is one. What may differ stands in ``REASONS``, each with its reason.

usage: python tools/oracle.py [--of-each N] [--seed N] [--only TYPE ...] [--with PYTHON ...] [--record FILE]
       (--with: the interpreter of an environment with other releases; the first answers are those of this one)
"""

from __future__ import annotations

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from sweep_cases import write_unread  # noqa: E402

import lora_packer  # noqa: E402

Raw = dict[str, Any]
Answers = Mapping[str, Raw]

_WHOLE, _PART, _NOTHING = "all", "part", ("none", "raises")
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
REASONS: Mapping[str, str] = {
    "inkling2_text: every, the model's own code": _RENAMED_IN_5_23,
    "inkling2_text: of one layer, the model's own code": _RENAMED_IN_5_23,
    "gemma3n_text: every, model.language_model": _UNTRAINED,
    "gemma3n_text: a pattern, model.language_model": _UNTRAINED,
}


def verdict(case: Raw, target: str, folder: Path) -> tuple[str, bool]:
    """Return the status of the check of a case, and whether it says that another class loads the file."""
    write_unread(folder, case["config"], case["tensors"])
    report = lora_packer.check(folder, base_config=case["base"], target=target, weights=False)
    told = (item.message for item in report.findings if item.code == "LP322")
    return report.status, any(words in message for message in told for words in _OTHER_CLASSES)


def disagreement(case: Raw, answers: Sequence[str], folder: Path) -> str:
    """Return how the check and PEFT's answers differ, or "". The first is today's; unbuilt models say nothing."""
    today, known = answers[0], [item for item in answers if item != "unbuilt"]
    if today != "unbuilt":
        said, _ = verdict(case, "peft", folder)
        if (said == "ok") != (today == _WHOLE):
            return f"today's PEFT loads {today}, the check with --target peft says {said}"
    if known:
        said, other_class = verdict(case, "together", folder)
        if _WHOLE in known and said != "ok":
            return f"PEFT loads {answers}, the check with the default target says {said}"
        if len(known) == len(answers) and all(item in _NOTHING for item in known) and said == "ok" and not other_class:
            return f"no PEFT loads a tensor ({answers}), the check with the default target says ok"
    return ""


def ask(python: str, cases: Path, folder: Path) -> tuple[str, Answers]:
    """Return the releases of an environment, and what its PEFT does with each case."""
    out = folder / "answers.jsonl"
    tool = Path(__file__).with_name("loading_oracle.py")
    subprocess.run([python, tool, cases, out], check=True)
    head, *lines = out.read_text(encoding="utf-8").splitlines()
    releases = json.loads(head)
    answers = (json.loads(line) for line in lines)
    name = f"PEFT {releases['peft']}, transformers {releases['transformers']}"
    return name, {answer["id"]: answer for answer in answers}


def compared(cases: Iterable[Raw], pairs: Mapping[str, Answers]) -> tuple[Counter[str], list[str]]:
    """Return how many cases agree and disagree, and each disagreement that has no reason."""
    counts: Counter[str] = Counter()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            answers = [answers[case["id"]]["loads"] for answers in pairs.values()]
            wrong = disagreement(case, answers, Path(folder))
            counts["explained" if wrong and case["id"] in REASONS else "disagree" if wrong else "agree"] += 1
            if wrong and case["id"] not in REASONS:
                whys = [answers[case["id"]]["why"] for answers in pairs.values()]
                found.append(f"{case['id']}: {wrong} {[why[:120] for why in whys if why]} {case['config']}")
    return counts, found


def record(path: Path, cases: Sequence[Raw], pairs: Mapping[str, Answers]) -> int:
    """Write a slice of the cases with their answers, for a test without torch; return how many."""
    kept: list[list[Any]] = []
    bases: dict[str, int] = {}
    seen: Counter[tuple[str, str]] = Counter()
    for case in cases:
        answers = [answers[case["id"]]["loads"] for answers in pairs.values()]
        seen[case["type"], answers[0]] += 1
        if answers[0] == "unbuilt" or seen[case["type"], answers[0]] > _RECORDED_OF_EACH:
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
        pairs = dict(ask(python, file, folder) for python in (sys.executable, *args.others))
    for name, answers in pairs.items():
        print(f"{name}: {dict(sorted(Counter(item['loads'] for item in answers.values()).items()))}")
    counts, found = compared(made, pairs)
    print(f"{len(made)} cases of {len({case['type'] for case in made})} types: {dict(counts)}")
    for line in found:
        print(f"oracle: {line}", file=sys.stderr)
    if args.record:
        print(f"{args.record.name}: {record(args.record, made, pairs)} cases")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
