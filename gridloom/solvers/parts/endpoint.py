"""Client of OpenAI's chat protocol over httpx: one streamed answer per call, one error message per kind of failure.

Retried: no connection, time-out, a truncated or invalid answer, the statuses of `RETRY_STATUSES`. Not retried: other
statuses, which mean that the request is wrong. The text of the model is not parsed here.

httpx (0.27 s to import) is imported when an endpoint is created, so that solving with local weights does without it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridloom.errors import ModelError
from gridloom.runtime.models.language.spec import EndpointModel
from gridloom.solvers.parts.server_sent_events import OverlongEvent, event_data

if TYPE_CHECKING:
    import httpx

MAX_TOKEN_CHARACTERS = 64
"""Limit of characters of an answer per token of `max_new_tokens`; the rest is cut off."""
MAX_ERROR_BYTES = 4096
"""Bytes read of the body of an error status."""
RETRY_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses of failures that may be temporary."""
IDLE_S = 1.0
"""Seconds that an idle connection is kept for the next call. Servers close idle connections after 2 s (gunicorn) or
5 s (uvicorn), and a request on a closing connection would cost a try."""
END_S = 1.0
"""Seconds that a body may continue after the event that ends the answer, before its connection is closed."""
MAX_PORT = 65_535


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


class _RetryableError(Exception):
    """Failure of one try that a further try may not repeat."""


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
        self._client = _open_client(spec, _headers(spec))
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
        """Request one answer. Raises ModelError with the server, the failure and the remedy."""
        body = json.dumps(
            {
                "model": self.spec.model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": max_new_tokens,
                "temperature": temperature,
                "seed": seed,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
        failure = ""
        for number in range(self.spec.retries + 1):
            if number:
                time.sleep(self._pause_s * 2 ** (number - 1))
            try:
                return self._once(body, max_new_tokens, number + 1)
            except _RetryableError as error:
                failure = str(error)
        tries = self.spec.retries + 1
        raise ModelError(
            f"{self.spec.url}: {failure} ({tries} {'tries' if tries > 1 else 'try'})",
            "check that the server runs, and its log; then run again: the run resumes at the node where it stopped",
        )

    def _once(self, body: bytes, max_new_tokens: int, number: int) -> Completion:
        import httpx

        began = time.monotonic()
        parts: list[str] = []
        try:
            with self._client.stream("POST", self._address, content=body) as response:
                chunks = self._chunks(response, parts, began)
                if response.status_code != httpx.codes.OK:
                    self._refused(response, chunks)
                if "json" in response.headers.get("Content-Type", "").partition(";")[0].lower():
                    content, usage = _whole(b"".join(chunks))
                    parts.append(content)
                    seconds = time.monotonic() - began
                else:
                    usage = self._streamed(chunks, parts, max_new_tokens)
                    seconds = time.monotonic() - began
                    if len(parts) <= max_new_tokens:
                        self._read_to_the_end(chunks)
        except httpx.TimeoutException as error:
            raise _RetryableError(f"sent nothing for {self.spec.timeout_s:g} s") from error
        except httpx.RequestError as error:
            raise _RetryableError(f"no answer: {_reason(error)}") from error
        text = "".join(parts[:max_new_tokens])[: MAX_TOKEN_CHARACTERS * max_new_tokens]
        counted = usage.get("completion_tokens")
        pieces = min(len(parts), max_new_tokens)
        return Completion(
            text=text,
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            new_tokens=min(int(counted), max_new_tokens) if isinstance(counted, int) else (pieces if text else 0),
            seconds=seconds,
            tries=number,
        )

    def _chunks(self, response: httpx.Response, parts: list[str], began: float) -> Iterator[bytes]:
        """Yield the chunks of the body. Raises _RetryableError after `answer_s` seconds."""
        for chunk in response.iter_bytes():
            if time.monotonic() - began > self.spec.answer_s:
                raise _RetryableError(
                    f"the answer was not complete after {self.spec.answer_s:g} s ({len(parts)} pieces of text)"
                )
            yield chunk

    def _refused(self, response: httpx.Response, chunks: Iterator[bytes]) -> None:
        """Raise the error of a status other than 200: _RetryableError for RETRY_STATUSES, else ModelError."""
        body = b""
        for chunk in chunks:
            body += chunk
            if len(body) >= MAX_ERROR_BYTES:
                break
        excerpt = _excerpt(body[:MAX_ERROR_BYTES])
        failure = f"answered {response.status_code} {response.reason_phrase}: {excerpt}"
        if response.status_code in RETRY_STATUSES:
            raise _RetryableError(failure)
        check_key = f"check the key in ${self.spec.api_key_env}" if self.spec.api_key_env else "set api_key_env"
        remedies = {
            400: f"check the model's name '{self.spec.model}'; if it is right, the server refuses the request: try "
            "a shorter prompt (max_prompt_characters) or fewer tokens",
            401: check_key,
            403: check_key,
            404: f"check the url, which must end where the protocol begins, and the model's name '{self.spec.model}'",
        }
        remedy = remedies.get(response.status_code, "read the server's log")
        if response.has_redirect_location:
            target = _excerpt(response.headers["Location"].partition("?")[0].encode())
            remedy = f"prompt and key are not sent on to {target}; if that is the server, set url to its address"
        raise ModelError(f"{self.spec.url}: {failure}", remedy)

    def _streamed(self, chunks: Iterator[bytes], parts: list[str], max_new_tokens: int) -> Mapping[str, Any]:
        """Append the text of events to `parts`, up to the answer's end or one piece above the limit; return the usage.

        Raises:
            _RetryableError: the answer is truncated, or no valid chat completion.
        """
        import httpx

        start = bytearray()
        usage: Mapping[str, Any] = {}
        finished = False
        num_events = 0
        try:
            for data in event_data(_keep_start(chunks, start)):
                num_events += 1
                if data.strip() == "[DONE]":
                    return usage
                event = _object(data)
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    piece = (choice.get("delta") or {}).get("content")
                    parts += [piece] if piece else []
                    finished = finished or choice.get("finish_reason") is not None
                if len(parts) > max_new_tokens:  # the server ignores the limit
                    return usage
        except OverlongEvent as error:
            raise _RetryableError(f"the answer is not JSON: {_excerpt(error.start)}") from None
        except httpx.TimeoutException:
            raise
        except httpx.RequestError as error:
            raise _RetryableError(
                f"the answer broke off after {len(parts)} pieces of text: {_reason(error)}"
            ) from error
        if not num_events and start.strip():
            raise _RetryableError(f"the answer is not JSON: {_excerpt(bytes(start))}")
        if not finished:
            raise _RetryableError(f"the answer broke off after {len(parts)} pieces of text")
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
        except (httpx.RequestError, _RetryableError):
            pass  # the answer is complete; only its connection is lost


def _headers(spec: EndpointModel) -> dict[str, str]:
    """Return the headers, with the key. Raises ModelError, whose message never contains the key."""
    # identity: a compressed stream arrives in blocks, not in events
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if spec.api_key_env is not None:
        key = os.environ.get(spec.api_key_env, "").strip()
        if not key:
            raise ModelError(
                f"the environment variable {spec.api_key_env}, which holds the key for {spec.url}, is not set",
                f"export {spec.api_key_env}=...   or remove api_key_env from the model",
            )
        if not (key.isascii() and key.isprintable()):
            raise ModelError(
                f"the environment variable {spec.api_key_env}, which holds the key for {spec.url}, has a line break or "
                "another character that no HTTP header can carry",
                f"export {spec.api_key_env}=...   with the key alone",
            )
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _open_client(spec: EndpointModel, headers: Mapping[str, str]) -> httpx.Client:
    """Return a client without a limit on connections, since callers limit their calls. Raises ModelError.

    Certificates are checked against the system's store (or SSL_CERT_FILE, SSL_CERT_DIR), not against certifi's.
    Redirects are not followed: a redirect would send prompt and key to a server that the spec does not name.
    """
    import httpx

    try:
        url = httpx.URL(spec.url)
        if url.port is not None and url.port > MAX_PORT:
            raise httpx.InvalidURL(f"Invalid port: '{url.port}'")
    except httpx.InvalidURL as error:
        raise ModelError(
            f"{spec.url}: {error}", "set url to where the protocol begins, as http://HOST:PORT/v1"
        ) from None
    try:
        return httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(spec.timeout_s),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE_S),
            verify=ssl.create_default_context(),
            trust_env=not _is_this_machine(url.host),
            follow_redirects=False,
        )
    except (httpx.InvalidURL, ImportError, ValueError):  # the error's text may contain the proxy's password
        raise ModelError(
            f"{spec.url}: a proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY names cannot be used",
            "write it as http://HOST:PORT (socks5://HOST:PORT needs pip install 'httpx[socks]'), or add the server's "
            "host to NO_PROXY",
        ) from None


