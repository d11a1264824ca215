"""Ending what costs money on version 2: every deployment to zero first, then the rest; and what a refusal still says."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest
from together_calls import MODEL, World
from together_support import FakeTime, mock_client

from lora_packer.errors import InputError, ServiceError, WaitTimeoutError
from lora_packer.together import Client, Wanted, v2

REPLICAS = {"minReplicas": 1, "maxReplicas": 1}


@pytest.fixture
def world() -> World:
    return World()


def second_of(world: World, endpoint: str) -> str:
    """Another deployment below the endpoint, with traffic of its own."""
    first = world.service.deployments.get(endpoint)["deployments"][0]
    made = world.service.deployments.deploy(
        endpoint, name="second", model=first["model"], config="projects/x/configs/c", hardware="h", autoscaling=REPLICAS
    )
    found = made["id"]
    assert isinstance(found, str)
    return found


def left(world: World) -> list[tuple[str, int]]:
    """Every deployment that is left, and how many replicas it may have."""
    found = [one for endpoint in world.service.deployments.describe_all() for one in endpoint["deployments"]]
    return [(one["id"], one["autoscaling"]["maxReplicas"]) for one in found]


def refusing(world: World, refused: Callable[[httpx2.Request], bool], status: int = 400) -> Client:
    """A client of the world's service, where some requests are refused and do nothing."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        if refused(request):
            return httpx2.Response(status, json={"error": {"message": "not now", "type": "t"}})
        return world.answer(request)

    return mock_client(handler, world.time, base_url="https://service.example/v1")


def test_all_is_scaled_to_zero_before_anything_is_deleted(world: World) -> None:
    endpoint = world.deployed()
    second_of(world, endpoint)
    with world.client() as client:
        v2.stop(client, endpoint, delete=True)
    assert world.service.deployments.describe_all() == []
    changes = [f"{method} {url.rpartition('/')[2].partition('_')[0]}" for method, url in world.sent if method != "GET"]
    assert changes == ["PATCH dep", "PATCH dep", "PATCH ep", "DELETE dep", "DELETE dep", "DELETE ep"]


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("the split", lambda request: request.method == "PATCH" and request.url.path[-24:-20] == "/ep_"),
        ("a deployment's end", lambda request: request.method == "DELETE" and "/deployments/" in request.url.path),
        ("the endpoint's end", lambda request: request.method == "DELETE" and "/deployments/" not in request.url.path),
    ],
)
def test_what_is_refused_after_that_costs_nothing_any_more(
    name: str, refused: Callable[[httpx2.Request], bool], world: World
) -> None:
    endpoint = world.deployed()
    second_of(world, endpoint)
    before = left(world)
    with refusing(world, refused) as client, pytest.raises(ServiceError, match="not now") as caught:
        v2.stop(client, endpoint, delete=True)
    named = " and ".join(one for one, _ in before)
    last = (caught.value.hint or "").splitlines()[-1].strip()
    assert last == "Nothing of it runs, so nothing of it costs money.", named
    assert {replicas for _, replicas in left(world)} <= {0}
    with world.client() as client:
        assert v2.stop(client, endpoint, delete=True).is_stopped  # and the next run ends it
    assert world.service.deployments.describe_all() == []


def test_an_endpoint_without_deployments_costs_nothing(world: World) -> None:
    endpoint = world.service.deployments.create("empty")["id"]
    with refusing(world, lambda request: request.method == "DELETE") as client:
        assert v2.stop(client, endpoint).is_stopped
        with pytest.raises(ServiceError) as caught:
            v2.stop(client, endpoint, delete=True)
    assert (caught.value.hint or "").endswith("Nothing of it runs, so nothing of it costs money.")


@pytest.mark.parametrize("delete", [False, True])
@pytest.mark.parametrize("status", [400, 409, 500])
def test_one_that_cannot_be_scaled_keeps_no_other_running(status: int, delete: bool, world: World) -> None:
    endpoint = world.deployed()
    second = second_of(world, endpoint)
    first = next(one for one, _ in left(world) if one != second)
    with (
        refusing(world, lambda request: request.method == "PATCH" and first in request.url.path, status) as client,
        pytest.raises(ServiceError, match="not now") as caught,
    ):
        v2.stop(client, endpoint, delete=delete)
    last = (caught.value.hint or "").splitlines()[-1].strip()
    assert last.startswith(f"{first} may still cost money.")
    assert last.endswith(f"Scaled to zero, and at no cost any more once stopped: {second}.")
    assert dict(left(world)) == {first: 1, second: 0}


