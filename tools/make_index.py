"""Write ``lora_packer/base_model/models/index.json``: which file defines which model type.

With it a check imports the one lineage that it needs.

usage: python tools/make_index.py [--check]     (--check: print what differs, exit 1)
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from generated import settle

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "lora_packer" / "base_model" / "models"
INDEX = FOLDER / "index.json"
sys.path.insert(0, str(ROOT))


def index() -> str:
    """Return the index's text. Raises ValueError where two modules define one type."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.rglob("[a-z]*.py")):
        name = ".".join(path.relative_to(FOLDER).with_suffix("").parts)
        module = import_module(f"lora_packer.base_model.models.{name}")
        for model_type in getattr(module, "ARCHITECTURES", {}):
            if model_type in found:
                raise ValueError(f"{model_type} is defined in {found[model_type]} and in {name}")
            found[model_type] = name
    return json.dumps(dict(sorted(found.items())), indent=1) + "\n"


def main() -> int:
    """Write the index, or check it."""
    return settle({INDEX: index()})


if __name__ == "__main__":
    sys.exit(main())
