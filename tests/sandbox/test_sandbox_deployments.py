"""Deployments at the sandbox: what is documented of stopping, deleting and starting again."""

from __future__ import annotations

import pytest
from together_support import FakeTime

from lora_packer.sandbox.answers import Refused
from lora_packer.sandbox.deployments import Deployments

ONE, NONE = {"minReplicas": 1, "maxReplicas": 1}, {"minReplicas": 0, "maxReplicas": 0}


def deployed(time: FakeTime, **options: bool) -> tuple[Deployments, str, str]:
    state = Deployments(project="proj_x", slug="me", delay=10, clock=time.clock, **options)
    endpoint = state.create("mine")["id"]
    made = state.deploy(
        endpoint, name="a", model="projects/proj_x/models/ml_a", config="projects/x/configs/c", hardware="h",
        autoscaling=ONE,
    )  # fmt: skip
    return state, endpoint, made["id"]


def state_of(state: Deployments, *ids: str) -> str:
    found = state.deployment(*ids)["status"]["state"]
    assert isinstance(found, str)
    return found.removeprefix("DEPLOYMENT_STATE_")


def test_a_deployment_has_to_be_stopped_before_it_is_deleted_or_started_again() -> None:
    time = FakeTime()
    state, *ids = deployed(time)
    with pytest.raises(Refused, match="must be stopped before it can be deleted"):
        state.undeploy(*ids)
    state.scale(*ids, NONE)
    assert state_of(state, *ids) == "STOPPING"
    with pytest.raises(Refused, match="must be stopped before it can be deleted"):
        state.undeploy(*ids)
    with pytest.raises(Refused, match="must be stopped before it can be restarted"):
        state.scale(*ids, ONE)
    time.now += 9
    state.scale(*ids, NONE)  # the same again is no new beginning
    time.now += 1
    assert state_of(state, *ids) == "STOPPED"
    state.scale(*ids, ONE)
    assert state_of(state, *ids) == "PROVISIONING"
    state.scale(*ids, NONE)
    time.now += 10
    state.undeploy(*ids)
    state.delete(ids[0])
    assert state.describe_all() == []


def test_it_may_be_made_to_stop_for_ever() -> None:
    time = FakeTime()
    state, *ids = deployed(time, never_stopped=True)
    state.scale(*ids, NONE)
    time.now += 1e6
    assert state_of(state, *ids) == "STOPPING"