def test_a_deployment_is_deleted_once_it_has_stopped(world: World) -> None:
    endpoint = world.deployed()
    state = world.service.deployments
    state._delay, state._clock = 30, world.time.clock
    with world.client() as client:
        assert v2.stop(client, endpoint, delete=True).is_stopped
    assert state.describe_all() == []
    assert 30 <= world.time.now - 1000 < 60


def test_one_that_goes_on_stopping_is_named() -> None:
    world = World(never_stopped=True)
    endpoint = world.deployed()
    with world.client() as client:
        with pytest.raises(WaitTimeoutError, match="has not stopped after 10 min: dep_") as late:
            v2.stop(client, endpoint, delete=True)
        assert "at no cost any more once stopped" in (late.value.hint or "").splitlines()[-1]
        with pytest.raises(ServiceError, match="must be stopped before") as caught:
            v2.deploy(client, MODEL)
        assert "in a few minutes" in (caught.value.hint or "")


def test_one_that_is_stopping_is_started_again_once_it_has_stopped(world: World) -> None:
    endpoint = world.deployed()
    state = world.service.deployments
    with world.client() as client:
        state._delay, state._clock = 30, world.time.clock
        assert v2.stop(client, endpoint).state == "STOPPING"
        assert v2.deploy(client, MODEL).id == endpoint
    assert [replicas for _, replicas in left(world)] == [1]


@pytest.mark.parametrize("count", [1, 12])
def test_a_service_that_deletes_nothing_that_runs_and_nothing_that_gets_traffic(count: int, world: World) -> None:
    """The sandbox's, with one deployment and with more than an endpoint embeds."""
    endpoint = world.deployed()
    state = world.service.deployments
    model = state.get(endpoint)["deployments"][0]["model"]
    for number in range(1, count):
        state.deploy(
            endpoint, name=f"more-{number}", model=model, config="projects/x/configs/c", hardware="h",
            autoscaling=REPLICAS,
        )  # fmt: skip
    state._delay, state._clock = 30, world.time.clock
    assert len(state.get(endpoint)["deployments"]) == min(count, 10)
    assert len(state.below(endpoint)) == count
    with world.client() as client:
        assert v2.stop(client, endpoint, delete=True).is_stopped
    assert state.describe_all() == []


def test_where_an_empty_split_is_no_change_the_weights_are_set_to_zero() -> None:
    world = World(keeps_empty_split=True)
    endpoint = world.deployed()
    with world.client() as client:
        assert v2.stop(client, endpoint, delete=True).is_stopped
    assert world.service.deployments.describe_all() == []


def test_where_the_split_is_refused_the_scaling_went_out_before(world: World) -> None:
    endpoint = world.deployed()
    split = refusing(world, lambda request: request.method == "PATCH" and request.url.path.endswith(endpoint))
    with split as client, pytest.raises(ServiceError, match="not now") as caught:
        v2.stop(client, endpoint, delete=True)
    assert caught.value.exit_code == 5
    assert [replicas for _, replicas in left(world)] == [0]


def test_where_the_deployments_cannot_be_listed_those_that_are_known_were_stopped_before(world: World) -> None:
    endpoint = world.deployed()
    listing = refusing(world, lambda request: request.url.path.endswith("/deployments"), 500)
    with listing as client, pytest.raises(ServiceError) as caught:
        v2.stop(client, endpoint)
    assert "could not be listed may still cost money" in (caught.value.hint or "").splitlines()[-1]
    assert [replicas for _, replicas in left(world)] == [0]


def test_an_endpoint_that_cannot_be_looked_at_may_still_cost_money(world: World) -> None:
    endpoint = world.deployed()
    with refusing(world, lambda request: True, 503) as client, pytest.raises(ServiceError) as caught:
        v2.stop(client, endpoint)
    assert (caught.value.hint or "").splitlines()[-1].strip() == f"Endpoint {endpoint} may still cost money."


def test_what_has_failed_may_refuse_to_be_scaled_and_keeps_nothing_else_running(world: World) -> None:
    endpoint = world.deployed()
    second = second_of(world, endpoint)
    state = world.service.deployments
    state._fails = True
    with refusing(world, lambda request: request.method == "PATCH" and second in request.url.path) as client:
        stopped = v2.stop(client, endpoint)
    assert stopped.id == endpoint
    assert dict(left(world))[second] == 1
    assert sorted(replicas for _, replicas in left(world)) == [0, 1]


