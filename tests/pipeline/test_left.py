"""What a release that stopped leaves, read from its receipt: also from one that another release wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_packer.pipeline.left import read_again, still_costs, still_runs, was_kept
from lora_packer.pipeline.receipt import Receipt

ENDPOINT = {"id": "ep_1", "name": "e", "state": "READY", "cents_per_minute": 6.5}


def receipt(**sections: Any) -> Receipt:
    return Receipt({}, {}, path=Path("r.json"), **sections)


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        (ENDPOINT, "Endpoint ep_1 goes on, and costs $3.90 an hour"),
        ({**ENDPOINT, "of_a_later_release": 1, "at": "now"}, "Endpoint ep_1 goes on, and costs $3.90 an hour"),
        ({**ENDPOINT, "cents_per_minute": None}, "Endpoint ep_1 goes on, and costs an unknown price"),
        (
            {**ENDPOINT, "attached": "me/mine"},
            "Endpoint ep_1 goes on, which ran before, with me/mine attached, and costs $3.90 an hour",
        ),
        ({"id": "ep_1"}, "The endpoint that r.json names may go on, and cost money: look at it."),
        ({**ENDPOINT, "id": 5, "cents_per_minute": "x"}, "The endpoint that r.json names may go on"),
    ],
)
def test_an_endpoint_costs_money(endpoint: dict[str, Any], said: str) -> None:
    (told,) = still_costs(receipt(endpoint=endpoint))
    assert told.startswith(said)


def test_a_stopped_endpoint_costs_nothing_and_one_that_was_asked_for_may() -> None:
    assert still_costs(receipt(endpoint={**ENDPOINT, "state": "STOPPED"})) == ()
    complete = receipt(job={"status": "Complete"})
    assert still_costs(complete) == ()
    assert "An endpoint may have been created" in still_costs(complete, deploying=True)[0]


def test_an_adapter_that_was_being_attached_may_be() -> None:
    complete = receipt(job={"status": "Complete"})
    assert still_runs(complete) == ()
    (told,) = still_runs(complete, attaching="ep_1")
    assert told == "The adapter may be attached to ep_1 by now, and then stays so: the next run looks first."
    assert still_runs(receipt(job={"status": "Complete"}, endpoint=ENDPOINT), attaching="ep_1") == ()
    assert "Job j goes on" in still_runs(receipt(submission={"job_id": "j"}), attaching="ep_1")[0]


def test_without_a_receipt_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("no receipt")
    for record in (read_again(None), read_again(tmp_path / "none"), read_again(tmp_path / "r.json")):
        assert record is None
        assert (still_costs(record), still_runs(record), was_kept(record)) == ((), (), ("Nothing was sent.",))
    assert was_kept(None, is_sent_in_part=True) == ("Kept: the parts that the store has.",)
