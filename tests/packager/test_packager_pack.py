"""Packing: the same contents give the same bytes everywhere, and only an output that may be replaced is."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packager_support import ROOT, TINY, adapter

from lora_packer.errors import InputError, PackError
from lora_packer.packager import pack, plan_archive

# By name: the package has a function called pack where it has a module of that name, too.
pack_module = importlib.import_module("lora_packer.packager.pack")

SUFFIXES = (".zip", ".tar.gz")
# The archives of fixtures/adapters/tiny-llama-qv. These bytes are a promise: a later release, another system
# or another Python has to give them, too.
PINNED = {
    ".zip": "d1b9eb10473680321b7da91d0eaf782d57cbbf0b9089162a16582c365b35cef7",
    ".tar.gz": "f784037705c001af0f11b6e3e8605ab10b28035984f569055338a6c8d9b0cae5",
}

both = pytest.mark.parametrize("suffix", SUFFIXES)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the result -----------------------------------------------------------------------------------------------------


@both
def test_the_archive_of_the_fixture_is_pinned(tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"tiny{suffix}"
    archive = pack(TINY, output)
    assert archive.sha256 == sha256(output) == PINNED[suffix]
    assert archive.size == output.stat().st_size
    assert (archive.path, archive.format, archive.left_out) == (output, suffix[1:], ())
    assert [(member.name, member.sha256) for member in archive.members] == [
        (name, sha256(TINY / name)) for name in ("adapter_config.json", "adapter_model.safetensors")
    ]


def test_the_archive_as_json(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a", README_md="card")
    data = json.loads(json.dumps(pack(folder, tmp_path / "a.zip").to_dict()))
    assert list(data) == ["path", "format", "size", "sha256", "members", "left_out"]
    assert data["path"] == str(tmp_path / "a.zip")
    assert data["members"][0] == {"name": "adapter_config.json", "size": 1086} | {
        "sha256": sha256(TINY / "adapter_config.json"),
        "crc32": 0xA94CA40C,
    }
    assert data["left_out"] == [{"name": "README.md", "reason": "it is optional, and extras were not asked for"}]


@both
def test_extras_are_packed_when_asked_for(tmp_path: Path, suffix: str) -> None:
    folder = adapter(tmp_path / "a", README_md="card")
    (folder / "notes.txt").write_text("mine")
    archive = pack(folder, tmp_path / f"a{suffix}", include_extras=True)
    assert [member.name for member in archive.members][2:] == ["README.md"]
    assert [entry.name for entry in archive.left_out] == ["notes.txt"]


def test_each_step_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    pack(TINY, tmp_path / "a.zip", note=told.append)
    assert [line.split()[0] for line in told] == ["Reading", "Writing", "Reading"]


@both
def test_empty_and_odd_sized_members_are_packed(tmp_path: Path, suffix: str) -> None:
    folder = adapter(tmp_path / "a", README_md="")
    (folder / "adapter_model.safetensors").write_bytes(b"x" * 65_537)
    members = pack(folder, tmp_path / f"a{suffix}", include_extras=True).members
    assert [member.size for member in members] == [1086, 65_537, 0]


@settings(deadline=None)
@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_any_range_of_the_plan_is_that_of_the_archive(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, suffix: str
) -> None:
    output = tmp_path_factory.mktemp("ranges") / f"a{suffix}"
    whole = pack(TINY, output) and output.read_bytes()
    layout = plan_archive(TINY, suffix[1:])
    offset, length = data.draw(st.integers(0, layout.size + 10)), data.draw(st.integers(0, layout.size + 10))
    assert layout.size == len(whole)
    assert layout.read(offset, length) == whole[offset : offset + length]


# --- the same bytes -------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("mtime", [0, 1, 4_354_819_200])  # 1970, and 2108: a year that no zip can say
def test_times_modes_and_order_of_creation_do_not_matter(tmp_path: Path, suffix: str, mtime: int) -> None:
    folder = tmp_path / "some other name"
    folder.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copyfile(TINY / name, folder / name)
        (folder / name).chmod(0o755)
        os.utime(folder / name, (mtime, mtime))
    assert pack(folder, tmp_path / f"x y{suffix}").sha256 == PINNED[suffix]


@both
@pytest.mark.parametrize(
    ("umask", "environment"),
    [
        (0o077, {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "1"}),
        (0o000, {"TZ": "America/New_York", "SOURCE_DATE_EPOCH": "-1", "PYTHONHASHSEED": "2"}),
        (0o027, {"TZ": "UTC", "SOURCE_DATE_EPOCH": "abc"}),
    ],
)
def test_process_umask_time_zone_and_folder_do_not_matter(
    tmp_path: Path, suffix: str, umask: int, environment: dict[str, str]
) -> None:
    adapter(tmp_path / "a")
    script = (
        "from pathlib import Path; from lora_packer.packager import pack;"
        f"print(pack(Path('a'), Path('out{suffix}')).sha256)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, **environment},
        umask=umask,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == PINNED[suffix] == sha256(tmp_path / f"out{suffix}")
    assert (tmp_path / f"out{suffix}").stat().st_mode & 0o777 == 0o644 & ~umask


@both
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_another_python_gives_the_same_bytes(tmp_path: Path, suffix: str, version: str) -> None:
    python = shutil.which(f"python{version}")
    # A version manager's stand-in for a Python that is not chosen is there, but does not run.
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip(f"python{version} is not installed")
    script = (
        "import sys; from pathlib import Path; from lora_packer.packager import pack;"
        "print('%d.%d' % sys.version_info[:2], pack(Path(sys.argv[1]), Path(sys.argv[2])).sha256)"
    )
    done = subprocess.run(
        [python, "-B", "-c", script, str(TINY), str(tmp_path / f"a{suffix}")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [version, PINNED[suffix]]


@both
def test_an_archive_within_the_folder_does_not_pack_itself(tmp_path: Path, suffix: str) -> None:
    folder = adapter(tmp_path / "a")
    output = folder / f"a{suffix}"
    assert pack(folder, output, include_extras=True).sha256 == PINNED[suffix]
    again = pack(folder, output, include_extras=True)
    assert again.sha256 == PINNED[suffix]
    assert [entry.reason for entry in again.left_out] == ["it is an archive"]


# --- the output -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tgz", "a.tar", "a.7z", "a", "a.zip.bak", ".zip", ".tar.gz", "a.gz", "a.ZIP"])
def test_any_other_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        pack(TINY, tmp_path / name)
    assert ".zip or .tar.gz" in str(caught.value)
    assert os.listdir(tmp_path) == []


def a_link(path: Path) -> None:
    path.with_name("target").write_bytes(b"kept")
    path.symlink_to("target")


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    output = tmp_path / "a.zip"
    output.mkdir()
    with pytest.raises(PackError, match="cannot be written: Is a directory"):
        pack(TINY, output)
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("make", [a_link, a_dangling_link])
def test_a_link_is_written_through(tmp_path: Path, make: Callable[[Path], None]) -> None:
    output = tmp_path / "a.zip"
    make(output)
    pack(TINY, output)
    assert output.is_symlink()
    assert zipfile.is_zipfile(output.resolve())
    assert len(os.listdir(tmp_path)) == 2


def test_the_outputs_folder_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PackError, match="There is no folder"):
        pack(TINY, tmp_path / "missing" / "a.zip")
    with pytest.raises(PackError, match="Not a directory"):
        pack(TINY, tmp_path / "file" / "a.zip")
    with pytest.raises(PackError, match="name too long"):
        pack(TINY, tmp_path / f"{'a' * 300}.zip")


def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    # The superuser may write to any folder, but not to one that the kernel makes up.
    folder = tmp_path if os.geteuid() else Path("/proc")
    with pytest.raises(PackError, match=r"is not writable|could not be written") as caught:
        pack(TINY, folder / "a.zip")
    assert caught.value.hint


def test_a_regular_file_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "a.zip"
    output.write_bytes(b"old")
    assert pack(TINY, output).sha256 == sha256(output)
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("hidden", [0, 1], ids=["without a name", "hidden"])
def test_until_it_is_whole_only_the_owner_reads_the_archive(
    hidden: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def look(path: Path, members: object, **_options: object) -> str:
        beside = [entry for entry in tmp_path.iterdir() if entry.samefile(path)]
        seen.append((len(beside), path.stat().st_mode & 0o777))
        return "0" * 64

    if hidden:
        monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(pack_module, "verify", look)
    pack(TINY, tmp_path / "a.zip")
    assert seen == [(hidden, 0o600)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


KILLED = """
import os, signal, sys
from pathlib import Path
from lora_packer.packager import layout, pack

def killed(*_, **__):
    print(*os.listdir(sys.argv[2]), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

os.copy_file_range = killed
pack(Path(sys.argv[1]), Path(sys.argv[2], "a.zip"))
"""


def test_a_killed_pack_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, TINY, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "\n", "")
    assert list(tmp_path.iterdir()) == []
