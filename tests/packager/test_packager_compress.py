"""Compressed archives: one valid stream for every reader, the same members, in bounded memory."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile
import zlib
from array import array
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import TINY, adapter, source, tools

from lora_packer.errors import PackError
from lora_packer.packager import Member, compressor_name, pack, verify
from lora_packer.packager.compress import Written, write_tar_gz, write_zip
from lora_packer.packager.crc32 import fastest_crc32
from lora_packer.packager.deflate import END, deflate, deflate_block, is_worth_it
from lora_packer.packager.inflate import inflated_pieces
from lora_packer.packager.isa_l import isa_l
from lora_packer.packager.members import select
from lora_packer.packager.meter import Meter
from lora_packer.packager.source import Source
from lora_packer.packager.zip_layout import DEFLATED, ZipEntry

deflate_module = importlib.import_module("lora_packer.packager.deflate")

both = pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def bf16(count: int) -> bytes:
    """Values as LoRA weights have them: no repeats, skewed exponents."""
    values = random.Random(0)
    halves = array("f", (values.gauss(0, 0.02) for _ in range(count))).tobytes()
    return b"".join(halves[i + 2 : i + 4] for i in range(0, len(halves), 4))


BF16 = bf16(150_000)
NOISE = random.Random(1).randbytes(2_500_000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter whose weights take several blocks."""
    made = adapter(tmp_path / "a", README_md="card\n" * 100)
    (made / WEIGHTS).write_bytes(BF16 * 9)
    return made


def contents(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive.getmembers()}


def run(*command: object) -> bytes:
    return subprocess.run([str(part) for part in command], capture_output=True, check=True).stdout


# --- the archive ----------------------------------------------------------------------------------------------------


@both
def test_a_compressed_archive_holds_the_same_members(folder: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"a{suffix}"
    stored = pack(folder, tmp_path / f"stored{suffix}", include_extras=True)
    archive = pack(folder, output, include_extras=True, compress=True)
    assert archive.members == stored.members
    assert archive.size == output.stat().st_size < 0.85 * stored.size
    assert archive.sha256 == hashlib.sha256(output.read_bytes()).hexdigest()
    assert contents(output) == {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS, "README.md")}


