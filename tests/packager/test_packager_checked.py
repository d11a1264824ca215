"""Check, then pack: the weights are read once, and the archive holds exactly the bytes that were checked."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import random
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from builders import TINY_BASE, raw_safetensors, tiny_config, tiny_tensors, write_adapter
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import TINY, adapter, change_in_secret

import lora_packer
from lora_packer.adapter.safetensors_header import read_header
from lora_packer.adapter.source import FolderSource
from lora_packer.errors import PackError
from lora_packer.inspector import check, values
from lora_packer.packager import CheckedFile, layout, pack, plan_archive
from lora_packer.packager.checked import HashingReader
from lora_packer.packager.digest import Digests, digest
from lora_packer.packager.source import Source
from lora_packer.pipeline import silent
from lora_packer.pipeline.check import CheckOptions, run_check
from lora_packer.pipeline.local import read_files
from lora_packer.pipeline.pack import plan_folder
from lora_packer.publisher.payload import fingerprint

# By name: the package has a function called check where it has a module of that name, too.
stages = importlib.import_module("lora_packer.inspector.stages")

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def checked(folder: Path, checksums: str = "sha256", **options: Any) -> dict[str, CheckedFile]:
    return dict(check(folder, base_config=TINY_BASE, checksums=checksums, **options).checked)


# --- read once ------------------------------------------------------------------------------------------------------


class CountedFile(io.FileIO):
    """A file that counts what is read of it."""

    reads: ClassVar[Counter[str]] = Counter()

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        self.reads[Path(str(self.name)).name] += count or 0
        return count


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many bytes of each source file were read into this process: by the check, or by the packager."""
    counted: Counter[str] = Counter()
    real_read = Source.read

    def read(self: Source, descriptor: int, offset: int, length: int) -> bytes:
        counted[self.name] += length
        return real_read(self, descriptor, offset, length)

    real_read_into = Source.read_into

    def read_into(self: Source, descriptor: int, offset: int, buffer: memoryview) -> None:
        counted[self.name] += len(buffer)
        real_read_into(self, descriptor, offset, buffer)

    def copy(source: int, target: int, offset: int, size: int, _tell: object) -> int:
        """What the kernel does where it can, whatever the file system of this test can."""
        return os.write(target, os.pread(source, size, offset))

    monkeypatch.setattr(CountedFile, "reads", counted)
    monkeypatch.setattr(FolderSource, "open", lambda self, name: io.BufferedReader(CountedFile(self.path(name))))
    monkeypatch.setattr(Source, "read", read)
    monkeypatch.setattr(Source, "read_into", read_into)
    monkeypatch.setattr(layout, "_copy_in_kernel", copy)
    return counted


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """The tiny adapter with a rank of 1024: 2 MB, of which the header is little."""
    config = tiny_config()
    grow = 1024 // config["r"]
    tensors = {
        name: np.concatenate([tensor] * grow, axis=0 if ".lora_A." in name else 1)
        for name, tensor in tiny_tensors().items()
    }
    return write_adapter(tmp_path / "large", tensors, tiny_config(r=1024))


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_check_and_pack_read_the_weights_once(
    large: Path, tmp_path: Path, reads: Counter[str], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (large / WEIGHTS).stat().st_size
    report = check(large, base_config=TINY_BASE, target="peft", checksums="sha256")
    assert report.findings == ()
    assert size <= reads[WEIGHTS] < 1.1 * size  # its header was parsed first
    reads.clear()
    pack(large, tmp_path / f"a{suffix}", checked=report.checked)
    # A .zip is copied by the kernel; blocks of a .tar.gz need their headers in between.
    assert reads[WEIGHTS] == (0 if suffix == ".zip" else size)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("by_a_check", [False, True])
def test_compressing_reads_the_weights_once(
    large: Path, tmp_path: Path, reads: Counter[str], suffix: str, by_a_check: bool
) -> None:
    size, expected = (large / WEIGHTS).stat().st_size, checked(large)
    reads.clear()
    packed = pack(large, tmp_path / f"a{suffix}", compress=True, checked=expected if by_a_check else {})
    samples = 9 * (64 << 10)  # whether it is worth it
    assert size <= reads[WEIGHTS] <= size + samples < 2 * size
    assert packed.members == tuple(expected[name].member for name in (CONFIG, WEIGHTS))


def test_what_is_not_worth_compressing_and_known_is_copied_by_the_kernel(tmp_path: Path, reads: Counter[str]) -> None:
    folder = adapter(tmp_path / "a")
    (folder / WEIGHTS).write_bytes(random.Random(1).randbytes(3_000_000))
    known = read_files(folder)
    reads.clear()
    packed = pack(folder, tmp_path / "a.zip", compress=True, checked=known)
    assert reads[WEIGHTS] <= 9 * (64 << 10)  # whether it is worth it
    assert packed.members == tuple(known[name].member for name in (CONFIG, WEIGHTS))


def test_what_is_published_is_read_once_to_be_checked_and_once_to_be_hashed(large: Path, reads: Counter[str]) -> None:
    size = (large / WEIGHTS).stat().st_size
    report = run_check(large, CheckOptions(TINY_BASE, target="peft"), silent, sha256=False)
    assert report is not None
    assert size <= reads[WEIGHTS] < 1.1 * size
    reads.clear()
    packed = plan_folder(large, report.checked, sha256=False)
    assert reads.total() == 0
    fingerprint(packed.content)
    assert reads[WEIGHTS] == size


def test_without_a_check_packing_makes_the_checksums(large: Path, tmp_path: Path, reads: Counter[str]) -> None:
    assert pack(large, tmp_path / "a.zip").sha256 == pack(large, tmp_path / "b.zip", checked=checked(large)).sha256
    assert reads[WEIGHTS] > 0


def test_a_plan_of_checked_files_reads_nothing(large: Path, reads: Counter[str]) -> None:
    before = checked(large)
    reads.clear()
    planned = plan_archive(large, "zip", checked=before)
    crc32 = planned.crc32()
    assert reads.total() == 0
    assert planned.members == tuple(before[name].member for name in (CONFIG, WEIGHTS))
    assert crc32 == zlib.crc32(planned.read(0, planned.size))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("by_a_check", [False, True])
def test_a_plan_needs_no_sha256_for_its_bytes(large: Path, reads: Counter[str], kind: str, by_a_check: bool) -> None:
    (large / "README.md").write_text("card")
    planned = plan_archive(large, kind, include_extras=True, checked=checked(large))
    before = checked(large, "crc32") if by_a_check else {}
    reads.clear()
    lean = plan_archive(large, kind, include_extras=True, checked=before, sha256=False)
    assert reads[WEIGHTS] == (0 if by_a_check else (large / WEIGHTS).stat().st_size)
    assert lean.layout == planned.layout
    assert lean.read(0, lean.size) == planned.read(0, planned.size)
    assert [member.sha256 for member in lean.members] == ["", "", ""]


def test_a_check_that_made_no_sha256_leaves_it_to_who_wants_one(
    large: Path, tmp_path: Path, reads: Counter[str]
) -> None:
    before, expected = checked(large, "crc32"), checked(large)
    reads.clear()
    planned = plan_archive(large, checked=before)
    assert planned.members == tuple(expected[name].member for name in (CONFIG, WEIGHTS))
    assert reads[WEIGHTS] == (large / WEIGHTS).stat().st_size
    assert pack(large, tmp_path / "a.zip", checked=before).members == planned.members


# --- what a check hands on ------------------------------------------------------------------------------------------


def test_the_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    found = checked(folder)
    assert list(found) == [CONFIG, WEIGHTS]
    for name, snapshot in found.items():
        source = Source.at(folder / name)
        assert snapshot == CheckedFile(source.state, digest(source))
        assert snapshot.member.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_files_behind_links_of_a_hub_snapshot_are_the_same_files(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--o--n" / "blobs", tmp_path / "models--o--n" / "snapshots" / "1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(TINY / name, blobs / name)
        (snapshot / name).symlink_to(blobs / name)
    assert pack(snapshot, tmp_path / "a.zip", checked=checked(snapshot)).sha256 == pack(TINY, tmp_path / "b.zip").sha256


def without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def without_config(folder: Path) -> None:
    (folder / CONFIG).unlink()


def with_broken_weights(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 1000)


@pytest.mark.parametrize("spoil", [without_weights, without_config, with_broken_weights])
def test_nothing_is_handed_on_of_files_that_were_not_read_whole(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    folder = adapter(tmp_path / "a")
    spoil(folder)
    assert checked(folder) == {}


def test_nothing_is_handed_on_without_values_of_an_archive_or_unasked(tmp_path: Path) -> None:
    assert checked(TINY, weights=False) == {}
    assert checked(pack(TINY, tmp_path / "a.zip").path) == {}
    assert check(TINY, base_config=TINY_BASE).checked == {}


def test_the_report_says_nothing_of_it() -> None:
    report = check(TINY, base_config=TINY_BASE, checksums="sha256")
    assert report.to_dict() == check(TINY, base_config=TINY_BASE).to_dict()
    assert report.checked[WEIGHTS].member.sha256 not in repr(report)


DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "I64": "<i8"}


@settings(deadline=None)
@given(data=st.data(), chunk=st.sampled_from([8, 16, 40, 128, 1 << 19]), behind=st.integers(2, 4))
def test_however_the_file_is_cut_values_and_checksums_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, chunk: int, behind: int
) -> None:
    """Tensors of any width and count, aligned or not, against NumPy on each whole tensor."""
    header, content, expected = {}, b"", {}
    for number, dtype in enumerate(data.draw(st.lists(st.sampled_from(sorted(DTYPES)), max_size=6))):
        count = data.draw(st.integers(0, 40))
        if dtype.startswith("F"):
            floats = data.draw(
                st.lists(
                    st.sampled_from([0.0, -0.0, 1.5, -2.0, np.nan, np.inf, -np.inf]), min_size=count, max_size=count
                )
            )
            array = np.array(floats, DTYPES[dtype])
            nonzero = np.flatnonzero(array)
            first, last = (int(nonzero[0]), int(nonzero[-1])) if len(nonzero) else (-1, -1)
            expected[f"t{number}"] = (int(np.count_nonzero(~np.isfinite(array))), first, last)
        else:
            array = np.ones(count, DTYPES[dtype])
        end = len(content) + array.nbytes
        header[f"t{number}"] = {"dtype": dtype, "shape": [count], "data_offsets": [len(content), end]}
        content += array.tobytes()
    raw = raw_safetensors(header, content)
    path = tmp_path_factory.mktemp("cut") / "t.safetensors"
    path.write_bytes(raw)
    digests = Digests()
    with pytest.MonkeyPatch.context() as patch, path.open("rb") as file:
        patch.setattr(values, "_CHUNK", chunk)
        parsed = read_header(file, len(raw))
        with digests.aside(behind) as take:
            seen = values.scan(HashingReader(file, take), parsed, behind)
        alone = values.scan(file, parsed)
    assert {name: (item.not_finite, item.first, item.last) for name, item in seen.items()} == expected
    assert seen == alone
    member = digests.member("t")
    assert (member.size, member.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert member.crc32 == zlib.crc32(raw)


# --- exactly what was checked ---------------------------------------------------------------------------------------


def rewritten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2] + b"\n}")


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def replaced_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    copy.replace(path)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("change", [rewritten, grown, touched, replaced_by_a_copy, change_in_secret])
def test_a_file_that_changed_since_it_was_checked_is_refused(
    tmp_path: Path, suffix: str, compress: bool, name: str, change: Callable[[Path], None]
) -> None:
    folder = adapter(tmp_path / "a")
    before = checked(folder)
    change(folder / name)
    (tmp_path / "out").mkdir()
    words = f"{name} is not the file that was (checked|read)|archive cannot be read back"
    with pytest.raises(PackError, match=words) as caught:
        pack(folder, tmp_path / "out" / f"a{suffix}", compress=compress, checked=before)
    assert caught.value.hint
    assert os.listdir(tmp_path / "out") == []


