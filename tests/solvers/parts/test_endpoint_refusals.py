"""Servers that refuse parameters, ask to wait, think apart from the text: what is sent again, recorded, and advised."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, serving
from pydantic import ValidationError
from solve_support import RUN, Place

from gridloom.errors import ModelError, StageInterrupted
from gridloom.runtime.models.language.spec import EndpointModel
from gridloom.solvers.parts.endpoint import Endpoint
from gridloom.solvers.parts.endpoint_refusals import message_of, retry_after_s
from gridloom.solvers.replay.replay import replay
from gridloom.stores.records import AttemptRecord, LlmCallRecord


def endpoint(server: ChatServer, **fields: Any) -> Endpoint:
    spec = {"url": server.url, "model": "tiny", "timeout_s": 5.0, "retries": 0} | fields
    return Endpoint(EndpointModel.model_validate_json(json.dumps(spec)), pause_s=0.01)


def ask(made: Endpoint, max_new_tokens: int = 20) -> Any:
    return made.complete("Which grid?", max_new_tokens=max_new_tokens, temperature=0.5, seed=7)


def pieces(_request: dict[str, Any]) -> list[str]:
    return ["1 2", "\n", "3 4"]


def openai(name: str, message: str, code: str = "unsupported_parameter") -> Any:
    return {"error": {"message": message, "type": "invalid_request_error", "param": name, "code": code}}


REFUSALS = [
    (
        "max_tokens",
        400,
        openai("max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. "
               "Use 'max_completion_tokens' instead."),
    ),
    (
        "temperature",
        400,
        openai("temperature", "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default "
               "(1) value is supported.", "unsupported_value"),
    ),
    ("seed", 400, {"error": {"message": "Unrecognized request argument supplied: seed"}}),
    ("seed", 422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
    ("stream_options", 400, {"message": "unknown field stream_options"}),
    ("max_tokens", 400, b"max_tokens is not a parameter"),
    ("temperature", 400, {"error": "temperature may only be set to 1 when thinking is enabled"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "body"), REFUSALS)
def test_parameter_that_is_refused_is_renamed_or_left_out_for_good(name: str, status: int, body: Any) -> None:
    def refuse(request: dict[str, Any]) -> tuple[int, Any] | None:
        return (status, body) if name in request else None

    with serving(pieces, refuse=refuse) as server, endpoint(server) as made:
        answer = ask(made)
        assert (answer.text, answer.tries) == ("1 2\n3 4", 1)
        ask(made)
    first, second, third = server.requests
    assert name in first
    assert name not in second
    assert second == third, "the refusal is remembered"
    renamed = "max_completion_tokens"
    assert second.get(renamed) == (20 if name == "max_tokens" else None)
    kept = {"temperature": 0.5, "seed": 7, "max_tokens": 20}
    kept.pop(name, None)
    assert answer.sent == kept | ({renamed: 20} if name == "max_tokens" else {})


def test_server_that_refuses_all_optional_parameters_is_answered_in_turn() -> None:
    def refuse(request: dict[str, Any]) -> tuple[int, Any] | None:
        for name in ("max_tokens", "temperature", "seed", "stream_options", "stream"):
            if name in request:
                return 400, openai(name, f"Unsupported parameter: '{name}'")
        return None

    with serving(pieces, refuse=refuse, always="whole") as server, endpoint(server) as made:
        answer = ask(made)
    assert answer.sent == {"max_completion_tokens": 20}
    assert (answer.tries, len(server.requests)) == (1, 6)


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        (
            openai("max_tokens", "max_tokens is too large: 20. This model supports at most 16 completion tokens"),
            "tokens",
        ),
        (openai("temperature", "Expected a value <= 2 for 'temperature', but got 3 instead."), "read its message"),
        (
            openai("messages", "This model's maximum context length is 8 tokens. You requested 9"),
            "max_prompt_characters",
        ),
        (openai("model", "The model `tiny` does not exist"), "check the model's name 'tiny'"),
        (openai("model", "You exceeded your current quota", "insufficient_quota"), "no quota left"),
    ],
)
def test_refusals_of_values_are_errors_with_the_whole_message_and_the_fitting_remedy(body: Any, remedy: str) -> None:
    body["error"]["message"] += " " + "x" * 300 + " the end"
    with (
        serving(pieces, refuse=lambda _: (400, body)) as server,
        endpoint(server) as made,
        pytest.raises(ModelError) as caught,
    ):
        ask(made)
    assert len(server.requests) == 1
    assert body["error"]["message"] in caught.value.message
    assert remedy in str(caught.value.remedy)


def test_quota_that_is_spent_is_not_waited_for() -> None:
    body = openai("", "You exceeded your current quota", "insufficient_quota")
    with (
        serving(pieces, refuse=lambda _: (429, body)) as server,
        endpoint(server, retries=5) as made,
        pytest.raises(ModelError, match="exceeded your current quota"),
    ):
        ask(made)
    assert len(server.requests) == 1


def test_a_wait_that_the_server_asks_for_is_no_failed_try() -> None:
    with serving(pieces, fails=["429", "503", "429"], headers={"Retry-After": "0.1"}) as server:
        began = time.monotonic()
        with endpoint(server) as made:
            assert ask(made).tries == 1
        assert time.monotonic() - began >= 0.3
    assert len(server.requests) == 4


def test_a_wait_beyond_the_patience_is_an_error_at_once() -> None:
    with serving(pieces, always="429", headers={"Retry-After": "3600"}) as server, endpoint(server) as made:
        with pytest.raises(ModelError, match="it asks to wait 3600 s") as caught:
            ask(made)
        assert "600 s" in str(caught.value.remedy)
        server.headers = {"Retry-After": "0.1"}
        made.patience_s = 0.25
        with pytest.raises(ModelError, match=r"it asks to wait 0\.1 s"):
            ask(made)
    assert len(server.requests) == 1 + 3


class Stopped:
    """A stop signal that is set."""

    reason = "SIGINT"

    def __bool__(self) -> bool:
        return True


def test_a_stop_signal_ends_a_wait() -> None:
    with serving(pieces, always="429", headers={"Retry-After": "300"}) as server, endpoint(server) as made:
        made.stop = Stopped()
        with pytest.raises(StageInterrupted, match="let a call wait"):
            ask(made)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Mon, 30 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 30 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, float("inf")),
        ({}, None),
    ],
)
def test_wait_is_read_from_seconds_and_dates(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, datetime(2026, 11, 30, 12, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"detail": "no"}', "no"),
        (b'{"object": "error", "message": "no\\n\\u001b[31m"}', "no [31m"),
        (b"<html>no</html>", "<html>no</html>"),
        (b"[" * 5000, "[" * 5000),
        (b"\xff", "\ufffd"),
    ],
)
def test_message_is_found_in_the_bodies_of_servers(body: bytes, message: str) -> None:
    assert message_of(body) == message


def test_further_parameters_and_headers_are_sent_and_secrets_stay_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields: dict[str, Any] = {
        "extra_body": {"reasoning_effort": "low", "top_p": 0.9},
        "headers": {"HTTP-Referer": "https://example.org"},
        "header_env": {"X-Api-Key": "TINY_SECRET"},
    }
    with serving(pieces) as server:
        with pytest.raises(ModelError, match=r"TINY_SECRET, which holds the header X-Api-Key .* is not set"):
            endpoint(server, **fields)
        monkeypatch.setenv("TINY_SECRET", "s3cret")
        with endpoint(server, **fields) as made:
            answer = ask(made)
            server.refuse = lambda _: (401, {"error": {"message": "Incorrect key: s3cret"}})
            with pytest.raises(ModelError) as caught:
                ask(made)
    assert "s3cret" not in str(caught.value)
    assert "Incorrect key: [key]" in str(caught.value)
    assert (server.requests[0]["reasoning_effort"], server.requests[0]["top_p"]) == ("low", 0.9)
    assert (answer.sent["reasoning_effort"], answer.sent["max_tokens"]) == ("low", 20)
    assert server.got_headers[0]["x-api-key"] == "s3cret"
    assert server.got_headers[0]["http-referer"] == "https://example.org"
    assert "s3cret" not in made.spec.model_dump_json()


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"Authorization": "Bearer sk-1"}},
        {"headers": {"X-Api-Key": "1"}},
        {"headers": {"Cookie": "1"}},
        {"headers": {"X": "a\nb"}},
        {"headers": {"a b": "c"}},
        {"headers": {"Host": "other"}},
        {"header_env": {"X-Api-Key": "not a name"}},
        {"extra_body": {"temperature": 1}},
        {"extra_body": {"messages": []}},
        {"extra_body": {"api_key": "sk-1"}},
    ],
)
def test_secrets_and_own_parameters_are_refused_in_the_spec(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EndpointModel.model_validate({"url": "http://h/v1", "model": "m", **fields})


def test_new_fields_are_absent_from_graphs_at_their_defaults() -> None:
    dumped = EndpointModel(url="http://h/v1", model="m").model_dump()
    assert not {"extra_body", "headers", "header_env"} & dumped.keys()


def thinks(kind: str, content: str | None) -> Any:
    """Chunks of a server that sends its reasoning apart, and a text or none."""

    def chunks(_server: ChatServer) -> Any:
        for _ in range(3):
            delta = {"content": None, kind: "hmm "}
            yield f"data: {json.dumps({'choices': [{'delta': delta, 'finish_reason': None}]})}\n\n".encode()
        if content:
            yield f"data: {json.dumps({'choices': [{'delta': {'content': content}}]})}\n\n".encode()
        reason = "stop" if content else "length"
        yield f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': reason}]})}\n\n".encode()
        usage = {"prompt_tokens": 11, "completion_tokens": 24}
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode()

    return chunks


@pytest.mark.parametrize("kind", ["reasoning_content", "reasoning"])
def test_reasoning_apart_from_the_text_is_kept_apart(kind: str) -> None:
    with serving(pieces, keeps=True, chunks=thinks(kind, "[[1]]")) as server, endpoint(server) as made:
        answer = ask(made)
    assert (answer.text, answer.reasoning_content, answer.finish_reason) == ("[[1]]", "hmm hmm hmm ", "stop")


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": None, "reasoning_content": "hm"}, "", "hm"),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": "[[1]]"}]},
            "[[1]]",
            "hm",
        ),
        ({"content": None, "refusal": "I can't"}, "I can't", None),
    ],
)
def test_answers_in_one_piece_hold_text_reasoning_or_a_refusal(message: Any, text: str, reasoning: str | None) -> None:
    body = {"choices": [{"message": message, "finish_reason": "length"}], "usage": {}}
    with serving(pieces, refuse=lambda _: (200, body)) as server, endpoint(server) as made:
        answer = ask(made)
    assert (answer.text, answer.reasoning_content, answer.finish_reason) == (text, reasoning, "length")


def test_answer_that_is_all_reasoning_is_recorded_and_named(tmp_path: Path) -> None:
    with serving(pieces, keeps=True, chunks=thinks("reasoning_content", None)) as server:
        made = Place(tmp_path / "place", with_llama=False)
        made.write_alone(max_prompt_tokens=400, max_attempts=1, reason={"max_new_tokens": 24})
        model = {"kind": "endpoint", "url": server.url, "model": "tiny", "retries": 0}
        made.node = made.node.model_copy(update={"models": {"llama": model}, "facts": {}})
        made.solve()
    first = made.ledger.read(AttemptRecord, run_id=RUN)[0]
    why = "the answer is empty: 24 tokens of 24 went into reasoning (finish_reason length); raise max_new_tokens"
    assert first.reading is not None
    assert (first.text, first.reading["note"], first.reading["cut"]) == ("", why, True)
    assert why in first.feedback
    assert first.geometry["reason"]["sent"] == {"max_tokens": 24, "temperature": 0.0, "seed": first.plan["seed"]}
    call = made.ledger.read(LlmCallRecord, run_id=RUN)[0]
    assert (call.finish_reason, call.reasoning_content, call.new_tokens) == ("length", "hmm hmm hmm ", 24)
    assert replay(made.workspace, first.attempt_id).equal
