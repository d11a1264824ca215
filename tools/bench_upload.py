"""``make bench``: check, pack and upload of a folder, side by side with peers that send a ready-made archive.

usage: python tools/bench_upload.py [--sizes MB,MB] [--links NAMES] [--runs N] [--folder FOLDER]

The adapters are those of ``bench_pack.py``. One SeaweedFS on loopback takes them all, a new one in each round, because
it keeps everything in memory; it serves the first in a round slower, so each round begins with another way.
Ours checks the adapter, packs it, uploads it, mints a URL and proves it; the
peers (`s5cmd <https://github.com/peak/s5cmd>`_, `obstore <https://github.com/developmentseed/obstore>`_, and boto3's
``upload_file``) are given the finished archive. Each figure is of one whole process.
Peers that are not installed (``pip install -e '.[bench]'``) are left out by name. AWS's CRT client, which awscli 2 and
boto3 can use, speaks to port 443 alone, whatever the endpoint's, so no link can be put in its way.

The links (``slow_link.py``): none, where client and server share the processors, so that on two of them a second of a
client's own work delays the end by half a second or more; 1 Gbit/s with a round trip of 20 ms; 200 Mbit/s with 80 ms.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from bench_pack import ADAPTERS
from bench_rows import Row, against_best, header, line
from slow_link import Link, slow_link

from lora_packer.packager import pack
from lora_packer.sandbox.s3 import LocalS3

BASE_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
BOTO3 = """
import sys, boto3
endpoint, bucket, key, archive = sys.argv[1:]
boto3.client("s3", endpoint_url=endpoint).upload_file(archive, bucket, key)
"""
OBSTORE = """
import sys, obstore
from pathlib import Path
from obstore.store import S3Store
endpoint, bucket, key, archive = sys.argv[1:]
store = S3Store(bucket, endpoint=endpoint, virtual_hosted_style_request=False, client_options={"allow_http": True})
obstore.put(store, key, Path(archive))
"""
IN_CREATE, IN_MOVED_TO = 0x100, 0x80
OURS = "lora-packer publish"
LINKS = {"loopback": None, "1gbit": Link(125e6, 0.02), "200mbit": Link(25e6, 0.08)}
LIMIT, LIMIT_ON_LOOPBACK = 1.15, 1.25


@dataclass(frozen=True)
class Adapter:
    """What is sent: a folder, the config of its base model, and the finished archive for the peers."""

    folder: Path
    base_config: Path
    archive: Path


@dataclass(frozen=True)
class Way:
    """A command that sends the archive."""

    name: str
    command: list[str]


@dataclass(frozen=True)
class Cost:
    """What one whole process took: wall and processor seconds, peak memory in MB, and how many files it made."""

    seconds: float
    processor: float
    memory: float
    files: int


@contextmanager
def created_files(*folders: Path) -> Iterator[list[str]]:
    """Count what is created directly in these folders while the block runs, even if it is gone again (inotify(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    for folder in folders:
        if libc.inotify_add_watch(watch, os.fsencode(folder), IN_CREATE | IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), f"{folder} cannot be watched")
    names: list[str] = []
    try:
        yield names
        while data := _read(watch):
            while data:
                _, _, _, length = struct.unpack_from("iIII", data)
                names.append(data[16 : 16 + length].rstrip(b"\0").decode())
                data = data[16 + length :]
    finally:
        os.close(watch)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return b""


def ways(server: LocalS3, endpoint: str, adapter: Adapter) -> tuple[list[Way], list[str]]:
    """Return the ways to the server at this address that can be gone here, and the names of those that cannot."""
    bucket = server.bucket
    ours = [
        *(sys.executable, "-m", "lora_packer", "publish", str(adapter.folder), "--quiet"),
        *("--base-config", str(adapter.base_config), "--target", "peft"),
        *("--to", f"s3://{bucket}/ours/", "--endpoint-url", endpoint),
    ]
    archive, found, missing = str(adapter.archive), [Way(OURS, ours)], []
    s5cmd = Path(sys.executable).parent / "s5cmd"
    program = str(s5cmd) if s5cmd.exists() else shutil.which("s5cmd")
    if program:
        found.append(Way("s5cmd cp", [program, "--endpoint-url", endpoint, "cp", archive, f"s3://{bucket}/s5cmd"]))
    else:
        missing.append("s5cmd")
    for name, module, script in (("boto3 upload_file", "boto3", BOTO3), ("obstore put", "obstore", OBSTORE)):
        if importlib.util.find_spec(module) is None:
            missing.append(name)
        else:
            found.append(Way(name, [sys.executable, "-c", script, endpoint, bucket, module, archive]))
    return found, missing


def measure(way: Way, server: LocalS3, work: Path, watched: Path) -> Cost:
    """Run one whole process. Raises CalledProcessError where it fails."""
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key.reveal(),
        "AWS_REGION": server.region,
        "AWS_DEFAULT_REGION": server.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "TMPDIR": str(work),
    }
    with created_files(work, watched) as files:
        started = time.perf_counter()
        process = subprocess.Popen(way.command, cwd=work, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, way.command)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, len(files))


