"""Read an archive for its fingerprint while its files are checked and its store is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lora_packer.frozen import frozen
from lora_packer.packager.meter import Meter
from lora_packer.pipeline.pack import Packed
from lora_packer.threads import aside

if TYPE_CHECKING:
    from lora_packer.publisher import Fingerprint, Opened, Scouted


@frozen
class ReadAhead:
    """An archive that is being read."""

    _fingerprint: Future[Fingerprint]
    _planned: Future[Packed]

    def of(self, packed: Packed) -> Future[Fingerprint] | None:
        """Return the fingerprint of an archive, which is being made; None where another one was read, or none."""
        if self._planned.exception() is not None or self._planned.result() != packed:
            return None
        return self._fingerprint

    def scout(self, opened: Opened) -> Scouted:
        """Begin to ask its store about it, once it is planned. Raises what planning it does."""
        from lora_packer.publisher import scout

        packed = self._planned.result()
        return scout(opened, packed.name, packed.content, self._fingerprint)


@contextmanager
def read_ahead(plan: Callable[[Meter], Packed]) -> Iterator[ReadAhead]:
    """Plan an archive and read it for its fingerprint in a thread, which ends with the block.

    What goes wrong in planning is nobody's error: it is met again by whoever plans that archive. What goes wrong in
    reading it is raised where the fingerprint is asked for.

    Args:
        plan: plans it, and reads its files for their CRC-32; it is given what stops that.
    """
    meter, planned = Meter(), Future[Packed]()

    def read() -> Fingerprint:
        try:
            planned.set_result(plan(meter))
        except BaseException as error:
            planned.set_exception(error)
            raise
        # Not before the plan: of a large adapter it is loaded by then, and threads that import take turns.
        from lora_packer.publisher.payload import fingerprint

        return fingerprint(planned.result().content, meter)

    with aside(meter.stop, read) as reading:
        yield ReadAhead(reading, planned)
