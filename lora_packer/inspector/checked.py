"""What packing needs to know of the files that are checked: so that it need not read them again, nor take others."""

from __future__ import annotations

from lora_packer.adapter import CONFIG_NAME, REQUIRED, WEIGHTS_NAME, AdapterSource
from lora_packer.errors import InputError
from lora_packer.packager import CheckedFile, FileState
from lora_packer.packager.digest import Digests


class CheckedFiles:
    """The two files of an adapter as a check reads them; to be made before it does.

    The states are those from before the reading. Whoever packs compares them with what he finds, so a change at any
    time in between is noticed. Files inside an archive have none.

    Args:
        source: where they are.
        sha256: whether their SHA-256 are wanted too.

    Attributes:
        weights: takes all of the weights' bytes; None where nobody can pack them.
    """

    def __init__(self, source: AdapterSource, *, sha256: bool) -> None:
        self._source = source
        self._sha256 = sha256
        self._states: dict[str, FileState] = {}
        for name in REQUIRED:
            path = source.path(name)
            try:
                if path is not None:
                    self._states[name] = FileState.of(path.stat())
            except OSError:
                continue  # that it is not there is a finding of the check
        self.weights = Digests(sha256=sha256) if self._states.keys() == set(REQUIRED) else None

    def files(self) -> dict[str, CheckedFile]:
        """Return the files by name, if both were there and read whole; else nothing."""
        if self.weights is None:
            return {}
        config = Digests(sha256=self._sha256)
        try:
            with self._source.open(CONFIG_NAME) as file:
                config.update(file.read(self._states[CONFIG_NAME].size))
        except (InputError, OSError):
            return {}
        members = (config.member(CONFIG_NAME), self.weights.member(WEIGHTS_NAME))
        if any(member.size != self._states[member.name].size for member in members):
            return {}
        return {member.name: CheckedFile(self._states[member.name], member) for member in members}