def run(rounds: int, link: Link | None, work: Path, adapter: Adapter) -> tuple[dict[str, list[Cost]], list[str]]:
    """Run every way once in each round, over a link or none.

    Returns the costs, and the names of the ways that cannot be gone here.
    """
    costs: dict[str, list[Cost]] = {}
    missing: list[str] = []
    for number in range(rounds):
        with LocalS3() as server, reached(server, link) as endpoint:
            found, missing = ways(server, endpoint, adapter)
            costs |= {way.name: costs.get(way.name, []) for way in found}
            first = number % len(found)
            for way in found[first:] + found[:first]:
                costs[way.name].append(measure(way, server, work, adapter.folder))
    return costs, missing


def reached(server: LocalS3, link: Link | None) -> AbstractContextManager[str]:
    """Give the server's address: its own, or that of a link to it."""
    return slow_link(server.endpoint_url, link) if link else nullcontext(server.endpoint_url)


def make(folder: Path, size: int) -> Adapter:
    """Make the adapter of about this many MB, and its archive; in a process of its own, whose memory goes with it."""
    adapter = Adapter(folder / f"{size}", folder / f"{size}.json", folder / f"{size}.zip")
    adapter.folder.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("bench_pack.py")), "--make", str(adapter.folder)]
    subprocess.run([*command, "--size", str(size)], check=True)
    adapter.base_config.write_text(json.dumps(BASE_CONFIG), encoding="utf-8")
    pack(adapter.folder, adapter.archive)
    return adapter


def rows(sizes: list[int], links: list[str], rounds: int, where: Path | None = None) -> Iterator[Row]:
    """Measure every size over every link. Ways that are not installed are told on stderr."""
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=where, prefix="lora-packer-bench-") as name:
            work = Path(name) / "work"
            work.mkdir()
            adapter = make(Path(name), size)
            for chosen in links:
                link = LINKS[chosen]
                costs, missing = run(rounds, link, work, adapter)
                if missing:
                    print(f"not installed, left out: {', '.join(missing)}", file=sys.stderr)
                ours = costs[OURS]
                memory, files = max(cost.memory for cost in ours), max(cost.files for cost in ours)
                processor = statistics.median(cost.processor for cost in ours)
                yield against_best(
                    f"publish {size} MB, {link or 'loopback'}",
                    {way: [cost.seconds for cost in figures] for way, figures in costs.items()},
                    OURS,
                    limit=LIMIT if link else LIMIT_ON_LOOPBACK,
                    more=f"processor {processor:.2f} s, peak {memory:.0f} MB, {files} temporary files",
                )


def main() -> int:
    """Make the adapters and their archives, run every way in turn, print the table."""
    parser = argparse.ArgumentParser(description="Check, pack and upload, side by side with mere uploads.")
    parser.add_argument("--sizes", default=",".join(map(str, ADAPTERS)), metavar="MB,MB", help="of the weights, about")
    parser.add_argument("--links", default=",".join(LINKS), metavar="NAMES", help="of what lies in between")
    parser.add_argument("--runs", type=int, default=9, help="rounds; each runs every way once")
    parser.add_argument("--folder", type=Path, help="where the adapter lies: the disk that is read")
    options = parser.parse_args()
    print(header(), flush=True)
    for row in rows([*map(int, options.sizes.split(","))], options.links.split(","), options.runs, options.folder):
        print(line(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
