"""Read a finished archive back with Python's own readers, which share no code with the writer."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from lora_packer.errors import PackError
from lora_packer.packager.archive import Member
from lora_packer.packager.meter import Meter
from lora_packer.packager.verify_content import Mismatch, require
from lora_packer.packager.verify_tar_gz import verify_tar_gz
from lora_packer.packager.verify_zip import verify_zip
from lora_packer.redact import escape
from lora_packer.threads import aside

# How much is hashed at a time: more than is read, because the threads that hash and inflate take turns at each.
_HASHED = 1 << 20

# What the readers raise over a file that is not what it should be.
_READER_ERRORS = (
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_HINT = "Pack the adapter again; if its files are being changed, wait until that is done."


def verify(
    path: Path, members: Sequence[Member], *, pieces: Sequence[int] | None = None, meter: Meter | None = None
) -> str:
    """Compare an archive with what it should hold: these members, in this order, and not a byte besides.

    Names, sizes and CRC-32 of the members are compared, and the SHA-256 of those that are not compressed; comments,
    duplicates, links, descriptors, owners, times, compression that was not planned and bytes before, between or after
    the members are refused. Memory is bounded.

    Args:
        path: a ``.zip`` or ``.tar.gz`` as :func:`lora_packer.packager.pack` writes them.
        members: what it should hold.
        pieces: of a compressed archive, how long the pieces of deflated data are, in the file's order; they are
            inflated in parallel. None: nothing is compressed.
        meter: counts the members' bytes.

    Returns:
        The SHA-256 of the archive, in hex.

    Raises:
        PackError: the archive is anything else.
    """
    meter = meter or Meter()
    try:
        require(path.is_file(), "it is no regular file")
        with path.open("rb") as file, aside(meter.stop, _sha256_of, path, meter) as sha256:
            magic = file.read(2)
            file.seek(0)
            if magic == b"PK":
                verify_zip(file, members, pieces, meter)
            elif magic == b"\x1f\x8b":
                verify_tar_gz(file, members, pieces, meter)
            else:
                raise Mismatch("it is neither a zip nor a gzip file")
            return sha256.result()
    except Mismatch as error:
        raise PackError(f"The archive does not read back as planned: {error}.", hint=_HINT) from error
    except _READER_ERRORS as error:
        raise PackError(f"The archive cannot be read back: {escape(str(error))}.", hint=_HINT) from error


def _sha256_of(path: Path, meter: Meter) -> str:
    sha256, buffer = hashlib.sha256(), memoryview(bytearray(_HASHED))
    with io.FileIO(path) as file:
        while count := file.readinto(buffer):
            sha256.update(buffer[:count])
            meter.add(0)  # a chance to stop
    return sha256.hexdigest()
