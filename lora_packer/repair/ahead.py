"""The copy that begins before it is known what comes out.

What is mended most often is names and the config: of the weights the header changes, and the bytes behind it stay. So
the kernel copies them, while the base model is read and the repairs are chosen, to where they lie if it is names that
have to be changed, and each becomes what it looks like by itself. Where another file comes out, it is begun anew.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from threading import Event

from lora_packer.adapter import WEIGHTS_NAME, AdapterSource
from lora_packer.adapter.plain import guessed_name
from lora_packer.folders import NewFolder
from lora_packer.frozen import frozen
from lora_packer.repair.content import Progress, are_copied, write_parts
from lora_packer.repair.draft import METADATA, Draft
from lora_packer.repair.layout import Segment, segments
from lora_packer.threads import aside

_MOST_TENSORS = 20_000  # to guess so many names takes a tenth of a second


@frozen
class Ahead:
    """A weights file that is being written, all but its header.

    Attributes:
        folder: where it is.
        parts: what it consists of if the guess is right.
        done: is done when all but the header is there.
        stop: ends it soon.
    """

    folder: NewFolder
    parts: tuple[Segment, ...]
    done: Future[None]
    stop: Event

    def is_of(self, parts: list[Segment]) -> bool:
        """Whether a file of these parts has the same bytes at the same places, but for its header."""
        return len(parts) == len(self.parts) and all(
            wanted.size == own.size and (wanted.what == own.what or isinstance(wanted.what, bytes))
            for wanted, own in zip(parts, self.parts, strict=True)
        )

    def finish(self, parts: list[Segment]) -> None:
        """Wait for it, and write the header. Raises OSError, InputError."""
        self.done.result()
        if isinstance(parts[0].what, bytes):
            with io.FileIO(self.folder.path(WEIGHTS_NAME), "r+") as file:
                file.write(parts[0].what)

    def drop(self) -> None:
        """End it: another file is to be there."""
        self.stop.set()
        self.done.exception()
        self.folder.remove(WEIGHTS_NAME)


@contextmanager
def begun(
    draft: Draft | None, source: AdapterSource, folder: NewFolder, progress: Progress | None = None
) -> Iterator[Ahead | None]:
    """Begin to copy the weights of a draft into a folder; None where they are not copied by the kernel."""
    parts = [] if draft is None or len(draft.tensors) > _MOST_TENSORS else segments(_guess(draft))
    if all(isinstance(part.what, bytes) for part in parts) or not are_copied(parts, source):
        yield None
        return
    stop, target = Event(), folder.create(WEIGHTS_NAME)

    def copy() -> None:
        with target:  # the header is written when it is known
            write_parts(parts, source, target, progress, stop.is_set, only_copies=True)

    with aside(stop.set, copy) as done:
        yield Ahead(folder, tuple(parts), done, stop)


def _guess(draft: Draft) -> Draft:
    """The draft with the names and the metadata that PEFT would have written, as far as the names alone say."""
    names = {name: guess for name in draft.tensors if (guess := guessed_name(name)) != name}
    named = (draft.renamed(names) or draft) if names else draft
    if named.metadata.get("format") == METADATA["format"]:
        return named
    return replace(named, metadata={**named.metadata, **METADATA}, whole=None)
