"""``python -m lora_packer``, and the console script: an interrupt before the command begins ends it without a word."""

import signal


def main() -> None:
    """Run the command line."""
    # Until the command runs and can say what was kept, there is nothing to say: no traceback through an import.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from lora_packer.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
