"""Every option that names a file, given everything that a name can stand for: nothing but a file is ever replaced."""

from __future__ import annotations

import io
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import TINY, TINY_BASE
from publisher_support import archive
from s3_support import env, local_s3, put

from lora_packer.sandbox.s3 import LocalS3

__all__ = ["env", "local_s3"]

Cli = Callable[..., Any]
CHECKED = (str(TINY), "--base-config", str(TINY_BASE))


@pytest.fixture
def uri(env: LocalS3, tmp_path: Path) -> str:
    return put(env, "files/a.zip", archive(tmp_path, 5000).data)


def writes(option: str, uri: str) -> list[str]:
    """The command whose option it is, up to the option's value."""
    return {
        "check": ["check", *CHECKED, "--output"],
        "check --format json": ["check", *CHECKED, "--format", "json", "--output"],
        "pack": ["pack", *CHECKED, "--output"],
        "presign": ["presign", uri, "--url-file"],
        "publish": ["publish", *CHECKED, "--to", f"{uri.rpartition('/')[0]}/", "--url-file"],
    }[option]


def is_right(option: str, data: bytes) -> bool:
    """Whether that is what the option's command is to write, and nothing else."""
    if option == "pack":
        return zipfile.ZipFile(io.BytesIO(data)).testzip() is None and data.startswith(b"PK")
    text = data.decode()
    if option in ("presign", "publish"):
        return text.startswith("http://") and "X-Amz-Signature=" in text and text.count("\n") == 1
    if option == "check":
        return text.startswith("adapter  ") and text.endswith("ok: 0 errors, 0 warnings\n")
    return json.loads(text)["status"] == "ok"


OPTIONS = ["check", "check --format json", "pack", "presign", "publish"]


def run(*arguments: object, **options: Any) -> Any:
    command = [sys.executable, "-m", "lora_packer", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=120, **options)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("linked", [False, True])
