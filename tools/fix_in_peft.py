"""What PEFT itself loads of the results of ``fix``: every merged weight is the one that the original gives.

usage: python tools/fix_in_peft.py CASES

CASES is what ``fix_cases.py`` wrote. Each pair is loaded by ``PeftModel.from_pretrained`` onto the same base model, of
random weights, and merged into it. PEFT may warn of no missing and no unexpected tensor. Exit 1 where a weight differs
by more than the case allows.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

Weights = dict[str, Any]


def base_of(folder: Path) -> Any:
    """The base model, with the same weights each time."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(**json.loads((folder / "base.json").read_text()))
    auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    return auto.from_config(config, dtype=torch.float32)


def merged(folder: Path, adapter: str) -> Weights:
    """The weights of the base model with an adapter merged into them. Raises what PEFT raises, and RuntimeError."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base_of(folder), str(folder / adapter))
    texts = [str(item.message) for item in told]
    lost = [text for text in texts if "missing" in text.lower() or "unexpected" in text.lower()]
    if lost:
        raise RuntimeError(lost[0][:200])
    return dict(model.merge_and_unload().state_dict())


def differs(folder: Path) -> tuple[float, str]:
    """By how much an update of the result differs, relative to its largest number, and of which weight it is."""
    own = {name: tensor.clone() for name, tensor in base_of(folder).state_dict().items()}
    wanted, found = merged(folder, "original"), merged(folder, "fixed")
    if wanted.keys() != found.keys():
        raise RuntimeError("other weights")
    worst, where = 0.0, ""
    if all(torch.equal(wanted[name], tensor) for name, tensor in own.items()):
        raise RuntimeError("the original changes nothing")
    for name, tensor in wanted.items():
        off = float((tensor.double() - found[name].double()).abs().max()) if tensor.numel() else 0.0
        size = float((tensor.double() - own[name].double()).abs().max()) or 1.0
        if off / size > worst:
            worst, where = off / size, name
    return worst, where


def main() -> int:
    """Compare all pairs; print each whose weights are not the same to the last bit."""
    wrong, exact, by_repair = 0, 0, set()
    cases = sorted(Path(sys.argv[1]).glob("*/case.json"))
    for path in cases:
        case = json.loads(path.read_text())
        try:
            worst, where = differs(path.parent)
        except Exception as error:  # noqa: BLE001 - whatever PEFT raises, the case is wrong
            print(f"WRONG {case['name']} ({case['repair']}): {type(error).__name__}: {error}"[:300])
            wrong += 1
            continue
        by_repair.add(case["repair"])
        exact += worst == 0
        if worst:
            is_wrong = worst > case["bound"]
            wrong += is_wrong
            said, of = "WRONG" if is_wrong else "     ", f"{case['name']} ({case['repair']})"
            print(f"{said} {of}: off by {worst:.1e} of the update, at most {case['bound']:g}: {where}")
    print(f"{len(cases)} results of {len(by_repair)} repairs in PEFT: {exact} merged bit for bit, {wrong} wrong")
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
