"""An archive that the check takes is read as every other reader at hand reads it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from builders import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from hostile import archives
from hostile.readers import TAR_READERS, ZIP_READERS, at_hand, disagreements, is_small

ROWS = [
    *(("a.zip", name, raw) for name, raw, _ in archives.ZIPS if is_small(name)),
    *(("a.tar.gz", name, raw) for name, raw, _ in archives.TARS if is_small(name)),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("file", "name", "raw"), ROWS, ids=[f"{file}: {name}" for file, name, _ in ROWS])
def test_one_reading_or_none(tmp_path: Path, file: str, name: str, raw: archives.Raw) -> None:
    (tmp_path / file).write_bytes(raw())
    readers = at_hand(ZIP_READERS if file == "a.zip" else TAR_READERS)
    assert disagreements(tmp_path / file, readers)[1] == [], name


def test_a_good_archive_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archives.plain_zip())
    (tmp_path / "a.tar.gz").write_bytes(archives.packed(archives.plain_tar()))
    assert disagreements(tmp_path / "a.zip", at_hand(ZIP_READERS)) == (True, [])
    assert disagreements(tmp_path / "a.tar.gz", at_hand(TAR_READERS)) == (True, [])
