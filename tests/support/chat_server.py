"""A small server of OpenAI's chat protocol on loopback, around a real model or a script, that can fail in every way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any]], list[str]]
"""The pieces of text that answer a request."""


@dataclass
class ChatServer:
    """What it answers, how it fails, and the requests it got."""

    answer: Answer
    fails: list[str] = field(default_factory=list)
    """How the next requests go wrong, one a request; 'no' for one that goes right."""
    always: str = "no"
    """How those after go."""
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

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append(body | {"path": self.path})
                server.keys.append(self.headers["Authorization"])
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
        _send(handler, int(how), b'{"error": {"message": "the queue is full"}}', "application/json")
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


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
