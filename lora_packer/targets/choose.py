"""Which targets are asked about: ``a,b``, repeated names, ``all``, and a file that describes a server of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lora_packer.errors import InputError
from lora_packer.frozen import frozen
from lora_packer.targets.load import NAMES, find_target
from lora_packer.targets.target import DEFAULT_TARGET, Target

ALL = "all"


@frozen
class Chosen:
    """The targets that are asked about.

    Attributes:
        targets: all of them, in the order asked for; of ``all`` the default one first.
        deciding: how many of the first ones decide.
    """

    targets: tuple[Target, ...]
    deciding: int

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return len(self.targets) > 1


def chosen(asked: str | Sequence[str], file: str | Path | None = None) -> Chosen:
    """Return the targets of ``--target`` and ``--target-file``; with a file alone, that one. Raises InputError."""
    values = (asked,) if isinstance(asked, str) else tuple(asked)
    names = [name for value in values for name in (part.strip() for part in value.split(","))]
    if not all(names):
        raise InputError("--target names no target.", hint=f"Known: {', '.join(NAMES)}, and all.")
    own: tuple[Target, ...] = ()
    if file is not None:
        from lora_packer.targets.own import read_target_file  # few have one

        own = (read_target_file(file),)
    if not names:
        names = [] if own else [DEFAULT_TARGET]
    every = ALL in names
    named = tuple(find_target(name) for name in dict.fromkeys(names) if name != ALL)
    first = named + own
    if not every:
        return Chosen(first, len(first))
    first = first or (find_target(DEFAULT_TARGET),)
    known = {target.label for target in first}
    return Chosen((*first, *(find_target(name) for name in NAMES if name not in known)), len(first))
