"""ADAPTER and the options name one way to the service, or do not go together; and what the room costs to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import TINY

import lora_packer
from lora_packer.hub import HubRepo
from lora_packer.pipeline.by_hub import ByHub
from lora_packer.pipeline.check import CheckOptions
from lora_packer.pipeline.pack import ArchiveOptions
from lora_packer.pipeline.place import Here, open_place
from lora_packer.pipeline.publish import StoreOptions
from lora_packer.pipeline.routes import ByS3, Direct, choose
from lora_packer.pipeline.service import ServiceOptions

STORE, ARCHIVE = StoreOptions("s3://bucket/prefix/"), ArchiveOptions()


@pytest.mark.parametrize(
    ("adapter", "store", "more", "route", "name", "asked"),
    [
        (TINY, STORE, {}, ByS3(Here(TINY), ARCHIVE, STORE), "tiny-llama-qv", {}),
        (f"{TINY}/", STORE, {"api": "v2"}, ByS3(Here(TINY), ARCHIVE, STORE), "tiny-llama-qv", {}),
        ("a/b.tar.gz", STORE, {}, ByS3(Here(Path("a/b.tar.gz")), ARCHIVE, STORE), "b", {}),
        (TINY, None, {"api": "v2", "direct": True}, Direct(Here(TINY)), "tiny-llama-qv", {"source": "direct"}),
        ("hf://org/repo", None, {}, ByHub(HubRepo("org/repo")), "repo", {"source": "hf://org/repo"}),
        ("hf://org/repo@v1", None, {}, ByHub(HubRepo("org/repo", "v1")), "repo", {"source": "hf://org/repo@v1"}),
        ("https://huggingface.co/org/repo", None, {}, ByHub(HubRepo("org/repo")), "repo", {"source": "hf://org/repo"}),
    ],
)
def test_the_way_is_told_apart_once(
    adapter: Any, store: StoreOptions | None, more: dict[str, Any], route: object, name: str, asked: dict[str, str]
) -> None:
    with open_place(adapter, CheckOptions()) as place:
        found = choose(place, ARCHIVE, store, **{"direct": False, "api": "v1", **more})
    assert found == route
    assert (found.name, dict(found.asked)) == (name, asked)


@pytest.mark.parametrize(
    ("adapter", "store", "more", "says"),
    [
        (TINY, None, {}, "--to is missing"),
        ("hf://org/repo", STORE, {}, "--to does not go with hf://org/repo"),
        ("hf://org/repo", None, {"direct": True, "api": "v2"}, "neither --to nor a Hub repo"),
        (TINY, STORE, {"direct": True, "api": "v2"}, "neither --to nor a Hub repo"),
        (TINY, None, {"direct": True}, "only through version 2"),
        (TINY / "adapter_config.json", None, {"direct": True, "api": "v2"}, "Only a folder"),
        ("hf://org", None, {}, "not a model repository"),
    ],
)
def test_what_does_not_go_together(adapter: Any, store: StoreOptions | None, more: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says), open_place(adapter, CheckOptions()) as place:
        choose(place, ARCHIVE, store, **{"direct": False, "api": "v1", **more})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model_name": "me/mine"}, "not a bare name"),
        ({"base_model": ""}, "base_model is ''; it is to be a text"),
        ({"base_model": "a b"}, "not a model id"),
        ({"api": "v9"}, "not a version of the API"),
        ({"ask": "Well?"}, "Only what is deployed can be asked"),
        ({"deploy": True, "wait": False}, "only a complete upload can be deployed"),
    ],
)
def test_what_the_service_cannot_be_asked(options: dict[str, Any], says: str) -> None:
    with pytest.raises(lora_packer.InputError, match=says):
        ServiceOptions(**{"model_name": "mine", "base_model": "tiny/llama", **options})


def test_the_room_itself_imports_nothing() -> None:
    code = "import sys, lora_packer; before = set(sys.modules); import lora_packer.pipeline; print({name for name in sys.modules if 'lora_packer' in name} - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'lora_packer.pipeline'}"
