"""A language model behind a server on loopback: answers, failures of every kind, replay without the server."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, serving
from pydantic import ValidationError
from solve_support import RUN, Place, mirror_answers

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.prompts import grid_text
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import EndpointModel, LlamaModel
from gridloom.solvers.parts import loading
from gridloom.solvers.parts.endpoint import Endpoint
from gridloom.solvers.replay.replay import replay, replay_failed
from gridloom.stores.records import LlmCallRecord


def endpoint(server: ChatServer, **fields: Any) -> Endpoint:
    spec = {"url": server.url, "model": "tiny", "timeout_s": 5.0, "retries": 1} | fields
    return Endpoint(EndpointModel.model_validate_json(json.dumps(spec)), pause_s=0.01)


def ask(server: ChatServer, max_new_tokens: int = 20, **fields: Any) -> Any:
    made = endpoint(server, **fields)
    return made.complete("Which grid?", max_new_tokens=max_new_tokens, temperature=0.5, seed=7)


def pieces(_request: dict[str, Any]) -> list[str]:
    return ["1 2", "\n", "3 4", "\n"]


def test_answer_is_joined_and_counted_and_the_request_says_all() -> None:
    with serving(pieces) as server:
        answer = ask(server)
    assert (answer.text, answer.prompt_tokens, answer.new_tokens, answer.tries) == ("1 2\n3 4\n", 11, 4, 1)
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"], request["seed"]) == ("tiny", 20, 0.5, 7)
    assert request["messages"] == [{"role": "user", "content": "Which grid?"}]
    assert server.keys == [None]


@pytest.mark.parametrize("how", ["whole", "uncounted"])
def test_servers_that_do_not_stream_or_count_are_understood(how: str) -> None:
    with serving(pieces, always=how) as server:
        answer = ask(server)
    assert (answer.text, answer.new_tokens) == ("1 2\n3 4\n", 4)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("silence", r"sent nothing for 0\.2 s \(2 tries\)"),
        ("dies", "the answer broke off after 2 pieces of text"),
        ("garbled", "the answer is not JSON"),
        ("html", "the answer is not JSON: '<html>It works!</html>'"),
        ("503", "answered 503 Service Unavailable: .*the queue is full"),
    ],
)
def test_failing_server_is_tried_again_and_then_named(how: str, said: str) -> None:
    with serving(pieces, always=how) as server:
        timeout = 0.2 if how == "silence" else 5.0
        with pytest.raises(ModelError, match=said) as caught:
            ask(server, timeout_s=timeout)
        assert server.url in caught.value.message
        assert len(server.requests) == 2
        server.fails, server.always = [how], "no"
        assert ask(server, timeout_s=timeout).tries == 2, "a failure that passes is no failure"


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("400", "check the model's name 'tiny'; if"),
        ("400", "shorter prompt"),
        ("401", "api_key_env"),
        ("404", "model's name 'tiny'"),
    ],
)
def test_wrong_request_fails_at_once_with_the_remedy(status: str, remedy: str) -> None:
    with serving(pieces, always=status) as server, pytest.raises(ModelError, match=f"answered {status}") as caught:
        ask(server)
    assert remedy in str(caught.value)
    assert len(server.requests) == 1


def test_server_that_does_not_listen_is_reported() -> None:
    with serving(pieces) as server:
        pass
    with pytest.raises(ModelError, match="no answer: Connection refused"):
        ask(server, retries=0)


def test_server_that_knows_no_limit_is_cut_off() -> None:
    with serving(lambda _: ["7 "] * 10_000, always="uncounted") as server:
        answer = ask(server, max_new_tokens=6)
    assert (answer.text, answer.new_tokens) == ("7 " * 6, 6)
    with serving(lambda _: ["x" * 100_000], always="whole") as server:
        assert len(ask(server, max_new_tokens=6).text) == 6 * 64


def test_key_comes_from_the_named_variable_and_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(pieces) as server:
        with pytest.raises(ModelError, match=r"TINY_KEY, which holds the key .* is not set"):
            ask(server, api_key_env="TINY_KEY")
        monkeypatch.setenv("TINY_KEY", "s3cret")
        ask(server, api_key_env="TINY_KEY")
        assert server.keys == ["Bearer s3cret"]
        server.always = "401"
        with pytest.raises(ModelError) as caught:
            ask(server, api_key_env="TINY_KEY")
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x/v1", "http://user:key@host/v1", "http://host/v1?key=a"])
def test_url_of_another_form_or_with_a_key_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        EndpointModel(url=url, model="tiny")


def alone(root: Path, server: ChatServer, **fields: Any) -> Place:
    made = Place(root, with_llama=False)
    made.write_alone(max_prompt_tokens=400, reason={"max_new_tokens": 24})
    model = {"kind": "endpoint", "url": server.url, "model": "tiny", "retries": 0} | fields
    made.node = made.node.model_copy(update={"models": {"llama": model}, "facts": {}})
    return made


def test_real_model_behind_a_server_solves_and_its_record_replays_without_it(tmp_path: Path, llama: Path) -> None:
    model = Llama.load(LlamaModel(weights=str(llama), max_prompt_tokens=400))
    one_at_a_time = threading.Lock()

    def generate(request: dict[str, Any]) -> list[str]:
        with one_at_a_time:
            (made,) = reason(
                model,
                [request["messages"][0]["content"]],
                max_new_tokens=request["max_tokens"],
                temperature=[request["temperature"]],
                seeds=[request["seed"]],
            )
        return [f"{word} " for word in made.text.split()]

    with serving(generate) as server:
        made = alone(tmp_path / "place", server)
        artifact, _ = made.solve()
        assert len(server.requests) == 9
        assert replay(made.workspace, "aaaa0001.1", live=True).equal
    report = made.score(artifact)
    assert report["num_tasks"] == 3
    calls = made.ledger.read(LlmCallRecord, run_id=RUN)
    assert {(call.model, call.prompt_tokens) for call in calls} == {("tiny", 11)}
    attempts = made.ledger.recorded_attempts(RUN, "solve")
    assert {a.checkpoint_key for a in attempts} == {"endpoint:tiny"}
    assert {a.geometry["reason"]["endpoint"] for a in attempts} == {server.url}
    assert all(one.equal for one in replay_failed(made.workspace)), "the server is gone"


def test_tasks_in_flight_ask_side_by_side_and_the_right_grids_score_all(tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=20)

    def write(request: dict[str, Any]) -> list[str]:
        together.wait()
        prompt = request["messages"][0]["content"]
        grid = prompt.split("Test input:\n")[1].split("\n\n")[0].split("\nWhat")[0].split("\nEarlier")[0]
        return [" ".join(reversed(line.split())) + "\n" for line in grid.splitlines()]

    with serving(write) as server:
        made = alone(tmp_path / "place", server)
        solver = {**made.node.spec["solver"], "in_flight": 3}
        made.node = made.node.model_copy(update={"spec": {**made.node.spec, "solver": solver}})
        artifact, _ = made.solve()
    assert made.score(artifact)["pass1"] == 1.0
    assert grid_text(mirror_answers()["aaaa0001"][0]) in made.ledger.recorded_attempts(RUN, "solve")[0].text


@pytest.mark.parametrize(
    ("how", "said"), [("dies", "broke off"), ("silence", r"sent nothing for 0\.3 s"), ("garbled", "is not JSON")]
)
def test_server_that_fails_fails_the_stage_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    monkeypatch.setattr(loading, "Endpoint", lambda spec: Endpoint(spec, pause_s=0.01))
    with serving(pieces, fails=["no"] * 4, always=how) as server:
        made = alone(tmp_path / "place", server, timeout_s=0.3)
        with pytest.raises(ModelError, match=said) as caught:
            made.solve()
        assert server.url in caught.value.message
        assert "run again: the run resumes" in str(caught.value)
        assert len(made.ledger.recorded_attempts(RUN, "solve")) == 4
        server.always = "no"
        made.node = made.node.model_copy(update={"models": {"llama": {**made.node.models["llama"], "timeout_s": 30}}})
        made.solve()
    assert len(made.ledger.recorded_attempts(RUN, "solve")) == 9
    assert len(server.requests) == 10, "no answer is asked for twice"


@pytest.mark.parametrize(("number", "kept"), [(0, 0), (10_000, 24)])
def test_server_that_writes_nothing_or_far_too_much_is_a_parse_failure(tmp_path: Path, number: int, kept: int) -> None:
    with serving(lambda _: ["word "] * number, always="uncounted") as server:
        made = alone(tmp_path / "place", server)
        artifact, _ = made.solve()
    assert made.score(artifact)["pass2"] == 0.0
    calls = made.ledger.read(LlmCallRecord, run_id=RUN)
    assert [call.new_tokens for call in calls] == [kept] * 9
    attempts = made.ledger.recorded_attempts(RUN, "solve")
    assert {attempt.text for attempt in attempts} == {("word " * kept)}
