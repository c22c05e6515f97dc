"""A small server of OpenAI's chat protocol on loopback, around a real model or a script, that can fail in every way.

It speaks HTTP/1.0, where the end of the connection ends an answer; with `keeps` HTTP/1.1, whose answers come in chunks
over connections that stay.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], list[str]]
"""The pieces of text that answer a request."""
Chunks = Callable[["ChatServer"], Iterable[bytes]]
"""The chunks of a body, sent as they are yielded; ConnectionAbortedError cuts the connection."""


@dataclass
class ChatServer:
    """What it answers, how it fails, and the requests it got."""

    answer: Answer
    fails: list[str] = field(default_factory=list)
    """How the next requests go wrong, one a request; 'no' for one that goes right."""
    always: str = "no"
    """How those after go."""
    keeps: bool = False
    """Speak HTTP/1.1 and keep connections."""
    idle_s: float | None = None
    """Seconds without a request after which a connection is closed."""
    chunks: Chunks | None = None
    """Bodies of answers in place of events made of `answer`; with `keeps` alone."""
    kind: str = "text/event-stream"
    """Their Content-Type."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of refusals."""
    refuse: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda request: None
    """The status and the JSON value that refuse a request; None to answer it."""
    got_headers: list[dict[str, str]] = field(default_factory=list)
    """Headers of the requests, names in lower case."""
    num_connections: int = 0
    num_closed: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)

    def next_failure(self) -> str:
        """Return how this request goes wrong."""
        with self.lock:
            return self.fails.pop(0) if self.fails else self.always


@contextmanager
def serving(answer: Answer, **options: Any) -> Iterator[ChatServer]:
    """Serve until the block ends."""
    server = ChatServer(answer, **options)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

        timeout = server.idle_s
        protocol_version = "HTTP/1.1" if server.keeps else "HTTP/1.0"

        def setup(self) -> None:
            super().setup()
            with server.lock:
                server.num_connections += 1

        def finish(self) -> None:
            super().finish()
            with server.lock:
                server.num_closed += 1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append(body | {"path": self.path})
                server.keys.append(self.headers["Authorization"])
                server.got_headers.append({name.lower(): value for name, value in self.headers.items()})
            _respond(server, self, body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            http.shutdown()
            thread.join()


def _respond(server: ChatServer, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    how = server.next_failure()
    if how == "silence":
        server.released.wait(30)
        return
    if how.isdigit():
        body_of_refusal = b'{"error": {"message": "the queue is full"}}'
        _send(handler, int(how), body_of_refusal, "application/json", server.headers)
        return
    refusal = server.refuse(body)
    if refusal is not None:
        content = refusal[1] if isinstance(refusal[1], bytes) else json.dumps(refusal[1]).encode()
        _send(handler, refusal[0], content, "application/json", server.headers)
        return
    if server.chunks is not None:
        _send_chunks(handler, server.chunks(server), server.kind)
        return
    pieces = server.answer(body)
    usage = {"prompt_tokens": 11, "completion_tokens": len(pieces)}
    if how == "whole":
        message = {"choices": [{"message": {"content": "".join(pieces)}, "finish_reason": "stop"}], "usage": usage}
        _send(handler, 200, json.dumps(message).encode(), "application/json")
        return
    if how == "html":
        _send(handler, 200, b"<html>It works!</html>", "text/html")
        return
    if server.keeps:
        _send_chunks(handler, events(pieces, usage), "text/event-stream")
        return
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.end_headers()
    for number, piece in enumerate(pieces):
        if how == "dies" and number == len(pieces) // 2:
            return
        if how == "garbled" and number == len(pieces) // 2:
            _event(handler, '{"choices": [{"delta"')
            return
        _event(handler, json.dumps({"choices": [{"delta": {"content": piece}, "finish_reason": None}]}))
    _event(handler, json.dumps({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    if how != "uncounted":
        _event(handler, json.dumps({"choices": [], "usage": usage}))
    _event(handler, "[DONE]")


def _event(handler: BaseHTTPRequestHandler, data: str) -> None:
    handler.wfile.write(f"data: {data}\n\n".encode())


def events(pieces: list[str], usage: dict[str, int] | None = None) -> Iterator[bytes]:
    """Yield the events of an answer; text is not escaped."""
    for piece in pieces:
        choice = {"delta": {"content": piece}, "finish_reason": None}
        yield f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()
    yield b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    if usage is not None:
        yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _send_chunks(handler: BaseHTTPRequestHandler, chunks: Iterable[bytes], kind: str) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", kind)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        for chunk in chunks:
            handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")
    except ConnectionError:  # cut on purpose, or the client has left
        handler.close_connection = True


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
