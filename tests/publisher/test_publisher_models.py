"""botocore's descriptions of services: the short way finds and reads what the usual one does."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import create_loader
from botocore.session import get_session

from lora_packer.publisher.credentials import new_session
from lora_packer.publisher.models import read_models_quickly


@pytest.fixture
def quick() -> Any:
    session = get_session()
    read_models_quickly(session)
    return session.get_component("data_loader")


@pytest.mark.parametrize("service", ["s3", "sts", "sso"])
@pytest.mark.parametrize("kind", ["service-2", "paginators-1", "endpoint-rule-set-1"])
def test_what_is_read_is_the_same(quick: Any, service: str, kind: str) -> None:
    ours, usual = quick.load_service_model(service, kind), create_loader().load_service_model(service, kind)
    assert json.dumps(ours) == json.dumps(usual)  # its order, too


@pytest.mark.parametrize("name", ["endpoints", "partitions", "_retry", "sdk-default-configuration"])
def test_what_is_of_no_service_is_the_same(quick: Any, name: str) -> None:
    assert json.dumps(quick.load_data(name)) == json.dumps(create_loader().load_data(name))


def test_every_service_is_there(quick: Any) -> None:
    assert set(create_loader().list_available_services("service-2")) <= set(quick.list_available_services("service-2"))


def test_what_is_not_there_is_said_as_usual(quick: Any) -> None:
    with pytest.raises(UnknownServiceError, match="no-such-service"):
        quick.load_service_model("no-such-service", "service-2")
    with pytest.raises(DataNotFoundError):
        quick.load_data("no-such-file")


def test_descriptions_of_the_user_s_own_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``AWS_DATA_PATH``, as botocore has it."""
    folder = tmp_path / "s3" / "2999-01-01"
    folder.mkdir(parents=True)
    with gzip.open(folder / "service-2.json.gz", "wt") as file:
        json.dump({"metadata": {"of": "mine"}}, file)
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session = get_session()
    read_models_quickly(session)
    assert session.get_component("data_loader").load_service_model("s3", "service-2") == {"metadata": {"of": "mine"}}


def test_a_session_of_ours_makes_clients_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("every folder was looked into")

    monkeypatch.setattr("botocore.loaders.Loader.list_available_services", never)
    monkeypatch.setattr("botocore.loaders.JSONFileLoader.load_file", never)
    client = new_session().client("s3", region_name="eu-central-1")
    assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
