"""Client of OpenAI's chat protocol over httpx: one streamed answer per call, one error message per kind of failure.

Retried: no connection, time-out, a truncated or invalid answer, the statuses of `RETRY_STATUSES`. A wait that the
server asks for (`Retry-After`) is no failed try, and limited by `patience_s`. Not retried: other statuses, which mean
that the request is wrong; a parameter that the server does not take is left out or renamed, and what was sent is
returned. The text of the model is not parsed here.

httpx (0.27 s to import) is imported when an endpoint is created, so that solving with local weights does without it.
"""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridloom.errors import ModelError, StageInterrupted
from gridloom.progress import StopSignal
from gridloom.runtime.models.language.spec import EndpointModel
from gridloom.solvers.parts.endpoint_answers import (
    MAX_ERROR_BYTES,
    Parts,
    RetryableError,
    add_whole,
    completion_object,
    excerpt,
    keep_start,
)
from gridloom.solvers.parts.endpoint_client import make_headers, open_client, reason_of
from gridloom.solvers.parts.endpoint_refusals import (
    QUOTA,
    RENAMED,
    message_of,
    refused_parameter,
    remedy_for,
    retry_after_s,
)
from gridloom.solvers.parts.server_sent_events import OverlongEvent, event_data

if TYPE_CHECKING:
    import httpx

MAX_TOKEN_CHARACTERS = 64
"""Limit of characters of an answer per token of `max_new_tokens`; the rest is cut off."""
RETRY_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses of failures that may be temporary."""
END_S = 1.0
"""Seconds that a body may continue after the event that ends the answer, before its connection is closed."""


@dataclass(frozen=True, slots=True)
class Completion:
    """Answer of the server to one call, with token counts and duration."""

    text: str
    prompt_tokens: int
    """Number of prompt tokens by the server's count; 0 without a count."""
    new_tokens: int
    """Number of generated tokens by the server's count; without a count the pieces of text, of at least one token."""
    seconds: float
    """Time from the request to the end of the answer in the successful try, s."""
    tries: int
    sent: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the request, without model, messages and stream."""
    finish_reason: str | None = None
    """Server's reason for the end of the text; `length` also where the text was cut off here."""
    reasoning_content: str | None = None
    """Reasoning that the server returned apart from the text."""


class _RefusedParameter(Exception):
    """Refusal of one optional parameter, with its name."""


