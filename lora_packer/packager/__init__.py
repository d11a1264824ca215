"""What an archive is: chosen members, a layout of bytes, and a file that is read back before it gets its name."""

from __future__ import annotations

from lora_packer.packager.archive import Archive, LeftOut, Member
from lora_packer.packager.deflate import compressor_name
from lora_packer.packager.digest import CheckedFile
from lora_packer.packager.layout import Layout
from lora_packer.packager.pack import pack
from lora_packer.packager.plan import PlannedArchive, plan_archive
from lora_packer.packager.verify import verify

__all__ = [
    "Archive",
    "CheckedFile",
    "Layout",
    "LeftOut",
    "Member",
    "PlannedArchive",
    "compressor_name",
    "pack",
    "plan_archive",
    "verify",
]
