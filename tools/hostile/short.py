"""Run the command line as it is, but with short deadlines: there are many servers that lie, and each waits for one.

usage: python tools/hostile/short.py ARGUMENT...
"""

from __future__ import annotations

import sys
from datetime import timedelta

SECONDS = 1.0
"""What a request may take, in place of ``exchange.DEADLINE``; and what trouble with a store is ridden out for."""


def main() -> None:
    """Shorten what the modules take their defaults from, before they do, and run it."""
    from lora_packer import exchange

    exchange.DEADLINE = exchange.WORK_DEADLINE = SECONDS
    exchange.SILENCE = SECONDS / 2
    assert exchange.exchange.__kwdefaults__ is not None
    exchange.exchange.__kwdefaults__["deadline"] = SECONDS
    from lora_packer.publisher import retry

    retry.Patience.__init__.__defaults__ = (timedelta(seconds=SECONDS),)
    from lora_packer.cli import main as run

    run(sys.argv[1:])


if __name__ == "__main__":
    main()
