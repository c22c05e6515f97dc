"""A client of OpenAI's chat protocol: one streamed answer a call, every way of failing told as one clear error.

Tried again: no connection, silence, an answer that breaks off, what is no answer, status 429 and 5xx. Not tried again:
other statuses, which mean that the request is wrong. What the model writes is not judged here.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gridloom.errors import ModelError
from gridloom.runtime.models.language.spec import EndpointModel

MAX_TOKEN_CHARACTERS = 64
"""An answer is cut off beyond so many characters for each token it was allowed."""
MAX_LINE_BYTES = 1 << 20
"""A longer line is no event of the protocol."""
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses that may pass."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the server answered."""

    text: str
    prompt_tokens: int
    """As the server counts them; 0 where it does not tell."""
    new_tokens: int
    """As the server counts them; else pieces of text, each a token or more."""
    seconds: float
    tries: int


class _Failed(Exception):
    """A try that may go better the next time."""


class Endpoint:
    """One server and model. Threads may share it: every call has a connection of its own."""

    def __init__(self, spec: EndpointModel, *, pause_s: float = 1.0) -> None:
        """Read the key. Raises ModelError where its environment variable is not set.

        Args:
            pause_s: before the second try; doubled before each further one.
        """
        self.spec = spec
        self._pause_s = pause_s
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if spec.api_key_env is not None:
            key = os.environ.get(spec.api_key_env, "")
            if not key:
                raise ModelError(
                    f"the environment variable {spec.api_key_env}, which holds the key for {spec.url}, is not set",
                    f"export {spec.api_key_env}=...   or remove api_key_env from the model",
                )
            self._headers["Authorization"] = f"Bearer {key}"

    def complete(self, prompt: str, *, max_new_tokens: int, temperature: float, seed: int) -> Completion:
        """Ask for one answer. Raises ModelError naming the server, what went wrong, and what to do."""
        body = json.dumps({
            "model": self.spec.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_new_tokens,
            "temperature": temperature, "seed": seed, "stream": True, "stream_options": {"include_usage": True},
        }).encode()  # fmt: skip
        said = ""
        for number in range(self.spec.retries + 1):
            if number:
                time.sleep(self._pause_s * 2 ** (number - 1))
            try:
                return self._once(body, max_new_tokens, number + 1)
            except _Failed as failed:
                said = str(failed)
        tries = self.spec.retries + 1
        raise ModelError(
            f"{self.spec.url}: {said} ({tries} {'tries' if tries > 1 else 'try'})",
            "see whether the server runs and what it says; then run again: it goes on at the node where it was",
        )

    def _once(self, body: bytes, max_new_tokens: int, number: int) -> Completion:
        began = time.monotonic()
        connection = self._connection()
        try:
            path = urlsplit(self.spec.url).path.rstrip("/") + "/chat/completions"
            connection.request("POST", path, body, self._headers)
            response = connection.getresponse()
            if response.status != http.client.OK:
                self._refused(response)
            if "json" in response.headers.get_content_subtype():
                content, usage = _whole(response.read())
                pieces = 1
            else:
                content, usage, pieces = self._streamed(response, max_new_tokens, began)
        except TimeoutError as error:
            raise _Failed(f"said nothing for {self.spec.timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Failed(f"no answer: {_told(error)}") from error
        finally:
            connection.close()
        text = content[: MAX_TOKEN_CHARACTERS * max_new_tokens]
        counted = usage.get("completion_tokens")
        return Completion(
            text=text,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            new_tokens=min(int(counted), max_new_tokens) if isinstance(counted, int) else (pieces if text else 0),
            seconds=time.monotonic() - began,
            tries=number,
        )

    def _connection(self) -> http.client.HTTPConnection:
        where = urlsplit(self.spec.url)
        assert where.hostname is not None, "the spec's pattern wants a host"
        if where.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                where.hostname, where.port, timeout=self.spec.timeout_s, context=context
            )
        return http.client.HTTPConnection(where.hostname, where.port, timeout=self.spec.timeout_s)

    def _refused(self, response: http.client.HTTPResponse) -> None:
        said = f"answered {response.status} {response.reason}: {_excerpt(response.read(4096))}"
        if response.status in AGAIN:
            raise _Failed(said)
        remedies = {
            400: f"see the model's name '{self.spec.model}'; else the request is one that it does not take: a shorter "
                 "prompt (max_prompt_characters), or fewer tokens",
            401: f"see the key in ${self.spec.api_key_env}" if self.spec.api_key_env else "name its api_key_env",
            403: f"see the key in ${self.spec.api_key_env}" if self.spec.api_key_env else "name its api_key_env",
            404: f"see the url, which should end where the protocol begins, and the model's name '{self.spec.model}'",
        }
        raise ModelError(f"{self.spec.url}: {said}", remedies.get(response.status, "see what the server says"))

    def _streamed(
        self, response: http.client.HTTPResponse, max_new_tokens: int, began: float
    ) -> tuple[str, Mapping[str, Any], int]:
        """Read events up to the end of the answer, or to as many pieces as tokens were allowed."""
        parts: list[str] = []
        usage: Mapping[str, Any] = {}
        finished = False
        for event in self._events(response, parts):
            if time.monotonic() - began > self.spec.answer_s:
                raise _Failed(f"was not done after {self.spec.answer_s:g} s ({len(parts)} pieces of text)")
            if event is None:
                finished = True
                break
            usage = event.get("usage") or usage
            for choice in event.get("choices") or ():
                piece = (choice.get("delta") or {}).get("content")
                parts += [piece] if piece else []
                finished = finished or choice.get("finish_reason") is not None
            if len(parts) > max_new_tokens:  # a server that knows no limit
                parts.pop()
                finished = True
                break
        if not finished:
            raise _Failed(f"the answer broke off after {len(parts)} pieces of text")
        return "".join(parts), usage, len(parts)

    def _events(self, response: http.client.HTTPResponse, parts: list[str]) -> Iterator[dict[str, Any] | None]:
        """Yield what the `data:` lines hold; None for the end."""
        while True:
            try:
                line = response.readline(MAX_LINE_BYTES)
            except TimeoutError:
                raise
            except (OSError, http.client.HTTPException) as error:
                raise _Failed(f"the answer broke off after {len(parts)} pieces of text: {_told(error)}") from error
            if not line:
                return
            text = line.decode("utf-8", errors="replace").strip()
            if not text or text.startswith((":", "event:", "id:", "retry:")):
                continue
            data = text.removeprefix("data:").strip()
            if data == "[DONE]":
                yield None
                return
            yield _object(data)


def _whole(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """Read an answer that came in one piece, from a server that does not stream."""
    found = _object(body.decode("utf-8", errors="replace"))
    try:
        content = found["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise _Failed(f"answered what is no chat completion: {_excerpt(body)}") from None
    return str(content or ""), found.get("usage") or {}


def _object(text: str) -> dict[str, Any]:
    """Read a JSON object of the protocol."""
    try:
        found = json.loads(text)
    except ValueError:
        raise _Failed(f"answered what is no JSON: {_excerpt(text.encode())}") from None
    if not isinstance(found, dict) or not isinstance(found.get("choices"), list):
        raise _Failed(f"answered what is no chat completion: {_excerpt(text.encode())}")
    if any(not isinstance(choice, dict) for choice in found["choices"]):
        raise _Failed(f"answered what is no chat completion: {_excerpt(text.encode())}")
    return found


def _excerpt(body: bytes) -> str:
    text = " ".join(body.decode("utf-8", errors="replace").split())
    return repr(text if len(text) <= 120 else text[:117] + "...")


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
