"""Write ``lora_packer/base_model/catalogue.json`` from ``fixtures/base-configs/<org>--<name>.json``.

usage: python tools/make_catalogue.py [--check]     (--check: exit 1 where the file is not current)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "fixtures" / "base-configs"
CATALOGUE = ROOT / "lora_packer" / "base_model" / "catalogue.json"

# The fields that decide the shapes of the known architectures, and their heads.
FIELDS = (
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "attention_bias",
    "mlp_bias",
    "num_local_experts",
)


def catalogue() -> str:
    """Return the catalogue's text."""
    models = {}
    for path in sorted(SOURCE.glob("*--*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        models[path.stem.replace("--", "/", 1)] = {name: config[name] for name in FIELDS if name in config}
    return json.dumps({"made_by": "tools/make_catalogue.py", "models": models}, indent=1) + "\n"


def main() -> int:
    """Write the catalogue, or check it."""
    text = catalogue()
    if "--check" in sys.argv[1:]:
        return 0 if CATALOGUE.read_text(encoding="utf-8") == text else 1
    CATALOGUE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
