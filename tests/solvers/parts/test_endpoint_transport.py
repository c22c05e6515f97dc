"""The endpoint's transport against a server on loopback: event streams however they are cut, pool, proxies."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from chat_server import ChatServer, events, serving

from gridloom.errors import ModelError
from gridloom.runtime.models.language.spec import EndpointModel
from gridloom.solvers.parts import endpoint as module
from gridloom.solvers.parts import endpoint_client
from gridloom.solvers.parts.endpoint import Completion, Endpoint

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
TEXT = ["1 2", "\n", "é日本", " 🙂\u2028\u0085\x0c "]
"""Characters of one to four bytes, and ends of lines that are none in an event stream."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without proxies."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def endpoint(url: str, **fields: Any) -> Endpoint:
    spec = {"url": url, "model": "tiny", "timeout_s": 5.0, "retries": 1} | fields
    return Endpoint(EndpointModel.model_validate_json(json.dumps(spec)), pause_s=0.01)


def call(made: Endpoint, prompt: str = "Which grid?") -> Completion:
    return made.complete(prompt, max_new_tokens=20, temperature=0.5, seed=7)


def ask(server: ChatServer, **fields: Any) -> Completion:
    with endpoint(server.url, **fields) as made:
        return call(made)


def pieces(_request: dict[str, Any]) -> list[str]:
    return TEXT


def wait_until_closed(server: ChatServer, number: int) -> None:
    until = time.monotonic() + 10
    while server.num_closed < number:
        assert time.monotonic() < until, f"{server.num_closed} of {number} connections are closed"
        time.sleep(0.01)


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_event_streams_are_read_however_chunks_cut_them(line_end: bytes, size: int) -> None:
    first, *others = events(TEXT, {"completion_tokens": 9})
    body = b"\xef\xbb\xbf" + first + b": hello\n\nretry: 10\nid: 1\nevent: message\n\n" + b"".join(others)
    body = body.replace(b'{"choices": [{"delta": {"content": "1', b'{"choices":\ndata:  [{"delta": {"content": "1')
    assert body.count(b"\ndata:  [") == 1, "one event's data take two lines"
    body = body.replace(b"\n", line_end)
    with serving(pieces, keeps=True, chunks=lambda _: cut(body, size)) as server:
        answer = ask(server)
    assert (answer.text, answer.new_tokens, answer.tries) == ("".join(TEXT), 9, 1)


def test_an_event_that_no_blank_line_ends_is_ignored() -> None:
    *whole, _done = events(TEXT)
    body = b"".join(whole) + b'data: {"choices": [{"delta": {"content": "more"}}]}\n'
    with serving(pieces, keeps=True, chunks=lambda _: [body]) as server:
        assert ask(server).text == "".join(TEXT)


@pytest.mark.parametrize("start", [b"data: ", b"data: 1\ndata: 2\ndata: "])
def test_an_event_without_an_end_is_given_up(start: bytes) -> None:
    def endless(server: ChatServer) -> Iterator[bytes]:
        yield start
        for _ in range(64):
            yield b"x" * (1 << 16)
        raise AssertionError("the client reads on")

    with serving(pieces, keeps=True, chunks=endless) as server, pytest.raises(ModelError, match="is not JSON: '"):
        ask(server, retries=0)


def test_many_short_lines_of_one_event_are_given_up() -> None:
    with (
        serving(pieces, keeps=True, chunks=lambda _: [b"data: 1\n" * 1000] * 200 + [b"\n"]) as server,
        pytest.raises(ModelError, match="is not JSON: '1'"),
    ):
        ask(server, retries=0)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("text/event-stream", b"".join(list(events(TEXT))[:2]), "broke off after 2 pieces of text: peer closed"),
        ("text/event-stream", b'data: {"cho', "the answer broke off after 0 pieces of text: peer closed"),
        ("application/json", b'{"choices": [', "no answer: peer closed connection"),
    ],
)
def test_server_that_closes_within_an_answer_is_tried_again(kind: str, body: bytes, said: str) -> None:
    def chunks(server: ChatServer) -> Iterator[bytes]:
        if len(server.requests) <= 3:
            yield body
            if len(server.requests) == 3:
                server.kind = "text/event-stream"
            raise ConnectionAbortedError
        yield from events(TEXT)

    with serving(pieces, keeps=True, chunks=chunks, kind=kind) as server:
        with pytest.raises(ModelError, match=said) as caught:
            ask(server)
        assert "(2 tries)" in caught.value.message
        answer = ask(server)
    assert (answer.text, answer.tries) == ("".join(TEXT), 2)


