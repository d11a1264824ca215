"""Write ``fixtures/bands.json``: what PEFT writes of the types that two releases of transformers 5 build differently.

Run it in an environment of either release (``make proof-venv``, ``make proof-dialects-venvs``): it writes that
release's part and keeps the other's. The adapters are made on the meta device; of the tensors, names and shapes are
kept.

usage: python tools/record_bands.py
"""

from __future__ import annotations

import json
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof import build  # noqa: E402
from proof_configs import random_config  # noqa: E402

FILE = ROOT / "fixtures" / "bands.json"
_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
_INSIDE = [f"{name}.linear" for name in _ATTENTION]
# Model type -> head -> targets and modules_to_save; targets that a release has no module of are left out.
TYPES: dict[str, dict[str, list[tuple[Any, list[str] | None]]]] = {
    "inkling2": {
        "causal-lm": [("all-linear", None), (_INSIDE, None), (_ATTENTION, None)],
        "text-only": [(_INSIDE, None), (_ATTENTION, ["lm_head"])],
    },
    "inkling2_text": {"causal-lm": [("all-linear", None), (_INSIDE, ["lm_head"]), (_ATTENTION, ["lm_head"])]},
    "gptj": {
        "causal-lm": [(["q_proj", "v_proj"], None), ("all-linear", None)],
        "question-answering": [(["q_proj", "v_proj"], None), ("all-linear", ["qa_outputs"])],
    },
    "mistral_large4": {"causal-lm": [(_ATTENTION[-1:], None), ("all-linear", None)]},
    "reformer": {"causal-lm": [(["value"], None), ("all-linear", None), (["value"], ["lm_head"])]},
}
_TASKS = {"causal-lm": "CAUSAL_LM", "text-only": "CAUSAL_LM", "question-answering": "QUESTION_ANS"}


def adapters() -> Iterator[dict[str, Any]]:
    """Yield each adapter that this release's PEFT makes."""
    for model_type, heads in TYPES.items():
        base = random_config(model_type, random.Random(2), declared=True)
        base.pop("transformers_version", None)
        for head, configs in heads.items():
            for targets, saved in configs:
                made = adapter(base, head, targets, saved)
                if made is not None:
                    yield {"type": model_type, "head": head, **made}


def adapter(base: dict[str, Any], head: str, targets: Any, saved: list[str] | None) -> dict[str, Any] | None:
    """Return one adapter, or None where PEFT refuses the targets on this release's modules."""
    from peft import LoraConfig, get_peft_model
    from peft.utils import get_peft_model_state_dict

    model = build(base, head)
    config = LoraConfig(r=4, target_modules=targets, modules_to_save=saved, task_type=_TASKS[head])
    try:
        made = get_peft_model(model, config)
    except ValueError:
        return None
    own = {
        **base,
        "architectures": [type(model).__name__ if head != "text-only" else build(base, "causal-lm").__class__.__name__],
    }
    fields = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    shapes = {name: list(tensor.shape) for name, tensor in get_peft_model_state_dict(made).items()}
    return {"base": own, "config": fields, "tensors": shapes}


def main() -> int:
    """Write this release's part."""
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity_error()
    release = ".".join(transformers.__version__.split(".")[:2])
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    kept[release] = list(adapters())
    rows = ",\n".join(
        f'"{name}": [\n' + ",\n".join(json.dumps(item, default=str) for item in items) + "\n]"
        for name, items in sorted(kept.items())
    )
    FILE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    print(f"{FILE.name}: {len(kept[release])} adapters of transformers {release}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