def test_a_named_pipe_is_written_through(cli: Cli, uri: str, tmp_path: Path, option: str, linked: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    name = tmp_path / "link" if linked else pipe
    if linked:
        name.symlink_to(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    done = cli(*writes(option, uri), name)
    reader.join(60)
    assert done.code == 0, done.text
    assert is_right(option, read[0])
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert name.is_symlink() is linked


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("exists", [False, True])
def test_a_link_is_followed_and_stays_one(cli: Cli, uri: str, tmp_path: Path, option: str, exists: bool) -> None:
    real, link = tmp_path / "real.zip", tmp_path / "link.zip"
    link.symlink_to(real)
    if exists:
        real.write_text("old")
    done = cli(*writes(option, uri), link)
    assert done.code == 0, done.text
    assert link.is_symlink()
    assert not real.is_symlink()
    assert is_right(option, real.read_bytes())


@pytest.mark.parametrize(
    ("option", "name", "to_file"),
    [
        *((option, "-", False) for option in OPTIONS),
        ("check", "/dev/fd/1", False),
        ("check", "link", True),
        ("pack", "/dev/stdout", True),
        ("presign", "link", True),
    ],
)
def test_standard_output_has_that_and_nothing_else(
    uri: str, tmp_path: Path, option: str, name: str, to_file: bool
) -> None:
    """The link stands for /dev/stdout: a run as root that replaced it would break the machine."""
    if name == "link":
        name = str(tmp_path / "link")
        os.symlink("/dev/stdout", name)
    if to_file:
        with (tmp_path / "out").open("wb") as out:
            done = run(*writes(option, uri), name, stdout=out)
        written = (tmp_path / "out").read_bytes()
    else:
        done = run(*writes(option, uri), name, stdout=subprocess.PIPE)
        written = done.stdout
    assert done.returncode == 0, done.stderr
    assert is_right(option, written)
    assert Path("/dev/stdout").is_symlink()
    assert not Path("-").exists()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_device_stays_one(cli: Cli, uri: str, option: str) -> None:
    main, terminal = os.openpty()
    device = Path(os.ttyname(terminal))
    received = bytearray()

    def read() -> None:
        while not received.endswith(b"the end"):
            received.extend(os.read(main, 65536))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        done = cli(*writes(option, uri), device)
        os.write(terminal, b"the end")
        reader.join(60)
    finally:
        os.close(terminal)
        os.close(main)
    assert done.code == 0, done.text
    assert len(received) > 100


@pytest.mark.parametrize("option", OPTIONS)
def test_a_full_device_is_told_in_a_sentence(cli: Cli, uri: str, tmp_path: Path, option: str) -> None:
    device = tmp_path / "full"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 7))  # as /dev/full: this one may be lost
        with device.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            file.write(b"x")
    except PermissionError:
        device = Path("/dev/full")
    done = cli(*writes(option, uri), device)
    assert done.code == (4 if option == "pack" else 70)
    assert "error: " in done.err
    assert "No space left on device" in done.err
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.parametrize("option", ["check", "pack", "presign", "publish"])
def test_a_full_disk_leaves_nothing_behind(uri: str, tmp_path: Path, option: str) -> None:
    """A limit on how large a file may be stands for the end of the disk."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "out.zip").write_text("old")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))  # noqa: E731
    quiet = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = run(
        *writes(option, uri),
        place / "out.zip",
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
        env=os.environ | quiet,
    )
    assert done.returncode == (4 if option == "pack" else 70)
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in place.iterdir()] == ["out.zip"]
    assert (place / "out.zip").read_text() == "old"


@pytest.mark.parametrize("option", ["check", "pack", "presign", "publish"])
def test_a_reader_that_has_gone(uri: str, option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = run(*writes(option, uri), "-", stdout=writer, text=True)
    finally:
        os.close(writer)
    assert done.returncode == 70
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("kind", ["socket", "folder", "no folder", "block"])
def test_what_is_neither_a_file_nor_a_stream_is_refused(
    cli: Cli, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, kind: str
) -> None:
    import socket

    place = tmp_path / "o.zip"
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            server.bind("o.zip")
        elif kind == "folder":
            place.mkdir()
        elif kind == "block":
            try:
                os.mknod(place, 0o600 | stat.S_IFBLK, os.makedev(259, 4095))
            except PermissionError:
                pytest.skip("only root makes devices")
        else:
            place = tmp_path / "none" / "o.zip"
        before = place.stat().st_mode if place.exists() else None
        done = cli(*writes(option, uri), place)
    assert done.code == (4 if option == "pack" else 2), done.text
    assert "error: " in done.err
    assert (place.stat().st_mode if place.exists() else None) == before


@pytest.mark.parametrize("kind", ["file", "link to a folder with something", "pipe", "folder", "-", "/dev/stdout"])
def test_a_mended_adapter_is_a_new_folder_and_takes_nothing_elses_place(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path(kind if kind in ("-", "/dev/stdout") else "out")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    if kind == "file":
        place.write_text("mine")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.symlink_to("full")
        place = full
    elif kind.startswith("link"):
        place.symlink_to(full)
    before = place.lstat().st_mode if kind != "-" else None
    done = cli("fix", *CHECKED, "--output", place)
    assert done.code == 2, done.text
    assert "error: " in done.err
    assert before is None or place.lstat().st_mode == before
    assert (full / "mine").read_text() == "mine"
    assert not Path("-").exists()


@pytest.mark.parametrize("kind", ["nowhere", "pipe", "/dev/zero", "text", "folder"])
def test_base_weights_that_are_none(cli: Cli, tmp_path: Path, kind: str) -> None:
    """A pipe is not waited for, and a device that never ends is not read."""
    place = Path(kind) if kind.startswith("/") else tmp_path / f"{kind}.safetensors"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "text":
        place.write_text("these are no weights")
    elif kind == "folder":
        place.mkdir()
    done = cli("fix", *CHECKED, "--base-weights", place, "--output", tmp_path / "out")
    assert done.code == 2, done.text
    assert "error: " in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()


def test_an_archive_on_standard_output_is_called_that() -> None:
    done = run("pack", *CHECKED, "--output", "-", stdout=subprocess.PIPE)
    told = done.stderr.decode()
    assert "adapter_model.safetensors at the root of the archive on standard output, " in told
    assert "\nstandard output  sha256 " in told


def test_a_named_pipe_chooses_the_format_by_its_name(cli: Cli, tmp_path: Path) -> None:
    pipe = tmp_path / "p.tar.gz"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert cli("pack", *CHECKED, "--output", pipe).code == 0
    reader.join(60)
    assert read[0].startswith(b"\x1f\x8b")


@pytest.mark.parametrize(
    ("option", "why"), [("--receipt", "the next run goes on from it"), ("--journal", "the next run reads it")]
)
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/null", "pipe"])
def test_what_is_read_again_is_a_regular_file(cli: Cli, tmp_path: Path, option: str, why: str, name: str) -> None:
    if name == "pipe":
        name = str(tmp_path / "pipe")
        os.mkfifo(name)
    before = sorted(os.listdir("/dev"))
    command = ["publish", *CHECKED, "--to", "s3://bucket/prefix/"]
    if option == "--receipt":
        command = ["release", *command[1:], "--model-name", "m", "--base-model", "tiny/llama"]
    done = cli(*command, option, name)
    assert done.code == 2
    assert done.err == f"error: '{name}' is not a regular file, and {why}.\n  Name a regular file with {option}.\n"
    assert sorted(os.listdir("/dev")) == before


@pytest.mark.parametrize("command", ["pack", "presign"])
def test_json_and_what_goes_to_standard_output_do_not_mix(cli: Cli, uri: str, command: str) -> None:
    option = writes(command, uri)[-1]
    done = cli(*writes(command, uri), "-", "--format", "json")
    assert done.code == 2
    assert f"{option} and --format json would both write to standard output." in done.err
    assert json.loads(done.out)["error"]["exit_code"] == 2


@pytest.mark.parametrize("command", ["submit", "status", "wait"])
def test_a_url_file_is_read_from_standard_input_too(cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "key")
    names = ["--model-name", "m", "--base-model", "org/base"] if command == "submit" else ["job-1"]
    done = cli(command, *names, "--api", "v1", "--url-file", "-", input="no URL at all")
    assert done.code == 2
    assert "No such file" not in done.err
    assert not Path("-").exists()


@pytest.mark.parametrize("command", ["publish", "presign"])
def test_quiet_and_show_url_print_the_url_and_nothing_else(cli: Cli, env: LocalS3, uri: str, command: str) -> None:
    source = [uri] if command == "presign" else [*CHECKED, "--to", f"s3://{env.bucket}/files/"]
    done = cli(command, *source, "--quiet", "--show-url")
    assert done.code == 0
    assert done.err == ""
    assert is_right("presign", done.out.encode())


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "link"])
def test_the_env_file_of_a_sandbox_never_replaces_standard_output(tmp_path: Path, name: str) -> None:
    import signal

    if name == "link":
        name = str(tmp_path / "link")
        os.symlink("/dev/stdout", name)
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "lora_packer", "sandbox", "--env-file", name],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert "The sandbox runs" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert "export TOGETHER_API_KEY=" in (tmp_path / "out").read_text()
    assert Path("/dev/stdout").is_symlink()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("/dev/zero", "are larger than"),
        ("/dev/null", "holds 0 prompts"),
        (".", "Is a directory"),
        ("nowhere", "No such file"),
        ("-", "not a JSON object"),
    ],
)
def test_prompts_that_never_end_or_are_none(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "key")
    refused = cli("ask", "ep_1", "--prompts", name, input="no JSON")
    assert (refused.code, refused.out) == (2, ""), refused.text
    assert said in refused.err


def test_prompts_are_read_from_a_named_pipe(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOGETHER_API_KEY", "key")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text('{"prompt": 1}\n'), daemon=True)
    writer.start()
    refused = cli("ask", "ep_1", "--prompts", pipe)
    writer.join(60)
    assert refused.code == 2
    assert "line 1 is not a JSON object with a 'prompt'" in refused.err
