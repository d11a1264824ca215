"""Somebody changes the adapter while it is read: what is packed or sent is what was checked, or nothing is.

usage: python tools/hostile/races.py [--tries N] [--only TEXT]

Each try has a fresh copy of a good adapter. While a command runs, at a moment of its own, its files become those of a
bad one: in place (same length, times put back), renamed over it, or by a link. A command that says that all is well
with the bad bytes in what it packed or sent is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import random
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import lora_packer
from hostile.case import TINY, TINY_BASE
from lora_packer.errors import LoraPackerError
from lora_packer.inspector.check import check as judge
from lora_packer.sandbox import Sandbox

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Files = Mapping[str, bytes]
Change = Callable[[Path, Path], None]


def in_place(folder: Path, bad: Path) -> None:
    """Write the bad bytes into the files themselves, and put the times back."""
    for name in (WEIGHTS, CONFIG):
        before = (folder / name).stat()
        with (folder / name).open("r+b") as file:
            file.write((bad / name).read_bytes())
        os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def by_rename(folder: Path, bad: Path) -> None:
    """Put other files in their place, at once."""
    for name in (WEIGHTS, CONFIG):
        shutil.copy2(bad / name, folder / f"{name}.new")
        (folder / f"{name}.new").replace(folder / name)


def by_link(folder: Path, bad: Path) -> None:
    """Put links in their place, to files of the folder and out of it, and the folder itself behind one."""
    for name in (WEIGHTS, CONFIG):
        (folder / f"{name}.new").symlink_to(bad / name)
        (folder / f"{name}.new").replace(folder / name)
    folder.rename(folder.with_name("old"))
    folder.symlink_to(bad)


CHANGES: Mapping[str, Change] = {"in place": in_place, "by rename": by_rename, "by link": by_link}


def make_pair(root: Path) -> tuple[Path, Path]:
    """Return a good adapter and a bad one, file by file of the same length."""
    good, bad = root / "good", root / "bad"
    shutil.copytree(TINY, good)
    shutil.copytree(TINY, bad)
    raw = bytearray((bad / WEIGHTS).read_bytes())
    raw[-4096:] = b"\xff" * 4096  # NaN
    (bad / WEIGHTS).write_bytes(raw)
    config = (bad / CONFIG).read_bytes()
    (bad / CONFIG).write_bytes(config.replace(b'"LORA"', b'"LORO"'))
    assert config != (bad / CONFIG).read_bytes()
    return good, bad


class Commands:
    """What is run: each returns the bytes that it packed or sent, by file; None where it says that nothing was."""

    def __init__(self, sandbox: Sandbox, root: Path) -> None:
        self._sandbox, self._root = sandbox, root
        self._session = sandbox.session()
        self._client = lora_packer.Client.from_environment(sandbox.environment(), sleep=lambda _: None)
        self._sent: list[bytes] = []
        self._number = 0
        direct = sandbox.service.direct
        put = direct.put

        def recorded(model_id: str, upload_id: str, number: str, signature: str, body: bytes) -> str:
            self._sent.append(body)
            return put(model_id, upload_id, number, signature, body)

        direct.put = recorded  # type: ignore[method-assign]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def check(self, adapter: Path) -> Files:
        """Judge it. What was judged is told by its digest: what has the good one's is the good one."""
        report = judge(adapter, base_config=TINY_BASE, checksums="sha256")
        if not report.ok:
            raise lora_packer.CheckFailedError("failed", report=report)
        good = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in TINY.iterdir()}
        told = {name: file.member.sha256 for name, file in report.checked.items()}
        return {name: good[digest].read_bytes() if digest in good else b"" for name, digest in told.items()}

    def pack(self, adapter: Path) -> Files:
        """Pack it."""
        archive = self._root / "out.zip"
        lora_packer.pack(adapter, archive, base_config=TINY_BASE)
        return _members(archive.read_bytes())

    def publish(self, adapter: Path) -> Files:
        """Pack and upload it."""
        done = lora_packer.publish(adapter, session=self._session, **self._place())
        return self._object(done.published.object.bucket, done.published.object.key)

    def release(self, adapter: Path) -> Files:
        """Pack, upload and submit it."""
        done = lora_packer.release(adapter, session=self._session, **self._names(), **self._place())
        assert done.object is not None
        return self._object(done.object["bucket"], done.object["key"])

    def direct(self, adapter: Path) -> Files:
        """Send it to the service itself."""
        self._sent.clear()
        lora_packer.release(adapter, direct=True, base_config=TINY_BASE, api="v2", **self._names())
        return {str(at): body for at, body in enumerate(self._sent)}

    def _place(self) -> dict[str, Any]:
        self._number += 1
        to = f"s3://{self._sandbox.s3.bucket}/races/{self._number}/"
        return {"to": to, "endpoint_url": self._sandbox.s3.endpoint_url, "base_config": TINY_BASE}

    def _names(self) -> dict[str, Any]:
        self._number += 1
        receipt = self._root / f"{self._number}.json"
        names = {"model_name": f"race-{self._number}", "base_model": "tiny/llama"}
        return {**names, "client": self._client, "receipt": receipt, "wait": False}

    def _object(self, bucket: str, key: str) -> Files:
        client = self._session.client("s3", endpoint_url=self._sandbox.s3.endpoint_url)
        return _members(client.get_object(Bucket=bucket, Key=key)["Body"].read())


def _members(archive: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


@contextmanager
def changing(change: Change, folder: Path, bad: Path, after: float) -> Iterator[None]:
    """Change the folder after so many seconds, beside what the block does."""

    def run() -> None:
        time.sleep(after)
        change(folder, bad)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def race(command: Callable[[Path], Files], change: Change, root: Path, tries: int, seed: int = 0) -> Counter[str]:
    """Return how often it came to what: ``done`` with the good bytes, ``refused``, and ``WRONG``."""
    good, bad = make_pair(root)
    allowed = {path.read_bytes() for path in good.iterdir()}
    chance = random.Random(seed)
    lasts = min(_seconds(command, good) for _ in range(3))
    seen: Counter[str] = Counter()
    for number in range(tries):
        folder = root / str(number) / "adapter"
        shutil.copytree(good, folder)
        with changing(change, folder, bad, chance.uniform(0, 1.2 * lasts)):
            try:
                sent = command(folder)
            except LoraPackerError:
                seen["refused"] += 1
            else:
                seen["done" if allowed.issuperset(sent.values()) else "WRONG"] += 1
        shutil.rmtree(root / str(number))
    shutil.rmtree(good)
    shutil.rmtree(bad)
    return seen


def _seconds(command: Callable[[Path], Files], adapter: Path) -> float:
    began = time.perf_counter()
    command(adapter)
    return time.perf_counter() - began


def run(tries: int, only: str = "") -> bool:
    """Run every race and print the table; return whether none was wrong."""
    right = True
    print(f"\n{'race':28} {'tries':>6} {'done':>6} {'refused':>8} {'wrong':>6}")
    with tempfile.TemporaryDirectory() as name, Sandbox(delay=0.01) as sandbox:
        root = Path(name)
        with Commands(sandbox, root) as commands:
            for command in ("check", "pack", "publish", "release", "direct"):
                for how, change in CHANGES.items():
                    if only in f"{command}, {how}":
                        seen = race(getattr(commands, command), change, root, tries)
                        right &= not seen["WRONG"]
                        row = f"{command}, {how}"
                        print(f"{row:28} {tries:6} {seen['done']:6} {seen['refused']:8} {seen['WRONG']:6}", flush=True)
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tries", type=int, default=200)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    sys.exit(0 if run(given.tries, given.only) else 1)
