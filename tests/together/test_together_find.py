"""A job that is found by its model's name: the newest that did not fail, and no model that is another's."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from together_support import BASE_MODEL, mock_client, submission
from v2_answers import MODEL, SUPPORTED, UPLOAD, P, page

from lora_packer.errors import ServiceError
from lora_packer.together import v1, v2


def job(number: int, status: str = "Complete", name: str = "me/mine", created: str | None = "") -> dict[str, Any]:
    stamp = f"2026-01-0{number}T00:00:00Z" if created == "" else created
    return {"job_id": f"job-{number}", "status": status, "args": {"modelName": name}, "created_at": stamp}


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ([job(1), job(3), job(2)], "job-3"),
        ([job(3), job(2), job(1)], "job-3"),
        ([job(1), job(2), job(3, "Failed")], "job-2"),
        ([job(1), job(2, "Queued")], "job-2"),
        ([job(1), job(2, name="mine")], "job-2"),
        ([job(1), job(2, name="me/other"), job(3, name="mine-2")], "job-1"),
        ([job(1), job(2, created=None)], "job-1"),
        ([job(1, "Failed"), job(2, "Cancelled")], None),
        ([{"job_id": "a b", "status": "Complete", "args": {"modelName": "mine"}}, None, {"args": None}], None),
        ([], None),
    ],
)
def test_version_1_finds_the_newest_that_did_not_fail(jobs: list[Any], expected: str | None) -> None:
    with mock_client(lambda _: httpx2.Response(200, json={"data": jobs})) as client:
        found = v1.find(client, "mine")
    assert (found.id if found else None) == expected


@pytest.mark.parametrize(("base", "ours"), [("ml_b", True), ("ml_other", False), (None, False)])
def test_version_2_fills_no_model_that_is_on_another_base(base: str | None, ours: bool) -> None:
    """One that is empty and on the same base is what an earlier run left behind."""
    imported: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        match request.method, request.url.path.removeprefix(P):
            case "GET", "/v2/supported-models":
                return httpx2.Response(200, json=page(SUPPORTED))
            case "GET", "/models":
                return httpx2.Response(200, json=page({**MODEL, "baseModelId": base}))
            case "POST", "/models/uploads":
                imported.append(request.content.decode())
                return httpx2.Response(200, json=UPLOAD)
            case "POST", "/models":
                raise AssertionError("the name is taken")
        return httpx2.Response(200, json=page())

    assert SUPPORTED["baseModelId"] == "ml_b"
    with mock_client(handler, project_id="proj_x") as client:
        if ours:
            assert v2.submit(client, submission(base_model=BASE_MODEL)).model_id == MODEL["id"]
        else:
            with pytest.raises(ServiceError, match="already exists") as caught:
                v2.submit(client, submission(base_model=BASE_MODEL))
            assert "new --model-name" in (caught.value.hint or "")
    assert len(imported) == ours


def test_version_1_finds_it_in_a_mapping_too() -> None:
    """As another client reads the list: by the jobs' ids, and the name beside their state."""
    jobs = {
        "job-1": {"status": "Complete", "modelName": "me/mine", "created_at": "2026-01-01T00:00:00Z"},
        "job-2": None,
    }
    with mock_client(lambda _: httpx2.Response(200, json={"data": jobs})) as client:
        found = v1.find(client, "mine")
    assert found is not None
    assert (found.id, found.model_name) == ("job-1", "me/mine")


@pytest.mark.parametrize(
    ("base_url", "path"), [("https://api.together.ai", "/v1/jobs"), ("https://proxy.example/x", "/x/jobs")]
)
def test_version_1_is_below_its_own_path(base_url: str, path: str) -> None:
    asked: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(200, json={"data": []})

    with mock_client(handler, base_url=base_url) as client:
        assert v1.find(client, "mine") is None
    assert asked == [path]