def test_one_that_has_failed_is_not_started_again(world: World) -> None:
    endpoint = world.deployed()
    state = world.service.deployments
    (broken,) = state.get(endpoint)["deployments"]
    state._fails = True
    with world.client() as client:
        v2.deploy(client, MODEL)
    names = [one["name"].rpartition("/")[2] for one in state.get(endpoint)["deployments"]]
    assert len(names) == 2
    assert sorted(names) == [broken["name"].rpartition("/")[2], broken["name"].rpartition("/")[2] + "-2"]
    assert dict(left(world))[broken["id"]] == 1


def test_a_models_name_stops_what_serves_it_and_nothing_else(world: World) -> None:
    endpoint = world.deployed()
    theirs = colleague(world, endpoint)
    with world.client() as client:
        assert v2.to_stop(client, endpoint) == ((endpoint, None),)
        ((found, model),) = v2.to_stop(client, MODEL)
        assert found == endpoint
        stopped = v2.stop(client, found, model=model, delete=True)
    assert stopped.state == "READY"
    assert left(world) == [(theirs, 1)]
    (kept,) = world.service.deployments.describe_all()
    assert kept["trafficSplit"] == [{"deploymentId": theirs, "weight": 3}]


def test_a_name_that_is_none_is_no_stop(world: World) -> None:
    with world.client() as client, pytest.raises(ServiceError, match="no endpoint and no model nobody"):
        v2.to_stop(client, "nobody")


def test_more_deployments_than_an_endpoint_tells_are_stopped_too() -> None:
    """An endpoint embeds its ten newest deployments (docs.together.ai, "Manage endpoints"); the rest is listed."""
    ids = [f"dep_{number}" for number in range(12)]
    scaled: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        last = request.url.path.rpartition("/")[2]
        if request.method == "PATCH":
            scaled.append(last)
            return httpx2.Response(200, json={})
        told = [{"id": one, "state": "DEPLOYMENT_STATE_STOPPED"} for one in ids]
        if last == "deployments":
            return httpx2.Response(200, json={"data": told})
        return httpx2.Response(200, json={"id": "ep_1", "name": "me/mine", "deployments": told[:10]})

    with mock_client(handler, FakeTime(), project_id="proj_x") as client:
        v2.stop(client, "ep_1")
    assert scaled == ids


# --- the traffic of others -------------------------------------------------------------------------------------------


def colleague(world: World, endpoint: str) -> str:
    """Somebody else's deployment on the same endpoint, which takes the traffic."""
    state = world.service.deployments
    made = state.deploy(
        endpoint, name="theirs", model="projects/proj-sandbox/models/ml_theirs", config="projects/x/configs/c",
        hardware="h", autoscaling=REPLICAS,
    )["id"]  # fmt: skip
    state.route(endpoint, [{"deploymentId": made, "weight": 3}], None)
    return str(made)


def meeting(world: World, when: Callable[[httpx2.Request], bool], met: list[str]) -> Client:
    """A client during whose deployment a colleague deploys too, right before the first request that ``when`` tells."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        if when(request) and not met:
            met.append(colleague(world, world.service.deployments.describe_all()[0]["id"]))
        return world.answer(request)

    return mock_client(handler, world.time, base_url="https://service.example/v1")


def test_a_colleagues_deployment_keeps_its_traffic(world: World) -> None:
    """It came after the endpoint was listed and before the traffic was split: split and etag are of one read."""
    met: list[str] = []
    with meeting(world, lambda request: request.method == "POST" and "deployments" in request.url.path, met) as client:
        v2.deploy(client, MODEL)
    (endpoint,) = world.service.deployments.describe_all()
    weights = {one["deploymentId"]: one["weight"] for one in endpoint["trafficSplit"]}
    assert weights.pop(met[0]) == 3
    assert list(weights.values()) == [1]


def test_a_split_that_was_changed_after_it_was_read_is_not_overwritten(world: World) -> None:
    met: list[str] = []
    with meeting(world, lambda request: request.method == "PATCH", met) as client:
        v2.deploy(client, MODEL)
    (endpoint,) = world.service.deployments.describe_all()
    weights = {one["deploymentId"]: one["weight"] for one in endpoint["trafficSplit"]}
    assert weights.pop(met[0]) == 3  # it was read anew
    assert list(weights.values()) == [1]


def test_hardware_that_a_deployment_does_not_run_on_is_not_told(world: World) -> None:
    endpoint = world.deployed()
    with world.client() as client:
        offers = v2.hardware(client, MODEL)
        running = v2.deploy(client, MODEL)
        assert (running.hardware, running.cents_per_minute) == (offers[0].id, offers[0].cents_per_minute)
        with pytest.raises(InputError, match="runs on") as caught:
            v2.deploy(client, MODEL, Wanted(hardware=offers[1].id))
    assert endpoint in str(caught.value)
    assert len(left(world)) == 1
