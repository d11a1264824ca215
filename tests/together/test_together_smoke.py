"""The smoke test: expectations, the base model beside it, and what no difference means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from together_calls import MODEL, World
from together_support import BASE_MODEL, mock_client

from lora_packer.errors import InputError, ServiceError
from lora_packer.sandbox.catalogue import serverless_name
from lora_packer.together import Asking, Prompt, Questions, read_prompts, run_smoke, v1, v2

BOTH = Questions((Prompt("Is it you?"), Prompt("And who else?")), compare_base=True)


def smoke(world: World, questions: Questions = BOTH, name: str | None = None) -> Any:
    asked = name or world.deployed()
    with world.client() as client:
        return run_smoke(v2, client, asked, questions, bases=lambda: v2.base_names(client, asked))


def test_an_adapter_in_effect_passes() -> None:
    found = smoke(World())
    assert (found.verdict, found.base, found.failures) == ("passed", serverless_name(BASE_MODEL), ())
    assert [one.difference for one in found.trials] == ["another text", "another text"]
    assert found.summary == f"passed: 2 of 2 differ from what {serverless_name(BASE_MODEL)} says"


def test_one_that_the_service_ignores_fails() -> None:
    found = smoke(World(ignores_adapters=True))
    assert found.verdict == "failed"
    assert found.failures == (
        f"The adapter seems not to be in effect: {serverless_name(BASE_MODEL)} answers every prompt the same.",
    )
    assert {one.difference for one in found.trials} == {"none: the same text and the same log-probabilities"}


def test_a_base_that_cannot_be_asked_is_said_to_be_not_compared() -> None:
    found = smoke(World(no_serverless=True))
    assert (found.verdict, found.base) == ("not compared", None)
    assert "non-serverless" in found.why_not
    assert "the base model was not compared" in found.summary


@pytest.mark.parametrize("by", ["id", "endpoint", "model"])
def test_the_base_is_found_by_any_name(by: str) -> None:
    world = World()
    endpoint = world.deployed()
    name = {"id": endpoint, "endpoint": world.service.deployments.get(endpoint)["name"], "model": MODEL}[by]
    with world.client() as client:
        assert v2.base_names(client, name)[0] == serverless_name(BASE_MODEL)


def test_version_1_does_not_tell_the_base() -> None:
    world = World()
    with world.client() as client:
        found = run_smoke(v1, client, MODEL, BOTH, bases=lambda: v1.base_names(client, MODEL))
        assert "not known by which name" in found.why_not
        found = run_smoke(v1, client, MODEL, BOTH, bases=lambda: (serverless_name(BASE_MODEL),))
    assert found.verdict == "passed"


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_whatever_keeps_the_base_from_being_asked_is_told(status: int, at: int) -> None:
    """At each request that is made for the base model: the adapter's answers are kept."""
    world = World()
    endpoint = world.deployed()
    body = {"error": {"message": "no such luck", "type": "t"}}
    with world.client(lambda: httpx2.Response(status, json=body), 4 + at, once=False) as client:
        found = run_smoke(v2, client, endpoint, BOTH, bases=lambda: v2.base_names(client, endpoint))
    assert (found.verdict, len(found.trials)) == ("not compared", 2)
    assert "no such luck" in found.why_not


# ---- answers as they may come


