"""``submit`` and ``wait``, interrupted: what goes on at the service is told, and how to go on here."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from together_support import BASE_MODEL

from lora_packer.sandbox.faults import Faults
from lora_packer.sandbox.service import Service

Cli = Callable[..., Any]
REPO = ("org/repo", "--no-check")  # a Hub repo, without asking the Hub
NAMES = ("--model-name", "my-adapter", "--base-model", BASE_MODEL)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service whose jobs never end."""
    with Service(delay=3600, faults=Faults(no_project=True)) as started:
        monkeypatch.setenv("TOGETHER_API_KEY", started.api_key.reveal())
        monkeypatch.setenv("TOGETHER_BASE_URL", started.base_url)
        yield started


def only_job(service: Service) -> str:
    (job,) = service.jobs.records()
    return job.id


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["wait", "submit"])
def test_an_interrupt_says_how_to_go_on(command: str, number: signal.Signals, service: Service, cli: Cli) -> None:
    if command == "wait":
        assert cli("submit", *REPO, *NAMES).code == 0
        arguments = ["wait", only_job(service)]
    else:
        arguments = ["submit", *REPO, *NAMES, "--wait"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lora_packer", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Queued"):
            break
    process.send_signal(number)
    out, err = process.communicate()
    watchdog.cancel()
    assert process.returncode == 130
    assert f"lora-packer wait {only_job(service)}" in err
    assert "Traceback" not in err
    assert out == ""


def test_an_interrupt_while_submitting_says_that_a_job_may_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        monkeypatch.setenv("TOGETHER_API_KEY", "key")
        monkeypatch.setenv("TOGETHER_BASE_URL", f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        process = subprocess.Popen(
            [sys.executable, "-m", "lora_packer", "submit", *REPO, *NAMES],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while True:
            connection, _ = listener.accept()
            with connection:
                request = connection.recv(65536)
                if request.startswith(b"POST /v1/models "):
                    process.send_signal(signal.SIGINT)
                    out, err = process.communicate(timeout=60)
                    break
                assert request.startswith(
                    (b"GET /v3/whoami ", b"GET /v1/models?", b"GET /v1/jobs")
                )  # what is asked ahead
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert process.returncode == 130
    assert "The job may exist" in err
    assert "Traceback" not in err
    assert out == ""
