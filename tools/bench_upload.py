"""``make bench``: check, pack and upload of a folder, side by side with peers that send a ready-made archive.

usage: python tools/bench_upload.py [--size MB] [--runs N] [--link MB/s] [--folder FOLDER]

The adapter is that of ``bench_pack.py``: 671 MB. One SeaweedFS on loopback takes them all, a new one in each round,
because it keeps everything in memory; it serves the first in a round slower, so each round begins with another way.
Ours checks the adapter, packs it, uploads it, mints a URL and proves it; the
peers (`s5cmd <https://github.com/peak/s5cmd>`_, `obstore <https://github.com/developmentseed/obstore>`_ and boto3's
``upload_file``) are given the finished archive. Each figure is of one whole process; the least of the rounds is shown.
Peers that are not installed (``pip install -e '.[bench]'``) are left out by name.

There are two tables. In the first nothing is between client and server, which share the processors: on two of them a
second of a client's own work delays the end by half a second or more. In the second all of them go through a link of
125 MB/s, which is 1 Gbit/s.
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

from slow_link import slow_link

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


def ways(server: LocalS3, endpoint: str, folder: Path, archive: Path, base_config: Path) -> tuple[list[Way], list[str]]:
    """Return the ways to the server at this address that can be gone here, and the names of those that cannot."""
    bucket = server.bucket
    ours = [
        *(sys.executable, "-m", "lora_packer", "publish", str(folder), "--base-config", str(base_config)),
        *("--target", "peft", "--to", f"s3://{bucket}/ours/", "--endpoint-url", endpoint),
    ]
    found, missing = [Way("lora-packer publish", ours)], []
    s5cmd = Path(sys.executable).parent / "s5cmd"
    program = str(s5cmd) if s5cmd.exists() else shutil.which("s5cmd")
    if program:
        found.append(Way("s5cmd cp", [program, "--endpoint-url", endpoint, "cp", str(archive), f"s3://{bucket}/s5cmd"]))
    else:
        missing.append("s5cmd")
    for name, module, script in (("boto3 upload_file", "boto3", BOTO3), ("obstore put", "obstore", OBSTORE)):
        if importlib.util.find_spec(module) is None:
            missing.append(name)
        else:
            found.append(Way(name, [sys.executable, "-c", script, endpoint, bucket, module, str(archive)]))
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


def print_table(costs: dict[str, list[Cost]]) -> None:
    """Print one line for each way, and ours against the fastest peer."""
    print(f"{'':<24}{'seconds':>9}{'median':>9}{'processor':>11}{'peak MB':>9}{'files made':>12}")
    for name, runs in costs.items():
        times = [cost.seconds for cost in runs]
        processor = min(cost.processor for cost in runs)
        memory, files = max(cost.memory for cost in runs), max(cost.files for cost in runs)
        least, median = min(times), statistics.median(times)
        print(f"{name:<24}{least:>9.2f}{median:>9.2f}{processor:>11.2f}{memory:>9.0f}{files:>12}")
    ours, *peers = ([cost.seconds for cost in runs] for runs in costs.values())
    if peers:
        fastest = min(min(times) for times in peers)
        pairs = statistics.median(own / min(others) for own, *others in zip(ours, *peers, strict=True))
        print(f"ratio to the fastest peer: {min(ours) / fastest:.2f} (median of the rounds: {pairs:.2f})")


def run(
    rounds: int, rate: float | None, work: Path, folder: Path, archive: Path, base_config: Path
) -> tuple[dict[str, list[Cost]], list[str]]:
    """Run every way once in each round, over a link of ``rate`` bytes a second or none.

    Returns the costs, and the names of the ways that cannot be gone here.
    """
    costs: dict[str, list[Cost]] = {}
    missing: list[str] = []
    for number in range(rounds):
        with LocalS3() as server, reached(server, rate) as endpoint:
            found, missing = ways(server, endpoint, folder, archive, base_config)
            costs |= {way.name: costs.get(way.name, []) for way in found}
            first = number % len(found)
            for way in found[first:] + found[:first]:
                costs[way.name].append(measure(way, server, work, folder))
    return costs, missing


def reached(server: LocalS3, rate: float | None) -> AbstractContextManager[str]:
    """Give the server's address: its own, or that of a link to it."""
    return slow_link(server.endpoint_url, rate) if rate else nullcontext(server.endpoint_url)


def main() -> int:
    """Make the adapter and its archive, run every way in turn, print the tables."""
    parser = argparse.ArgumentParser(description="Check, pack and upload, side by side with mere uploads.")
    parser.add_argument("--size", type=int, default=671, metavar="MB", help="about how large the weights are")
    parser.add_argument("--runs", type=int, default=4, help="rounds; each runs every way once")
    parser.add_argument("--link", type=float, default=125, metavar="MB/s", help="of the second table; 0: none")
    parser.add_argument("--folder", type=Path, help="where the adapter lies: the disk that is read")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="lora-packer-bench-") as name:
        folder, work, base_config = Path(name) / "adapter", Path(name) / "work", Path(name) / "base.json"
        folder.mkdir()
        work.mkdir()
        make = [sys.executable, str(Path(__file__).with_name("bench_pack.py")), "--make", str(folder)]
        subprocess.run([*make, "--size", str(options.size)], check=True)
        base_config.write_text(json.dumps(BASE_CONFIG), encoding="utf-8")
        archive = pack(folder, Path(name) / "archive.zip")
        missing: list[str] = []
        for rate in (None, options.link * 1e6) if options.link else (None,):
            link = f"a link of {options.link:g} MB/s" if rate else "no link in between"
            print(f"upload: an archive of {archive.size:,} bytes, {os.cpu_count()} processors, {link}", flush=True)
            print(f"{options.runs} rounds\n", flush=True)
            costs, missing = run(options.runs, rate, work, folder, archive.path, base_config)
            print_table(costs)
            print(flush=True)
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