@both
def test_it_is_the_same_however_many_threads(
    folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for threads in (1, 2, 5):
        monkeypatch.setattr("lora_packer.threads.processors", lambda threads=threads: threads)
        digests.add(pack(folder, tmp_path / f"{threads}{suffix}", compress=True).sha256)
    assert len(digests) == 1


def test_members_that_gain_nothing_are_stored_and_aligned(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).write_bytes(NOISE)
    pack(folder, tmp_path / "a.zip", compress=True)
    whole = (tmp_path / "a.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        methods = {info.filename: info.compress_type for info in archive.infolist()}
    assert methods == {CONFIG: zipfile.ZIP_DEFLATED, WEIGHTS: zipfile.ZIP_STORED}
    assert whole.index(NOISE[:100]) % 4096 == 0
    pack(folder, tmp_path / "a.tar.gz", compress=True)
    assert contents(tmp_path / "a.tar.gz")[WEIGHTS] == NOISE
    assert (tmp_path / "a.tar.gz").stat().st_size < len(NOISE) * 1.001


def test_the_headers_hold_sizes_and_no_descriptor_follows(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "a.zip", compress=True)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        for info in archive.infolist():
            assert (info.flag_bits, info.extract_version, info.extra) == (0, 20, b"")
            assert info.date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize("tool", tools("unzip", "bsdtar", "tar", "7z", "7zz"))
@both
def test_a_tool_reads_the_weights(folder: Path, tmp_path: Path, suffix: str, tool: str) -> None:
    if (tool, suffix) in {("unzip", ".tar.gz"), ("tar", ".zip")}:
        return  # no reader of that format
    pack(folder, tmp_path / f"a{suffix}", compress=True)
    if tool.startswith("7z"):
        assert b"Everything is Ok" in run(tool, "t", tmp_path / f"a{suffix}")
    else:
        reads = {"unzip": "-p", "bsdtar": "xOf", "tar": "xzOf"}
        assert run(tool, reads[tool], tmp_path / f"a{suffix}", WEIGHTS) == BF16 * 9


@pytest.mark.parametrize("tool", tools("gzip", "pigz"))
def test_a_tool_tests_the_stream(folder: Path, tmp_path: Path, tool: str) -> None:
    pack(folder, tmp_path / "a.tar.gz", compress=True)
    run(tool, "-t", tmp_path / "a.tar.gz")


@pytest.mark.parametrize("tool", tools("jar"))
def test_jar_extracts_it(folder: Path, tmp_path: Path, tool: str) -> None:
    pack(folder, tmp_path / "a.zip", compress=True)
    (tmp_path / "out").mkdir()
    subprocess.run([tool, "xf", str(tmp_path / "a.zip")], cwd=tmp_path / "out", check=True)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == BF16 * 9


@both
def test_empty_members_are_packed(tmp_path: Path, suffix: str) -> None:
    folder = adapter(tmp_path / "a", README_md="")
    (folder / WEIGHTS).write_bytes(b"")
    archive = pack(folder, tmp_path / f"a{suffix}", include_extras=True, compress=True)
    assert [member.size for member in archive.members] == [1086, 0, 0]
    assert contents(archive.path)[WEIGHTS] == b""


def test_without_isal_zlib_does_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    caches: list[Any] = [isa_l, fastest_crc32]
    for cached in caches:
        cached.cache_clear()
    try:
        assert compressor_name() == "zlib"
        for suffix in (".zip", ".tar.gz"):
            archive = pack(folder, tmp_path / f"a{suffix}", compress=True)
            assert contents(archive.path)[WEIGHTS] == BF16 * 9
    finally:
        monkeypatch.undo()
        for cached in caches:
            cached.cache_clear()


# --- the stream -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    blocks=st.lists(st.one_of(st.binary(max_size=300), st.sampled_from(["weights", "noise"])), max_size=9),
    name=st.sampled_from([WEIGHTS, "tokenizer.json"]),
    piece=st.sampled_from([1, 100, 65_536, 1 << 20]),
)
def test_the_pieces_are_one_stream(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[bytes | str], name: str, piece: int
) -> None:
    long = {"weights": BF16[:70_000], "noise": NOISE[:70_000]}  # by name: their representation is too long to print
    content = b"".join(long[block] if isinstance(block, str) else block for block in blocks)[: 3000 * piece]
    folder = tmp_path_factory.mktemp("pieces")
    written = source(folder / name, content)
    with pytest.MonkeyPatch.context() as patch, written.open() as descriptor:
        patch.setattr(deflate_module, "_PIECE", piece)
        with deflate(written, descriptor) as results:
            taken = list(results)
    pieces = [b"".join(made.parts) for made in taken]
    assert len(pieces) == -(-len(content) // piece)
    assert b"".join(made.content for made in taken) == content
    inflater = zlib.decompressobj(wbits=-15)
    assert inflater.decompress(b"".join(pieces) + END) == content
    assert inflater.eof
    assert not inflater.unused_data
    (folder / "deflated").write_bytes(b"before" + b"".join(pieces))
    with (
        (folder / "deflated").open("rb") as file,
        inflated_pieces(file.fileno(), len(b"before"), map(len, pieces)) as parts,
    ):
        assert b"".join(parts) == content


def with_header(ends: list[int], data: bytes) -> bytes:
    """Data behind a header that says where its tensors end."""
    offsets = [[begin, end] for begin, end in zip([0, *ends], ends, strict=False)]
    raw = json.dumps({str(number): {"data_offsets": pair} for number, pair in enumerate(offsets)}).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def stream_of(written: Source) -> bytes:
    with written.open() as descriptor, deflate(written, descriptor) as pieces:
        return b"".join(part for piece in pieces for part in piece.parts) + END


@pytest.mark.skipif(isa_l() is None, reason="zlib ends its blocks where it likes")
def test_each_tensor_gets_a_code_of_its_own(tmp_path: Path) -> None:
    wide, narrow = BF16[: 1 << 17], bytes(byte ^ 0x15 for byte in BF16[: 1 << 17])
    data, ends = (wide + narrow) * 8, list(range(1 << 17, (1 << 21) + 1, 1 << 17))
    told = stream_of(source(tmp_path / WEIGHTS, with_header(ends, data)))
    untold = stream_of(source(tmp_path / WEIGHTS, with_header([len(data)], data)))
    assert len(told) < 0.99 * len(untold)
    assert zlib.decompress(told, -15).endswith(data)


@pytest.mark.parametrize(
    "content",
    [
        with_header([1 << 17, 1 << 40, 1 << 18], BF16),
        with_header([0, 0, 1, 1 << 16, (1 << 16) + 1, len(BF16), len(BF16) + 1], BF16),
        with_header([10**30], BF16),
        b"\xff" * 8 + BF16,
        len(BF16).to_bytes(8, "little") + BF16,
        (1 << 40).to_bytes(8, "little") + BF16,
        BF16,
    ],
    ids=["past the end", "close together", "a huge number", "no length", "all header", "a huge header", "no header"],
)
def test_a_wrong_header_deflates_all_the_same(tmp_path: Path, content: bytes) -> None:
    assert zlib.decompress(stream_of(source(tmp_path / WEIGHTS, content)), -15) == content


@pytest.mark.parametrize("block", [b"", b"x", NOISE[:65_535], NOISE[:65_536], NOISE[: 1 << 20], BF16])
def test_a_block_grows_by_a_header_for_each_64_kib_at_most(block: bytes) -> None:
    assert len(b"".join(deflate_block(block))) <= len(block) + 5 * (-(-len(block) // 65_535) or 1)


@pytest.mark.parametrize(
    ("content", "expected"), [(BF16, True), (NOISE, False), (b"", False), (b"ab" * 99, True), (NOISE[:7], False)]
)
def test_what_is_worth_it(tmp_path: Path, content: bytes, expected: bool) -> None:
    assert is_worth_it(source(tmp_path / "file", content)) is expected


@pytest.mark.parametrize("size", [0xFFFFFFFF - (0xFFFFFFFF >> 8) - 1, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 33])
def test_the_length_of_a_header_is_known_before_the_compressed_size(size: int) -> None:
    lengths = {
        len(ZipEntry(Member(WEIGHTS, size, "", crc32), compressed, DEFLATED).local_header(1234))
        for crc32 in (0, 0xFFFFFFFF)
        for compressed in (0, size // 2, size, size + (size >> 8))
    }
    assert len(lengths) == 1


# --- what is refused ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compressed:
    """A compressed archive, and what is known of it."""

    path: Path
    written: Written


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Compressed]:
    sources = select(TINY).sources
    made = {}
    for kind, write in (("zip", write_zip), ("tar.gz", write_tar_gz)):
        path = tmp_path_factory.mktemp("compressed") / f"a.{kind}"
        with io.FileIO(path, "x+") as file:
            written = write(file, sources, lambda _: None, Meter())
        made[kind] = Compressed(path, written)
    return made


def refused(path: Path, content: bytes, written: Written) -> str:
    path.write_bytes(content)
    with pytest.raises(PackError) as caught:
        verify(path, written.members, pieces=written.pieces)
    return caught.value.message


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_damage_is_noticed(packed: dict[str, Compressed], tmp_path: Path, kind: str) -> None:
    path, written = packed[kind].path, packed[kind].written
    whole = path.read_bytes()
    assert verify(path, written.members, pieces=written.pieces) == hashlib.sha256(whole).hexdigest()
    for position in range(0, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        refused(tmp_path / "archive", bytes(damaged), written)
    for position, bit in product((*range(10), *range(len(whole) - 10, len(whole))), range(8)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        refused(tmp_path / "archive", bytes(damaged), written)
    for length in range(0, len(whole), 173):
        refused(tmp_path / "archive", whole[:length], written)
    refused(tmp_path / "archive", whole + b"\0", written)


def test_deflated_members_are_refused_where_stored_ones_were_planned(packed: dict[str, Compressed]) -> None:
    with pytest.raises(PackError, match=r"adapter_config\.json is compressed"):
        verify(packed["zip"].path, packed["zip"].written.members)


def deflated_zip(path: Path, data: bytes, stated: bytes) -> tuple[Member, ...]:
    """A zip whose headers say ``stated`` of a member whose deflated data is ``data``."""
    from lora_packer.packager.zip_layout import zip_directory

    member = Member(CONFIG, len(stated), hashlib.sha256(stated).hexdigest(), zlib.crc32(stated))
    entry = ZipEntry(member, len(data), DEFLATED)
    header = entry.local_header(0)
    path.write_bytes(header + data + zip_directory([entry.central_header(0)], len(header) + len(data)))
    return (member,)


def deflated(content: bytes) -> bytes:
    return b"".join(deflate_block(content))


CONTENT, MORE = deflated(b"content"), deflated(b"content and more")
LAST = zlib.compress(b"content", wbits=-15)  # a whole stream: its only block is the last one
BACKWARDS = zlib.compressobj(wbits=-15)
HALVES = [BACKWARDS.compress(half) + BACKWARDS.flush(zlib.Z_SYNC_FLUSH) for half in (b"contentcontent", b"content" * 9)]


@pytest.mark.parametrize(
    ("data", "pieces", "stated", "words"),
    [
        (CONTENT + END, [len(CONTENT)], b"content", None),
        (deflated(b"con") + deflated(b"tent") + END, [8, 9], b"content", None),
        (b"".join(HALVES) + END, [len(HALVES[0]) + len(HALVES[1])], b"content" * 11, None),
        (b"".join(HALVES) + END, [len(half) for half in HALVES], b"content" * 11, "cannot be read back"),
        (CONTENT + END, [3, len(CONTENT) - 3], b"content", "cannot be read back"),
        (CONTENT + END, [], b"content", None),
        (CONTENT + END, [len(CONTENT) + 2], b"content", "cannot be read back"),
        (MORE + END, [len(MORE)], b"content", "not the file that was read|holds more"),
        (CONTENT + deflated(b"more") + END, [12, 9], b"content", "holds more than it should"),
        (deflated(bytes(50_000_000)) + END, [50_000], b"content", "holds more than it should"),
        (deflated(bytes(50_000_000)) + END, [10**9], b"content", "holds more than it should"),
        (CONTENT + END + b"stray", [len(CONTENT)], b"content", "cannot be read back"),
        (CONTENT + LAST, [len(CONTENT)], b"content" * 2, "cannot be read back"),
        (LAST, [len(LAST)], b"content", "cannot be read back"),
        (CONTENT, [len(CONTENT)], b"content", "does not end where it should"),
        (CONTENT + b"\0\0", [len(CONTENT)], b"content", "does not end where it should"),
        (deflated(b"conten") + END, [11], b"content", "not the file that was read"),
        (b"\x07" + bytes(10), [9], b"content", "cannot be read back"),
    ],
)
def test_a_deflated_member_ends_where_it_should(
    tmp_path: Path, data: bytes, pieces: list[int], stated: bytes, words: str | None
) -> None:
    members = deflated_zip(tmp_path / "a.zip", data, stated)
    if words is None:
        verify(tmp_path / "a.zip", members, pieces=pieces)
    else:
        with pytest.raises(PackError, match=words):
            verify(tmp_path / "a.zip", members, pieces=pieces)


def test_text_is_searched_for_repeats_farther_back_than_weights_are(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    repeated = random.Random(2).randbytes(4000).hex() * 20
    (folder / "tokenizer.json").write_text(repeated)
    pack(folder, tmp_path / "a.zip", compress=True, include_extras=True)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.getinfo("tokenizer.json").compress_size < len(repeated) // 10
        assert archive.read("tokenizer.json") == repeated.encode()


# --- nothing is left behind -----------------------------------------------------------------------------------------


@both
def test_a_source_that_changes_while_it_is_compressed_is_refused(
    folder: Path, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = deflate_module.deflate_block

    def change_and_deflate(block: bytes, *window: int) -> list[bytes]:
        with (folder / WEIGHTS).open("ab") as file:
            file.write(b"more")
        return real(block, *window)

    monkeypatch.setattr(deflate_module, "deflate_block", change_and_deflate)
    (tmp_path / "out").mkdir()
    with pytest.raises(PackError, match="changed while it was being packed"):
        pack(folder, tmp_path / "out" / f"a{suffix}", compress=True)
    assert os.listdir(tmp_path / "out") == []


@both
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_nothing(
    folder: Path, tmp_path: Path, suffix: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_done: int, _total: int) -> None:
        raise error

    (tmp_path / "out").mkdir()
    with pytest.raises(error):
        pack(folder, tmp_path / "out" / f"a{suffix}", compress=True, progress=interrupted)
    assert os.listdir(tmp_path / "out") == []


@both
def test_a_full_disk_leaves_nothing(folder: Path, tmp_path: Path, suffix: str) -> None:
    script = (
        "import resource, sys; from pathlib import Path; from lora_packer.packager import pack;"
        "from lora_packer.errors import PackError;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1500000, 1500000))\n"
        "try: pack(Path(sys.argv[1]), Path(sys.argv[2]), compress=True)\n"
        "except PackError as error: print(error)"
    )
    (tmp_path / "out").mkdir()
    printed = run(sys.executable, "-c", script, folder, tmp_path / "out" / f"a{suffix}")
    assert b"could not be written: File too large." in printed
    assert os.listdir(tmp_path / "out") == []
