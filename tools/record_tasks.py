"""Write ``lora_packer/base_model/tasks.json``: the model types that transformers has no class of for a task.

Under ``none`` stand those of which AutoModel has no bare model, under ``generation`` those of which no class has what
PEFT takes of it for CAUSAL_LM and SEQ_2_SEQ_LM. Of the other types, ``generating`` has the classes that have it (for
the one task, and for the other where that is another class), and ``not_generating`` every class that has it not.
``described`` has the classes that the definition of a type describes, by head.

Needs torch and transformers (see the Makefile's ``proof``).

usage: python tools/record_tasks.py [--check]     (--check: exit 1 where the file is not what this writes)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from proof import HEADS, MORE_CLASSES, model_class  # noqa: E402
from proof_configs import class_type, of_transformers  # noqa: E402

from lora_packer.base_model import ARCHITECTURES  # noqa: E402
from lora_packer.base_model.architecture import IMAGE_CLASSIFIER  # noqa: E402
from lora_packer.base_model.tasks import FILE, GENERATION  # noqa: E402

TASKS = ("causal-lm", "sequence-classification", "token-classification", "question-answering", "none")


def recorded_text() -> str:
    """Return the file's text: one task a line."""
    import transformers

    types = of_transformers()
    without = {task: [name for name in types if model_class(name, task) is None] for task in TASKS}
    without[GENERATION] = [name for name in types if not _generates(name)]
    made_by = f'"made_by": "tools/record_tasks.py", "transformers": "{transformers.__version__}"'
    generating = {name: found for name in types if (found := _generating(name))}
    others = sorted({cls for name in generating for cls in _classes(name) if not _has_it(getattr(transformers, cls))})
    described = {name: _described(name) for name in types}
    named: tuple[tuple[str, Mapping[str, Any]], ...]
    named = (("without", without), ("generating", generating), ("described", described))
    groups = [f"{json.dumps(group)}: {_lines(lines)}" for group, lines in named]
    return f'{{{made_by}, {", ".join(groups)}, "not_generating": {json.dumps(others)}}}\n'


def _lines(lists: Mapping[str, Any]) -> str:
    body = ",\n".join(f"{json.dumps(name)}: {json.dumps(names)}" for name, names in lists.items())
    return f"{{\n{body}\n}}"


def _described(model_type: str) -> dict[str, str]:
    """The classes that the proof compares the definition with, by head, and those that leave a part of them out."""
    architecture = ARCHITECTURES[model_type]
    found = {head: cls.__name__ for head in HEADS if (cls := model_class(model_type, head)) is not None}
    parts = {"encoder": "MODEL_FOR_TEXT_ENCODING", IMAGE_CLASSIFIER: "MODEL_FOR_IMAGE_CLASSIFICATION"}
    has = {"encoder": architecture.encoder_decoder, IMAGE_CLASSIFIER: IMAGE_CLASSIFIER in architecture.dialects}
    for part, table in parts.items():
        cls = _in_table(f"{table}_MAPPING_NAMES", model_type)
        if cls is not None and has[part]:
            found[part] = cls
    found |= {name: name for name in MORE_CLASSES.get(model_type, ())}
    return {head: cls for at, (head, cls) in enumerate(found.items()) if cls not in list(found.values())[:at]}


def _in_table(table: str, model_type: str) -> str | None:
    from transformers.models.auto import modeling_auto

    found = getattr(modeling_auto, table).get(class_type(model_type))
    return found if found is None or isinstance(found, str) else str(found[0])


def _generates(model_type: str) -> bool:
    return any(_has_it(model_class(model_type, head)) for head in HEADS)


def _generating(model_type: str) -> list[str]:
    own = [model_class(model_type, head) for head in ("causal-lm", "seq2seq")]
    classes = own if any(map(_has_it, own)) else [model_class(model_type, head) for head in HEADS]
    return list(dict.fromkeys(cls.__name__ for cls in classes if _has_it(cls)))


def _has_it(cls: Any) -> bool:
    return hasattr(cls, "prepare_inputs_for_generation")


def _classes(model_type: str) -> set[str]:
    """The names of the classes that any of transformers' auto classes has for the type."""
    import transformers
    from transformers.models.auto import modeling_auto

    names = (name for name in dir(modeling_auto) if name.startswith("MODEL_") and name.endswith("MAPPING_NAMES"))
    tables = [getattr(modeling_auto, name) for name in names]
    found = [table.get(class_type(model_type), ()) for table in tables]
    classes = {name for item in found for name in ((item,) if isinstance(item, str) else item)}
    return {name for name in classes if hasattr(transformers, name)}


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