@pytest.mark.parametrize(
    ("kind", "drop", "count"),
    [
        ("text/event-stream", b": wait\n\n", 0),
        ("text/event-stream", b"data: ", 0),
        ("application/json", b" ", 0),
        ("text/event-stream", next(events(["7"])), None),
    ],
)
def test_slow_drip_ends_with_the_time_for_one_answer(kind: str, drop: bytes, count: int | None) -> None:
    def drip(server: ChatServer) -> Iterator[bytes]:
        while not server.released.wait(0.05):
            yield drop

    with serving(pieces, keeps=True, chunks=drip, kind=kind) as server:
        began = time.monotonic()
        with pytest.raises(
            ModelError, match=r"was not complete after 0\.3 s \(\d+ pieces of text\) \(1 try\)"
        ) as caught:
            ask(server, answer_s=0.3, retries=0)
        assert time.monotonic() - began < 4
    assert ("(0 pieces" in caught.value.message) is (count == 0)


def test_silence_within_an_answer_is_limited() -> None:
    def stall(server: ChatServer) -> Iterator[bytes]:
        yield from list(events(TEXT))[:2]
        server.released.wait(30)

    with (
        serving(pieces, keeps=True, chunks=stall) as server,
        pytest.raises(ModelError, match=r"sent nothing for 0\.3 s \(2 tries\)"),
    ):
        ask(server, timeout_s=0.3)


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("application/json", b"not json", "is not JSON: 'not json'"),
        ("application/json; charset=utf-8", b"[1, 2]", r"is not a chat completion: '\[1, 2\]'"),
        ("text/event-stream", b"Internal error\n\n", "is not JSON: 'Internal error'"),
        ("text/html; charset=utf-8", b"<p>\xc3\xa9</p>", "is not JSON: '<p>é</p>'"),
        ("text/event-stream", b'data: {"error": "overloaded"}\n\n', "is not a chat completion: .*overloaded"),
        ("text/event-stream", b"", "the answer broke off after 0 pieces of text"),
    ],
)
def test_body_of_another_form_is_quoted(kind: str, body: bytes, said: str) -> None:
    with serving(pieces, keeps=True, chunks=lambda _: cut(body, 1), kind=kind) as server:
        with pytest.raises(ModelError, match=said):
            ask(server)
        assert len(server.requests) == 2


def test_a_server_that_refuses_for_now_is_tried_again() -> None:
    with serving(pieces, keeps=True, fails=["429"]) as server:
        assert ask(server).tries == 2
        server.always = "429"
        with pytest.raises(ModelError, match=r"answered 429 Too Many Requests: .*the queue is full.* \(2 tries\)"):
            ask(server)


@pytest.mark.parametrize("status", ["302", "307"])
def test_redirect_is_not_followed_and_key_and_prompt_stay_here(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", "s3cret")
    with serving(pieces) as other, serving(pieces, always=status) as server:
        server.headers = {"Location": f"{other.url}/chat/completions?token=hidden"}
        with pytest.raises(ModelError, match=f"answered {status}") as caught:
            ask(server, api_key_env="TINY_KEY")
        assert f"not sent on to '{other.url}/chat/completions'; if" in caught.value.remedy
        assert "hidden" not in str(caught.value)
        assert (len(server.requests), other.requests) == (1, [])


@pytest.mark.parametrize("how", ["no", "whole", "503"])
def test_calls_share_a_connection_and_closing_ends_it(how: str) -> None:
    with serving(pieces, keeps=True, fails=[how, "no", how]) as server:
        with endpoint(server.url) as made:
            assert {call(made).text for _ in range(3)} == {"".join(TEXT)}
            assert (server.num_connections, server.num_closed) == (1, 0)
        wait_until_closed(server, 1)


def test_the_last_reference_closes_the_pool() -> None:
    with serving(pieces, keeps=True) as server:
        made = endpoint(server.url)
        call(made)
        del made
        wait_until_closed(server, 1)


def test_an_answer_that_is_cut_off_leaves_no_connection_behind() -> None:
    def endless(server: ChatServer) -> Iterator[bytes]:
        while not server.released.wait(0.001):
            yield next(events(["7 "]))

    with serving(pieces, keeps=True, chunks=endless) as server, endpoint(server.url) as made:
        answer = call(made)
        assert (answer.text, answer.new_tokens) == ("7 " * 20, 20)
        wait_until_closed(server, 1)


def test_a_connection_that_the_server_closed_while_idle_costs_no_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_client, "IDLE_S", 60.0)
    with serving(pieces, keeps=True, idle_s=0.1) as server, endpoint(server.url, retries=0) as made:
        call(made)
        wait_until_closed(server, 1)
        assert call(made).tries == 1
        assert server.num_connections == 2