class Endpoint:
    """Server and model. Threads may share an endpoint: calls take connections from one pool.

    The pool is closed by `close`, at the end of a `with` block, or with the last reference to the endpoint.
    """

    def __init__(self, spec: EndpointModel, *, pause_s: float = 1.0) -> None:
        """Read the key and open the pool; nothing is sent.

        Args:
            pause_s: pause before the second try, s; doubled before each further try.

        Raises:
            ModelError: the key's environment variable is not set or holds characters invalid in a header, the url has
                no valid host or port, or the environment names a proxy that cannot be used.
        """
        self.spec = spec
        self._pause_s = pause_s
        self._address = spec.url.rstrip("/") + "/chat/completions"
        self._bodies_end = True
        self.patience_s = spec.answer_s
        """Seconds that one call waits in all because the server asks for it."""
        self.stop: StopSignal | None = None
        """Signal that ends a wait."""
        self._left_out: set[str] = set()
        headers = make_headers(spec)
        names = {name.lower() for name in spec.header_env} | {"authorization"}
        self._secrets = [v.removeprefix("Bearer ") for k, v in headers.items() if k.lower() in names]
        self._client = open_client(spec, headers)
        self._closer = weakref.finalize(self, self._client.close)

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pool's connections; later calls are errors."""
        self._closer()

    def complete(self, prompt: str, *, max_new_tokens: int, temperature: float, seed: int) -> Completion:
        """Request one answer.

        Raises:
            ModelError: the server failed or refuses, with its message and the remedy.
            StageInterrupted: the stop signal was set while the server let the call wait.
        """
        tries, waited_s = 0, 0.0
        while True:
            sent = self._parameters(max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
            tries += 1
            try:
                return self._once(prompt, sent, max_new_tokens, tries)
            except _RefusedParameter as refused:
                self._left_out.add(str(refused))  # at most once for each of the optional parameters
                tries -= 1
            except RetryableError as error:
                if error.after_s is not None:
                    if waited_s + error.after_s > self.patience_s:
                        raise ModelError(
                            f"{self.spec.url}: {error}; it asks to wait {error.after_s:g} s",
                            f"that is beyond the {self.patience_s:g} s that a call may wait (solver.budget.seconds, or "
                            "answer_s of the model): set more, or run again later",
                        ) from None
                    self._wait(max(error.after_s, self._pause_s))
                    waited_s += max(error.after_s, self._pause_s)
                    tries -= 1
                elif tries > self.spec.retries:
                    raise ModelError(
                        f"{self.spec.url}: {error} ({tries} {'tries' if tries > 1 else 'try'})",
                        "check that the server runs, and its log; then run again: the run resumes at the node where it "
                        "stopped",
                    ) from None
                else:
                    self._wait(self._pause_s * 2 ** (tries - 1))

    def _parameters(self, **values: Any) -> dict[str, Any]:
        """Return the parameters of a request under the names that the server takes, without those it refused."""
        wanted = {
            "max_tokens": values["max_new_tokens"],
            "temperature": values["temperature"],
            "seed": values["seed"],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if "stream" in self._left_out:
            del wanted["stream_options"]
        named = {RENAMED.get(name, name) if name in self._left_out else name: wanted[name] for name in wanted}
        return {name: value for name, value in named.items() if name not in self._left_out} | dict(self.spec.extra_body)

    def _wait(self, seconds: float) -> None:
        """Wait, in steps between which the stop signal is looked at."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self.stop:
                raise StageInterrupted(
                    f"stopped ({self.stop.reason}) while {self.spec.url} let a call wait; every node is saved",
                    "run the same command again: the run resumes at the node where it stopped",
                )
            time.sleep(min(left, 0.1))

    def _once(self, prompt: str, sent: Mapping[str, Any], max_new_tokens: int, number: int) -> Completion:
        import httpx

        message = {"model": self.spec.model, "messages": [{"role": "user", "content": prompt}]}
        body = json.dumps({**message, **sent}).encode()
        began = time.monotonic()
        parts = Parts()
        try:
            with self._client.stream("POST", self._address, content=body) as response:
                chunks = self._chunks(response, parts, began)
                if response.status_code != httpx.codes.OK:
                    self._refused(response, chunks, sent)
                if "json" in response.headers.get("Content-Type", "").partition(";")[0].lower():
                    usage = add_whole(b"".join(chunks), parts)
                    seconds = time.monotonic() - began
                else:
                    usage = self._streamed(chunks, parts, max_new_tokens)
                    seconds = time.monotonic() - began
                    if len(parts) <= max_new_tokens:
                        self._read_to_the_end(chunks)
        except httpx.TimeoutException as error:
            raise RetryableError(f"sent nothing for {self.spec.timeout_s:g} s") from error
        except httpx.RequestError as error:
            raise RetryableError(f"no answer: {reason_of(error)}") from error
        most = MAX_TOKEN_CHARACTERS * max_new_tokens
        whole = "".join(parts.text[:max_new_tokens])
        reasoning = "".join(parts.reasoning)[:most]
        counted = usage.get("completion_tokens")
        pieces = min(len(parts), max_new_tokens)
        is_cut = len(parts) > max_new_tokens or len(whole) > most
        return Completion(
            text=whole[:most],
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            new_tokens=min(int(counted), max_new_tokens) if isinstance(counted, int) else pieces,
            seconds=seconds,
            tries=number,
            sent={name: value for name, value in sent.items() if not name.startswith("stream")},
            finish_reason="length" if is_cut else parts.finish_reason,
            reasoning_content=reasoning or None,
        )

    def _chunks(self, response: httpx.Response, parts: Parts, began: float) -> Iterator[bytes]:
        """Yield the chunks of the body. Raises RetryableError after `answer_s` seconds."""
        for chunk in response.iter_bytes():
            if time.monotonic() - began > self.spec.answer_s:
                raise RetryableError(
                    f"the answer was not complete after {self.spec.answer_s:g} s ({len(parts)} pieces of text)"
                )
            yield chunk

    def _refused(self, response: httpx.Response, chunks: Iterator[bytes], sent: Mapping[str, Any]) -> None:
        """Raise the error of a status other than 200.

        Raises:
            _RefusedParameter: an optional parameter of `sent` is not taken.
            RetryableError: a status of RETRY_STATUSES, with the wait that the server asks for.
            ModelError: any other status.
        """
        body = b""
        for chunk in chunks:
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
        body = body[:MAX_ERROR_BYTES]
        status = response.status_code
        parameter = refused_parameter(
            status, body, {name: sent[name] for name in sent if name not in self.spec.extra_body}
        )
        if parameter is not None:
            raise _RefusedParameter(parameter)
        message = message_of(body)
        for secret in self._secrets:  # some servers quote the key that they refuse
            message = message.replace(secret, "[key]") if secret else message
        failure = f"answered {status} {response.reason_phrase}: {message!r}"
        if status in RETRY_STATUSES and not QUOTA.search(body.decode("utf-8", errors="replace")):
            error = RetryableError(failure)
            error.after_s = retry_after_s(response.headers)
            raise error
        remedy = remedy_for(status, message + body.decode("utf-8", errors="replace"), self.spec)
        if response.has_redirect_location:
            target = excerpt(response.headers["Location"].partition("?")[0].encode())
            remedy = f"prompt and key are not sent on to {target}; if that is the server, set url to its address"
        raise ModelError(f"{self.spec.url}: {failure}", remedy)

    def _streamed(self, chunks: Iterator[bytes], parts: Parts, max_new_tokens: int) -> Mapping[str, Any]:
        """Append the text of events to `parts`, up to the answer's end or one piece above the limit; return the usage.

        Raises:
            RetryableError: the answer is truncated, or no valid chat completion.
        """
        import httpx

        start = bytearray()
        usage: Mapping[str, Any] = {}
        finished = False
        num_events = 0
        try:
            for data in event_data(keep_start(chunks, start)):
                num_events += 1
                if data.strip() == "[DONE]":
                    return usage
                event = completion_object(data)
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    parts.add(choice.get("delta") or {})
                    if choice.get("finish_reason") is not None:
                        finished = True
                        parts.finish_reason = str(choice["finish_reason"])
                if len(parts) > max_new_tokens:  # the server ignores the limit
                    return usage
        except OverlongEvent as error:
            raise RetryableError(f"the answer is not JSON: {excerpt(error.start)}") from None
        except httpx.TimeoutException:
            raise
        except httpx.RequestError as error:
            raise RetryableError(
                f"the answer broke off after {len(parts)} pieces of text: {reason_of(error)}"
            ) from error
        if not num_events and start.strip():
            raise RetryableError(f"the answer is not JSON: {excerpt(bytes(start))}")
        if not finished:
            raise RetryableError(f"the answer broke off after {len(parts)} pieces of text")
        return usage

    def _read_to_the_end(self, chunks: Iterator[bytes]) -> None:
        """Read the end of the body after the answer, since the pool keeps only connections whose body was read.

        httpx cannot shorten a time-out within a response, so a server that leaves bodies open costs one call
        `timeout_s`; after that call, connections are closed after each answer.
        """
        import httpx

        if not self._bodies_end:
            return
        until = time.monotonic() + END_S
        try:
            for _ in chunks:
                if time.monotonic() > until:
                    self._bodies_end = False
                    return
        except httpx.TimeoutException:
            self._bodies_end = False
        except (httpx.RequestError, RetryableError):
            pass  # the answer is complete; only its connection is lost
