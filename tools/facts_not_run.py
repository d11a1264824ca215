"""The facts about targets that ``make proof-targets`` runs no code for, each with where it was read."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).resolve().parent.parent / "lora_packer" / "targets" / "data"
# Whose own code the proof runs; of vLLM the releases from this one.
RUN = ("vllm", "sglang", "llama-cpp", "mlx", "peft")


class Read(NamedTuple):
    """A fact that was read and not run."""

    target: str
    versions: str
    feature: str
    effect: str
    source: str


def not_run(shown: Collection[str]) -> Iterator[Read]:
    """Return the facts that are read alone: of engines that are not run, of older releases, of features never shown.

    ``shown`` are the features that an adapter of the corpus has.
    """
    for path in sorted(DATA.glob("*.toml")):
        for fact in tomllib.loads(path.read_text(encoding="utf-8")).get("facts", ()):
            span = fact.get("versions", "")
            if path.stem not in RUN or span.startswith("<") or ",<" in span or fact["of"] not in shown:
                yield Read(path.stem, span, fact["of"], fact["effect"], fact.get("source", ""))
