"""``python -m lora_packer``: the same as the ``lora-packer`` console script."""

from lora_packer.cli import main

if __name__ == "__main__":
    main()
