"""Write ``lora_packer/peft/conversions.json``: how PEFT renames an adapter's tensors when it loads them.

``converted_types.json`` beside it has the model types alone. Needs torch, transformers and peft (see the Makefile's
``proof``). transformers keeps, by class name and model type,
what it changes in a checkpoint's names (``transformers/conversion_mapping.py``); PEFT makes of it what it changes in an
adapter's (``peft/utils/transformers_weight_conversion.py::build_peft_weight_mapping``). A model gets the list of each
model inside it, so these are recorded too: of every class that a definition has, the paths of the models in it.

usage: python tools/record_conversions.py [--check]     (--check: exit 1 where the file is not current)
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

from proof import MORE_CLASSES, build, model_class  # noqa: E402
from proof_configs import SAME_CLASS, class_type, of_transformers, random_config  # noqa: E402

from lora_packer.base_model import ARCHITECTURES  # noqa: E402
from lora_packer.base_model.architecture import IMAGE_CLASSIFIER  # noqa: E402
from lora_packer.peft.conversions import FILE, TYPES  # noqa: E402

_HEADS = (
    "causal-lm",
    "seq2seq",
    "sequence-classification",
    "token-classification",
    "question-answering",
    "none",
)
_DRAWS = 12
# PEFT's own first entries, the same for every model: its prefix, and the adapter's name.
_GENERAL = 3


def renames() -> dict[str, list[list[Any]]]:
    """Return class name or model type -> what PEFT makes of transformers' list for it."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import build_peft_weight_mapping
    from transformers import conversion_mapping

    conversion_mapping.get_checkpoint_conversion_mapping("")  # fills the cache
    lists = conversion_mapping._checkpoint_conversion_mapping_cache
    return {
        name: [entry(item) for item in build_peft_weight_mapping(own, "default", LoraConfig())[_GENERAL:]]
        for name, own in sorted(lists.items())
    }


def entry(transform: Any) -> list[Any]:
    """Return one entry: its kind, its patterns, and what the kind needs besides."""
    kind = type(transform).__name__
    found = [kind, list(transform.source_patterns), list(transform.target_patterns)]
    if kind == "WeightConverter":
        found.append([type(item).__name__ for item in transform.operations])
    elif kind == "Inkling2IndexOffsetWeightRename":
        found.append(transform.offset)
    elif kind not in ("WeightRenaming", "PrefixChange", "GroupWeightRename", "LayerPairCollapse"):
        raise SystemExit(f"record_conversions: {kind} is not known to lora_packer/peft/conversions.py")
    return found


def small(model_type: str, head: str) -> Any:
    """Return a small model of the type under a head on the meta device, or None where there is no such class."""
    if model_class(model_type, head) is None:
        return None
    chance = random.Random(0)
    last: Exception | None = None
    for _ in range(_DRAWS):
        try:
            return build(random_config(model_type, chance), head)
        except Exception as error:  # noqa: BLE001 - a config that transformers refuses is drawn again
            last = error
    try:
        return build({"model_type": model_type}, head)
    except Exception:  # noqa: BLE001
        raise SystemExit(f"record_conversions: {model_type} under {head} cannot be built: {last}") from last


def models_in(model: Any, known: set[str]) -> Iterator[list[str]]:
    """Yield each model inside a model that may have a list: path, class, model type, and the field of its config."""
    from transformers import PreTrainedModel

    fields = {id(value): name for name, value in vars(model.config).items() if hasattr(value, "model_type")}
    for path, module in model.named_modules():
        if isinstance(module, PreTrainedModel):
            name, model_type = type(module).__name__, module.config.model_type or ""
            field = fields.get(id(module.config), "") if path else ""
            # The first model of a nested config stands for what another config type would put there.
            if name in known or model_type in known or field:
                yield [path, name, model_type, field]


def tower_classes(known: set[str]) -> Iterator[tuple[str, str]]:
    """Yield what AutoModel makes of a config that may stand below another one: model type, class."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    for model_type, name in sorted(MODEL_MAPPING_NAMES.items()):
        cls = name if isinstance(name, str) else name[0]
        if cls in known or model_type in known:
            yield model_type, cls


def record() -> dict[str, Any]:
    """Return the whole file."""
    import peft
    import transformers
    from peft.utils.transformers_weight_conversion import _MODEL_TO_CONVERSION_PATTERN, _MOE_TARGET_MODULE_MAPPING

    lists = renames()
    known = set(lists)
    classes: dict[str, dict[str, str]] = {}
    trees: dict[str, dict[str, Any]] = {}
    owners: dict[str, str] = {}
    for model_type in of_transformers():
        # Of a model type without a list of its own, PEFT converts nothing, whatever models are in it.
        heads = dict(zip(_HEADS, _HEADS, strict=True)) if class_type(model_type) in known else {}
        if IMAGE_CLASSIFIER in ARCHITECTURES[model_type].dialects:
            heads[IMAGE_CLASSIFIER] = MORE_CLASSES[model_type][0]
        for own, head in heads.items():
            cls = model_class(model_type, head)
            if cls is None:
                continue
            # A class of several types has the lists of the type whose config it got.
            owner = owners.setdefault(cls.__name__, class_type(model_type))
            name = cls.__name__ if owner == class_type(model_type) else f"{cls.__name__} of {model_type}"
            classes.setdefault(model_type, {})[own] = name
            if name not in trees:
                model = small(model_type, head)
                rows = list(models_in(model, known))
                trees[name] = {"prefix": model.base_model_prefix, "models": rows}
    towers = dict(tower_classes(known))
    used = {name for tree in trees.values() for row in tree["models"] for name in (row[1], row[2])}
    used |= {*towers, *towers.values()}
    converted = {
        name: pattern
        for name, pattern in sorted(_MODEL_TO_CONVERSION_PATTERN.items())
        if pattern in _MOE_TARGET_MODULE_MAPPING and name in {class_type(item) for item in of_transformers()}
    }
    return {
        "by": "tools/record_conversions.py",
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "same": {name: other for name, other in sorted(SAME_CLASS.items()) if other in known},
        "experts": converted,
        "classes": classes,
        "towers": towers,
        "trees": dict(sorted(trees.items())),
        "renames": {name: own for name, own in lists.items() if name in used or name == "legacy"},
    }


def text_of(recorded: dict[str, Any]) -> str:
    """Return the file's text: one class, type or list a line."""
    parts = []
    for key, value in recorded.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(item)}" for name, item in value.items())
            parts.append(f' "{key}": {{\n{rows}\n }}')
        else:
            parts.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    """Write the file, or say whether it is current."""
    warnings.simplefilter("ignore")
    found = record()
    texts = {FILE: text_of(found), TYPES: json.dumps(list(found["classes"]), indent=0) + "\n"}
    if "--check" in sys.argv[1:]:
        stale = [path.name for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
        print(f"not current: {', '.join(stale)}: run tools/record_conversions.py" if stale else "current")
        return 1 if stale else 0
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.name}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