def test_a_file_that_changes_during_the_check_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header is that of the old file, the checksums are those of the new one."""
    folder = adapter(tmp_path / "a")
    real = values.scan

    def change_and_scan(*arguments: Any) -> Any:
        change_in_secret(folder / WEIGHTS)
        touched(folder / WEIGHTS)
        return real(*arguments)

    monkeypatch.setattr(stages, "scan", change_and_scan)
    with pytest.raises(PackError, match="is not the file that was checked"):
        pack(folder, tmp_path / "a.zip", checked=checked(folder))


@pytest.mark.parametrize("compress", [False, True])
def test_files_that_were_not_checked_are_packed_beside_those_that_were(tmp_path: Path, compress: bool) -> None:
    folder = adapter(tmp_path / "a", README_md="card")
    members = pack(folder, tmp_path / "a.zip", include_extras=True, compress=compress, checked=checked(folder)).members
    assert members == tuple(digest(Source.at(folder / name)) for name in (CONFIG, WEIGHTS, "README.md"))


@pytest.mark.parametrize("check_first", [False, True])
def test_the_library_and_the_command_pack_the_same(tmp_path: Path, cli: Callable[..., Any], check_first: bool) -> None:
    packed = lora_packer.pack(TINY, tmp_path / "a.zip", base_config=TINY_BASE, check=check_first)
    options = ("--base-config", TINY_BASE) if check_first else ("--no-check",)
    assert cli("pack", TINY, *options, "--output", tmp_path / "b.zip").code == 0
    assert packed.sha256 == hashlib.sha256((tmp_path / "b.zip").read_bytes()).hexdigest()
