"""HTTP client of an endpoint: headers with keys of the environment, proxies, certificates."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gridloom.errors import ModelError
from gridloom.runtime.models.language.spec import EndpointModel

if TYPE_CHECKING:
    import httpx

IDLE_S = 1.0
"""Seconds that an idle connection is kept for the next call. Servers close idle connections after 2 s (gunicorn) or
5 s (uvicorn), and a request on a closing connection would cost a try."""
MAX_PORT = 65_535


def make_headers(spec: EndpointModel) -> dict[str, str]:
    """Return the headers, with the key. Raises ModelError, whose message never contains the key."""
    # identity: a compressed stream arrives in blocks, not in events
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if spec.api_key_env is not None:
        headers["Authorization"] = f"Bearer {_secret(spec, spec.api_key_env, 'the key')}"
    headers |= spec.headers
    headers |= {name: _secret(spec, variable, f"the header {name}") for name, variable in spec.header_env.items()}
    return headers


def _secret(spec: EndpointModel, variable: str, what: str) -> str:
    """Return the value of an environment variable. Raises ModelError, whose message never contains the value."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ModelError(
            f"the environment variable {variable}, which holds {what} for {spec.url}, is not set",
            f"export {variable}=...   or remove it from the model",
        )
    if not (value.isascii() and value.isprintable()):
        raise ModelError(
            f"the environment variable {variable}, which holds {what} for {spec.url}, has a line break or "
            "another character that no HTTP header can carry",
            f"export {variable}=...   with the value alone",
        )
    return value


def open_client(spec: EndpointModel, headers: Mapping[str, str]) -> httpx.Client:
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


def reason_of(error: BaseException) -> str:
    """Return the system's reason of an httpx error, such as "Connection refused"; else the text of the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__  # httpcore's pool raises `from None`
    return str(error) or type(error).__name__
