"""A hint followed as a user would who does exactly what it says, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from lora_packer.finding import Finding

_SET = re.compile(r"Set (\w+) to ")
_REMOVE_FIELD = re.compile(r"Remove (\w+)\.")
_REMOVE_NAMES = re.compile(r"Remove (?:it|them|the number), which loses nothing")
_NAMED = re.compile(r"names (.+?), (?:which|and) this base")


def follow(finding: Finding, adapter: Path, into: Path) -> Path | None:
    """Return a copy of the adapter with the hint followed, or None where it asks for more than a change of a file."""
    hint, field = finding.hint or "", finding.field
    config = json.loads((adapter / "adapter_config.json").read_text())
    if found := _SET.match(hint):
        config[found[1]], _ = json.JSONDecoder().raw_decode(hint, found.end())
    elif (found := _REMOVE_FIELD.match(hint)) and found[1] in config:
        del config[found[1]]
    elif _REMOVE_NAMES.match(hint) and field is not None:
        gone = _NAMED.search(finding.message)
        assert gone is not None
        names = gone[1].split(", ")
        config[field] = [name for name in config[field] if str(name) not in names]
    else:
        return None
    shutil.copytree(adapter, into)
    (into / "adapter_config.json").write_text(json.dumps(config))
    return into
