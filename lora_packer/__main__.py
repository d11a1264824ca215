"""``python -m lora_packer``, and the console script: an interrupt ends it in 130, however early or late it comes."""

from __future__ import annotations

import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    import _signal as signal  # without its enums, which take some milliseconds in which nobody listens

_INTERRUPTED = 130
# Stack entries of a frame that is given a chunk of memory of its own, which has as much room for the frames it calls:
# 256 KB. Python's own chunks are 16 KB, and one is given back as soon as it is empty (push_chunk and
# _PyThreadState_PopFrame in Python/pystate.c): where calls are made again and again at the end of one, each asks the
# kernel for memory. That took 35 of 340 ms.
_ROOM = 1 << 15
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


def main() -> None:
    """Run the command line."""
    # Until the command runs and can say what was kept, and once it has ended, there is nothing to unwind.
    _on_signals(_leave)
    atexit.register(_go_on)  # the first one that is registered is called last
    _with_room.__code__ = _with_room.__code__.replace(co_stacksize=_ROOM)
    _with_room(_run)


def _with_room(run: Callable[[], None]) -> None:
    run()


def _run() -> None:
    gc.disable()  # until the command line says how often Python looks for cycles: there are none in what is loaded
    try:
        from lora_packer.cli import main as run

        run()
    except KeyboardInterrupt:
        _leave()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            # Python would die of SIGINT where the interrupt came in the middle of an exec() (run_eval_code_obj in
            # Python/pythonrun.c), as dataclasses do.
            sys.stderr.flush()
            os._exit(_INTERRUPTED)
        raise
    finally:
        _on_signals(_leave)


def _on_signals(act: Any) -> None:
    """Do this on each signal that ends a program, but on those that are ignored (``nohup``, a job behind ``&``)."""
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, act)


def _go_on() -> None:
    """Let a signal change nothing any more: all is done and told, and only the exit code is still to come.

    Python gives each signal its own default back before it takes itself down (_PySignal_Fini in
    Modules/signalmodule.c), and in these last milliseconds SIGTERM or SIGQUIT would kill what had ended well. It leaves
    what is ignored.
    """
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 - contextlib takes as long to load as all else here
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass  # Python flushes once more, and tells it
    _on_signals(signal.SIG_IGN)


def _leave(_signum: int = 0, _frame: object = None) -> NoReturn:
    try:  # noqa: SIM105 - contextlib takes as long to load as all else here
        os.write(2, b"interrupted\n")
    except OSError:
        pass
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
