"""What is said where a command stops on its way: what still runs and costs, what was kept, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lora_packer.cli.ends import same_command
from lora_packer.errors import Interrupted, LoraPackerError, WaitTimeoutError

if TYPE_CHECKING:
    from lora_packer.cli.stages import Stages


@contextmanager
def told_where_it_stops(
    left: Callable[[], Sequence[str]],
    *,
    go_on: str | None = None,
    costs: Callable[[], Sequence[str]] = tuple,
) -> Iterator[None]:
    """Say how to go on where the block is interrupted, or its time is up.

    Args:
        left: what there is to say about what was begun, a sentence each.
        go_on: the command that goes on; None is this one, again.
        costs: what goes on to cost money, which is said where the block fails, too.

    Raises Interrupted, and what the block raises.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("\n".join([*left(), _next(go_on)])) from None
    except WaitTimeoutError as error:
        error.hint = "\n".join([*left(), _next(go_on)])
        raise
    except LoraPackerError as error:
        told = () if error.tells_cost else costs()
        error.hint = "\n".join([*([error.hint] if error.hint else []), *told]) or None
        raise


def _next(go_on: str | None) -> str:
    return f"Go on with: {go_on or same_command()}"


class ReleaseLeft:
    """What a release leaves, read from its receipt when it stops.

    Args:
        stages: what was told so far.
        deploying: whether an endpoint was asked for.
        attaching: to what the adapter is to be attached, if it is.
    """

    def __init__(self, stages: Stages, *, deploying: bool, attaching: str | None = None) -> None:
        self._stages, self._deploying, self._attaching = stages, deploying, attaching
        self._path: Path | None = None

    def began(self, path: Path) -> None:
        """Take note of where the receipt is."""
        self._path = path

    def costs(self) -> tuple[str, ...]:
        """Say what goes on to cost money."""
        from lora_packer.pipeline.left import read_again, still_costs

        return still_costs(read_again(self._path), deploying=self._deploying)

    def __call__(self) -> tuple[str, ...]:
        """Say all of it: what costs money first."""
        from lora_packer.pipeline.left import read_again, still_runs, was_kept

        record = read_again(self._path)
        kept = was_kept(record, is_sent_in_part=self._stages.is_sending)
        return (*self.costs(), *still_runs(record, attaching=self._attaching), *kept)
