"""Answers of OpenAI's chat protocol: pieces of text and of reasoning, from events or in one piece."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_ERROR_BYTES = 16_384
"""Bytes read of the body of an error status."""


class RetryableError(Exception):
    """Failure of one try that a further try may not repeat."""

    after_s: float | None = None
    """Seconds that the server asks to wait; None without a wish."""


@dataclass(slots=True)
class Parts:
    """Pieces of an answer as they arrive."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    finish_reason: str | None = None

    def __len__(self) -> int:
        return len(self.text) + len(self.reasoning)

    def add(self, message: Mapping[str, Any]) -> None:
        """Add the message, or part of one, of a choice."""
        text, reasoning = _texts(message.get("content"))
        reasoning += str(message.get("reasoning_content") or message.get("reasoning") or "")
        text = text or str(message.get("refusal") or "")
        self.text += [text] if text else []
        self.reasoning += [reasoning] if reasoning else []


def keep_start(chunks: Iterable[bytes], start: bytearray) -> Iterator[bytes]:
    """Yield the chunks, and copy the first MAX_ERROR_BYTES bytes to `start`."""
    for chunk in chunks:
        start += chunk[: MAX_ERROR_BYTES - len(start)]
        yield chunk


def add_whole(body: bytes, parts: Parts) -> Mapping[str, Any]:
    """Add the answer in one piece of a server that does not stream to the parts, and return its usage."""
    found = completion_object(body.decode("utf-8", errors="replace"))
    try:
        choice = found["choices"][0]
        message = choice["message"]
        if "content" not in message and not {"reasoning_content", "reasoning", "refusal"} & set(message):
            raise KeyError("content")
        parts.add(message)
        reason = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise RetryableError(f"the answer is not a chat completion: {excerpt(body)}") from None
    parts.finish_reason = None if reason is None else str(reason)
    return found.get("usage") or {}


def _texts(content: Any) -> tuple[str, str]:
    """Return text and reasoning of a message's content: text, or a list of typed parts as some servers send it."""
    if not isinstance(content, list):
        return str(content or ""), ""
    text, reasoning = "", ""
    for part in content:
        if isinstance(part, str):
            text += part
        elif isinstance(part, dict) and part.get("type") == "thinking":
            reasoning += _texts(part.get("thinking"))[0]
        elif isinstance(part, dict):
            text += str(part.get("text") or "")
    return text, reasoning


def completion_object(text: str) -> dict[str, Any]:
    """Return the chat completion in a JSON text. Raises RetryableError when the text holds none."""
    try:
        found = json.loads(text)
    except ValueError:
        raise RetryableError(f"the answer is not JSON: {excerpt(text.encode())}") from None
    if not isinstance(found, dict) or not isinstance(found.get("choices"), list):
        raise RetryableError(f"the answer is not a chat completion: {excerpt(text.encode())}")
    if any(not isinstance(choice, dict) for choice in found["choices"]):
        raise RetryableError(f"the answer is not a chat completion: {excerpt(text.encode())}")
    return found


def excerpt(body: bytes) -> str:
    text = " ".join(body.decode("utf-8", errors="replace").split())
    return repr(text if len(text) <= 120 else text[:117] + "...")