def test_a_body_that_stays_open_behind_its_answer_is_waited_for_once() -> None:
    def stay_open(server: ChatServer) -> Iterator[bytes]:
        yield from events(TEXT)
        server.released.wait(30)

    with serving(pieces, keeps=True, chunks=stay_open) as server, endpoint(server.url, timeout_s=0.5) as made:
        for _ in range(6):
            began = time.monotonic()
            answer = call(made)
            passed = time.monotonic() - began
            assert (answer.text, answer.tries) == ("".join(TEXT), 1)
            assert answer.seconds < 0.5
        assert passed < 0.5, "the second and later answers are not waited for"
        assert server.num_connections == 6


@pytest.mark.parametrize("after", ["drip", "cut"])
def test_what_follows_the_end_of_an_answer_changes_nothing(after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "END_S", 0.2)

    def chunks(server: ChatServer) -> Iterator[bytes]:
        yield from events(TEXT)
        if after == "cut":
            raise ConnectionAbortedError
        while not server.released.wait(0.02):
            yield b": still here\n\n"

    with serving(pieces, keeps=True, chunks=chunks) as server, endpoint(server.url, retries=0) as made:
        began = time.monotonic()
        assert call(made).text == call(made).text == "".join(TEXT)
        assert time.monotonic() - began < 4


def test_threads_share_an_endpoint_and_each_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_client, "IDLE_S", 60.0)
    together = threading.Barrier(8, timeout=20)

    def echo(request: dict[str, Any]) -> list[str]:
        together.wait()
        return [*request["messages"][0]["content"]]

    prompts = [f"grid {number}" for number in range(24)]
    with serving(echo, keeps=True) as server:
        with endpoint(server.url, retries=0) as made, ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda prompt: call(made, prompt), prompts))
            assert [answer.text for answer in answers] == prompts
            assert server.num_connections == 8, "24 calls, 8 at a time"
        wait_until_closed(server, 8)


def test_a_server_on_this_machine_is_reached_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(pieces) as proxy, serving(pieces) as server:
        for name in ("HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert ask(server).tries == 1
        server.url = server.url.replace("127.0.0.1", "localhost")
        assert ask(server).tries == 1
        assert (len(server.requests), proxy.requests) == (2, [])


def test_a_remote_server_is_reached_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(pieces) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        with endpoint("http://model.invalid/v1") as made:
            assert call(made).tries == 1
        assert [request["path"] for request in proxy.requests] == ["http://model.invalid/v1/chat/completions"]
        monkeypatch.setenv("NO_PROXY", "model.invalid")
        with endpoint("http://model.invalid/v1", retries=0) as made, pytest.raises(ModelError, match="no answer: "):
            call(made)
        assert len(proxy.requests) == 1


@pytest.mark.parametrize("proxy", ["ftp://me:s3cret@host:1", "http://me:s3cret@host:1o", "http://me:s3/cret@host:1"])
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(ModelError, match=r"^https://model\.invalid/v1: a proxy that HTTP_PROXY") as caught:
        endpoint("https://model.invalid/v1")
    assert "s3" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host:port/v1", "http://host:70000/v1", "http://[::g]/v1"])
def test_a_url_without_a_valid_host_or_port_is_refused(url: str) -> None:
    with pytest.raises(ModelError, match=r"Invalid .*\n  set url to where the protocol begins"):
        endpoint(url)


def test_a_key_with_a_line_break_is_refused_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(pieces) as server:
        monkeypatch.setenv("TINY_KEY", " s3cret\r\n")
        ask(server, api_key_env="TINY_KEY")
        assert server.keys == ["Bearer s3cret"], "as a file's last line end"
        for key in ("s3cret\r\nX-Other: 1", "s3crét", "s3cret\x00"):
            monkeypatch.setattr("os.environ", {"TINY_KEY": key})
            with pytest.raises(ModelError, match=r"TINY_KEY, which holds .* no HTTP header can carry") as caught:
                ask(server, api_key_env="TINY_KEY")
            assert "s3cr" not in str(caught.value)
        assert len(server.requests) == 1


def test_importing_the_endpoint_does_without_httpx() -> None:
    code = "import sys, gridloom.solvers.parts.endpoint; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
