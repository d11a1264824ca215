"""What changed between two adapters: the result of ``diff``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any, Literal

from lora_packer.frozen import frozen
from lora_packer.inspector.config_changes import ConfigChange


@frozen
class ModuleChange:
    """What became of one module's update, or of one tensor that is no part of an update.

    Attributes:
        module: its path in the base model; of a tensor with what it is of that module.
        kind: ``update`` (lora_A and lora_B), or ``tensor``: a saved weight, a bias, a magnitude of DoRA.
        change: ``same``, ``changed``, ``added`` or ``removed``.
        moved: the Frobenius norm of the difference in percent of that of the old update (of a tensor: of the old
            values). 0 where the bytes and the scale are the same; 100 where it was removed, or where there was none, or
            one of zeros. None where it could not be computed.
        old_norm, new_norm: the norms of scale x B x A, or None.
        old_rank, new_rank, old_scale, new_scale: of an update; None where there is none, or it is not known.
        not_compared: why ``moved`` is None.
    """

    module: str
    kind: Literal["update", "tensor"]
    change: Literal["same", "changed", "added", "removed"]
    moved: float | None = None
    old_norm: float | None = None
    new_norm: float | None = None
    old_rank: int | None = None
    new_rank: int | None = None
    old_scale: float | None = None
    new_scale: float | None = None
    not_compared: str | None = None


@frozen
class Diff:
    """What changed between two adapters.

    Attributes:
        old, new: what was compared.
        config: the fields of adapter_config.json that mean something else.
        modules: each module, the one that moved most first; what could not be compared comes before all others.
        overall: the norm of all differences together in percent of that of all old updates, as far as they could be
            compared; None where there was no old update.
    """

    old: str
    new: str
    config: tuple[ConfigChange, ...]
    modules: tuple[ModuleChange, ...]
    overall: float | None

    @property
    def status(self) -> Literal["same", "changed"]:
        """``same`` where config, modules and values are the same."""
        return "changed" if self.config or any(item.change != "same" for item in self.modules) else "same"

    @property
    def largest(self) -> ModuleChange | None:
        """The module that moved most."""
        return max(
            (item for item in self.modules if item.moved is not None), key=lambda item: item.moved or 0.0, default=None
        )

    @property
    def not_compared(self) -> tuple[ModuleChange, ...]:
        """What could not be compared."""
        return tuple(item for item in self.modules if item.not_compared is not None)

    def above(self, percent: float) -> tuple[ModuleChange, ...]:
        """Return what moved more than ``percent``."""
        return tuple(item for item in self.modules if item.moved is not None and item.moved > percent)

    def to_dict(self) -> dict[str, Any]:
        """Return it as ``diff --format json`` prints it."""
        counts = Counter(item.change for item in self.modules)
        largest = self.largest
        return {
            "schema_version": 1,
            "status": self.status,
            "old": self.old,
            "new": self.new,
            "config": [asdict(item) for item in self.config],
            "modules": [asdict(item) for item in self.modules],
            "summary": {
                "modules": len(self.modules),
                **{name: counts[name] for name in ("same", "changed", "added", "removed")},
                "not_compared": len(self.not_compared),
                "largest": None if largest is None else largest.moved,
                "overall": self.overall,
            },
        }