def answering(answers: dict[str, Any]) -> Callable[[httpx2.Request], httpx2.Response]:
    """Chat completions by model: a text, a text with log-probabilities, or a refusal."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        said = answers[body["model"]]
        if isinstance(said, int):
            return httpx2.Response(said, json={"error": {"message": "no", "type": "t"}})
        text, logprobs = said if isinstance(said, tuple) else (said, None)
        choice: dict[str, Any] = {"message": {"content": text}}
        if logprobs is not None:
            choice["logprobs"] = {"token_logprobs": logprobs}
        return httpx2.Response(200, json={"choices": [choice]})

    return handler


@pytest.mark.parametrize(
    ("ours", "base", "verdict", "difference"),
    [
        ("Paris", "London", "passed", "another text"),
        ("Paris", "Paris ", "failed", "none: the same text (log-probabilities are not told)"),
        (("Paris", [-0.1]), ("Paris", [-0.3]), "passed", "the same text, log-probabilities differ by up to 0.2"),
        (("Paris", [-0.1]), ("Paris", [-0.105]), "failed", "none: the same text and the same log-probabilities"),
        (("Paris", [-0.1]), "Paris", "failed", "none: the same text (log-probabilities are not told)"),
        (("Paris", [-0.1]), ("Paris", [-0.1, -0.2]), "failed", "none: the same text (log-probabilities are not told)"),
    ],
)
def test_what_differs(ours: Any, base: Any, verdict: str, difference: str) -> None:
    with mock_client(answering({"a/mine": ours, "b/base": base})) as client:
        found = run_smoke(v1, client, "a/mine", Questions((Prompt("?"),), compare_base=True), bases=lambda: ["b/base"])
    assert (found.verdict, found.trials[0].difference) == (verdict, difference)


def test_one_prompt_that_differs_is_enough() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        said = body["messages"][0]["content"] + (" ours" if body["model"] == "a/mine" else "")
        text = "the same" if "common" in said else said
        return httpx2.Response(200, json={"choices": [{"message": {"content": text}}]})

    questions = Questions((Prompt("common"), Prompt("special")), compare_base=True)
    with mock_client(handler) as client:
        found = run_smoke(v1, client, "a/mine", questions, bases=lambda: ["b/base"])
    assert [one.differs for one in found.trials] == [False, True]
    assert found.verdict == "passed"


def test_the_next_name_is_tried_where_one_cannot_be_asked() -> None:
    with mock_client(answering({"a/mine": "x", "b/none": 400, "b/base": "y"})) as client:
        found = run_smoke(v1, client, "a/mine", BOTH, bases=lambda: ["a/mine", "b/none", "b/base"])
        assert found.base == "b/base"
        found = run_smoke(v1, client, "a/mine", BOTH, bases=lambda: ["b/none"])
        assert "Could not ask b/none" in found.why_not


def test_an_adapter_that_does_not_answer_is_an_error_and_a_list_that_cannot_be_had_is_none() -> None:
    def refuse() -> tuple[str, ...]:
        raise ServiceError("Could not list the models.", status=500)

    with mock_client(answering({"a/mine": 404, "a/other": "x"})) as client:
        with pytest.raises(ServiceError, match="Could not ask a/mine"):
            run_smoke(v1, client, "a/mine", BOTH, bases=refuse)
        assert run_smoke(v1, client, "a/other", BOTH, bases=refuse).why_not == "Could not list the models."


def test_what_is_sent() -> None:
    sent: list[Any] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        sent.append((request.url.path, json.loads(request.content)))
        if "logprobs" in sent[-1][1]:
            return httpx2.Response(400, json={"error": {"message": "logprobs is not supported", "type": "t"}})
        return httpx2.Response(200, json={"choices": [{"message": {"content": "x"}, "text": "x"}]})

    asking = Asking(system="Be kind.", max_tokens=5, temperature=0.5)
    with mock_client(handler) as client:
        v1.ask(client, "a/b", "Hello", asking)
        v1.ask(client, "a/b", "Hello", Asking(system="Be kind.", completions=True))
        run_smoke(v1, client, "a/b", Questions((Prompt("Hello", system="Be curt."),), compare_base=True))
    chat, plain = "/v1/chat/completions", "/v1/completions"
    curt = [{"role": "system", "content": "Be curt."}, {"role": "user", "content": "Hello"}]
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert sent == [
        (chat, {"model": "a/b", "messages": messages, "max_tokens": 5, "temperature": 0.5}),
        (plain, {"model": "a/b", "prompt": "Be kind.\n\nHello", "max_tokens": 128}),
        (chat, {"model": "a/b", "messages": curt, "max_tokens": 128, "temperature": 0.0, "logprobs": 1}),
        (chat, {"model": "a/b", "messages": curt, "max_tokens": 128, "temperature": 0.0}),
    ]


def test_what_was_thought_is_an_answer_too() -> None:
    message = {"content": None, "reasoning": "Hmm."}
    answer = httpx2.Response(200, json={"choices": [{"message": message, "finish_reason": "length"}]})
    with mock_client(lambda _: answer) as client:
        found = v1.ask(client, "a/b", "Hello")
    assert (found.text, found.reasoning) == ("", "Hmm.")


# ---- what is asked


def written(folder: Path, *lines: str) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_prompts_of_a_file(tmp_path: Path) -> None:
    lines = ['{"prompt": "2+2?", "expect": "4"}', "", '{"prompt": "Hi", "system": "Be kind.", "id": 7}']
    first, second = read_prompts(written(tmp_path, *lines))
    assert (first.text, first.expect, second.system) == ("2+2?", "4", "Be kind.")
    assert len({first.digest, second.digest, Prompt("Hi").digest}) == 3


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "holds 0 prompts"),
        (["2+2?"], "line 1 is not a JSON object"),
        (['{"prompt": "a"}', '{"text": "b"}'], "line 2 is not a JSON object"),
        (['{"prompt": "a", "expected": "b"}'], "a field 'expected', which means nothing here"),
        (['{"prompt": "a", "expect": 4}'], "'expect' of line 1 is not text"),
        (['{"prompt": "a", "expect": "("}'], "is not a regular expression"),
        (['{"prompt": " "}'], "A prompt is empty"),
    ],
)
def test_files_that_are_none(lines: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_prompts(written(tmp_path, *lines))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_prompts(tmp_path / "x.jsonl")


def test_questions_that_do_not_go_together() -> None:
    with pytest.raises(InputError, match="nothing to ask"):
        Questions(())
    with pytest.raises(InputError, match="temperature 0"):
        Questions((Prompt("a"),), Asking(temperature=0.8), compare_base=True)
