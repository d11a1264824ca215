"""Write ``lora_packer/base_model/tasks.json``: the model types that transformers has no class of for a task.

Under ``generation`` stand those of which no class has what PEFT takes of it for CAUSAL_LM and SEQ_2_SEQ_LM.

Needs torch and transformers (see the Makefile's ``proof``).

usage: python tools/record_tasks.py [--check]     (--check: exit 1 where the file is not what this writes)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof import HEADS, model_class  # noqa: E402

from lora_packer.base_model import ARCHITECTURES  # noqa: E402
from lora_packer.base_model.tasks import FILE, GENERATION  # noqa: E402

TASKS = ("sequence-classification", "token-classification", "question-answering")


def recorded_text() -> str:
    """Return the file's text: one task a line."""
    import transformers

    types = sorted(ARCHITECTURES)
    without = {task: [name for name in types if model_class(name, task) is None] for task in TASKS}
    without[GENERATION] = [name for name in types if not _generates(name)]
    lines = [f"{json.dumps(task)}: {json.dumps(names)}" for task, names in without.items()]
    made_by = f'"made_by": "tools/record_tasks.py", "transformers": "{transformers.__version__}"'
    body = ",\n".join(lines)
    return f'{{{made_by}, "without": {{\n{body}\n}}}}\n'


def _generates(model_type: str) -> bool:
    classes = (model_class(model_type, head) for head in HEADS)
    return any(hasattr(cls, "prepare_inputs_for_generation") for cls in classes)


def main() -> int:
    """Write the file, or check it."""
    text = recorded_text()
    if "--check" not in sys.argv[1:]:
        FILE.write_text(text, encoding="utf-8")
        return 0
    if FILE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{FILE.name} is not what tools/record_tasks.py writes: run it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
