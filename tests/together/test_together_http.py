"""The connections to the service, the Hub and the store: settings that cannot be used are one sentence, and no log has
a presigned URL."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from together_calls import CALLS, World
from together_support import SECRETS, TOKEN, presigned, serving_folder, zip_of

from lora_packer.errors import InputError
from lora_packer.hub import Hub, HubRepo
from lora_packer.redact import PresignedUrl, Secret
from lora_packer.sandbox.service import Service
from lora_packer.together import Client, v1, v2, why_it_stands_still

PASSWORD = "hunter2hunter2"
SETTINGS = {
    "a SOCKS proxy": ("ALL_PROXY", f"socks5://me:{PASSWORD}@127.0.0.1:1", "ALL_PROXY is a SOCKS proxy"),
    "no proxy": ("HTTPS_PROXY", f"ftp://me:{PASSWORD}@127.0.0.1:1", "HTTPS_PROXY is not the address of a proxy"),
    "no authorities": ("SSL_CERT_FILE", "/nonexistent", "SSL_CERT_FILE '/nonexistent' cannot be read"),
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("all_proxy", "http_proxy", "https_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setitem(sys.modules, "socksio", None)


def asking(call: Callable[[Client], object]) -> Callable[[], object]:
    def ask() -> object:
        with Client(Secret(TOKEN), project_id="proj_x") as client:
            return call(client)

    return ask


def anonymous() -> object:
    with Client(Secret(TOKEN)) as client:
        return client.anonymous(1.0)


def repository() -> object:
    with Hub() as hub:
        return hub.snapshot(HubRepo("org/repo"))


CONNECTIONS = {
    "v1": asking(lambda client: v1.job(client, "job-1")),
    "v2": asking(lambda client: v2.job(client, "job-1")),
    "parts": anonymous,
    "Hub": repository,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", CONNECTIONS)
def test_a_setting_that_cannot_be_used_is_one_sentence(
    name: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, value, said = SETTINGS[setting]
    monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match=f"^{said}") as caught:
        CONNECTIONS[name]()
    assert caught.value.hint
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_job_that_stands_still_is_told_of_nevertheless(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, value, said = SETTINGS[setting]
    monkeypatch.setenv(variable, value)
    told = why_it_stands_still(PresignedUrl(presigned()))
    assert f"Whether the presigned URL is alive cannot be told: {said}" in told
    assert PASSWORD not in told


def test_the_sandbox_tells_it_as_its_service_would(monkeypatch: pytest.MonkeyPatch) -> None:
    variable, value, said = SETTINGS["a SOCKS proxy"]
    with Service(delay=0) as service:
        monkeypatch.setenv(variable, value)
        job = service.jobs.create(
            model_name="a", model_source=presigned(), kind="remote_archive", base_model="b", description=None
        )
        service.jobs.join()
    assert job.status == "Failed"
    assert job.updates[-1]["message"].startswith(f"could not download model_source: {said}")


@pytest.mark.parametrize("setting", ["a SOCKS proxy", "no proxy"])
def test_no_proxy_comes_between_this_machine_and_itself(
    setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(*SETTINGS[setting][:2])
    (tmp_path / "a.zip").write_bytes(zip_of({}))
    with Service(delay=0) as service, Client(service.api_key, service.base_url) as client:
        assert v1.hosts(client, "tiny/llama")
        client.anonymous(1.0).close()
        with serving_folder(tmp_path) as address:
            assert "is alive" in why_it_stands_still(PresignedUrl(presigned(host=address, path="/a.zip")))


def test_no_log_has_a_presigned_url(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    answer = httpx2.MockTransport(lambda _: httpx2.Response(403, content=iter([b""])))
    assert "is dead" in why_it_stands_still(PresignedUrl(presigned()), transport=answer)
    world = World()
    with world.client() as client:
        CALLS["v2: submit files"](world, client, tmp_path)
    requests = [record.getMessage() for record in caplog.records if record.name == "httpx2"]
    assert sum("GET" in request and ".amazonaws.com/adapters/a.zip?***" in request for request in requests) == 1
    assert sum("PUT" in request and "/direct/" in request for request in requests) == 2
    for secret in (*SECRETS, "X-Amz-Signature"):
        assert secret not in caplog.text