def _is_this_machine(host: str) -> bool:
    """Return whether a host is a loopback or unspecified address, or `localhost`, which no proxy can reach."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _keep_start(chunks: Iterable[bytes], start: bytearray) -> Iterator[bytes]:
    """Yield the chunks, and copy the first MAX_ERROR_BYTES bytes to `start`."""
    for chunk in chunks:
        start += chunk[: MAX_ERROR_BYTES - len(start)]
        yield chunk


def _whole(body: bytes) -> tuple[str, Mapping[str, Any]]:
    """Return text and usage of an answer in one piece, from a server that does not stream."""
    found = _object(body.decode("utf-8", errors="replace"))
    try:
        content = found["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise _RetryableError(f"the answer is not a chat completion: {_excerpt(body)}") from None
    return str(content or ""), found.get("usage") or {}


def _object(text: str) -> dict[str, Any]:
    """Return the chat completion in a JSON text. Raises _RetryableError when the text holds none."""
    try:
        found = json.loads(text)
    except ValueError:
        raise _RetryableError(f"the answer is not JSON: {_excerpt(text.encode())}") from None
    if not isinstance(found, dict) or not isinstance(found.get("choices"), list):
        raise _RetryableError(f"the answer is not a chat completion: {_excerpt(text.encode())}")
    if any(not isinstance(choice, dict) for choice in found["choices"]):
        raise _RetryableError(f"the answer is not a chat completion: {_excerpt(text.encode())}")
    return found


def _excerpt(body: bytes) -> str:
    text = " ".join(body.decode("utf-8", errors="replace").split())
    return repr(text if len(text) <= 120 else text[:117] + "...")


def _reason(error: BaseException) -> str:
    """Return the system's reason of an httpx error, such as "Connection refused"; else the text of the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__  # httpcore's pool raises `from None`
    return str(error) or type(error).__name__
