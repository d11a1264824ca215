"""Run a command, and tell its exit code, processor time and memory behind a NUL at the end of the standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run it as the request in the first argument says."""
    request = json.loads(sys.argv[1])
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.setsid()
        if request["stdout"] == "closed":
            reading, writing = os.pipe()
            os.close(reading)
            os.dup2(writing, 1)
        elif request["stdout"] == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execv(sys.argv[2], sys.argv[2:])
    killed, sent = False, False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        passed = time.monotonic() - began
        if request["signal"] and not sent and passed > request["signal"][1]:
            os.kill(child, request["signal"][0])
            sent = True
        if passed > request["deadline"]:
            os.killpg(child, signal.SIGKILL)
            killed = True
        time.sleep(0.005)
    result = {
        "exit": os.waitstatus_to_exitcode(status),
        "seconds": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss // 1024,
        "wall": time.monotonic() - began,
        "killed": killed,
    }
    os.write(2, b"\x00" + json.dumps(result).encode())


if __name__ == "__main__":
    main()
