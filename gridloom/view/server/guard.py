"""Protection of the viewer: Host header, token, origin of requests, and security headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "gridloom_view"
"""Begin of the name of the cookie; `_cookie` adds the port, since the servers of a host share their cookies."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
"""Headers of every answer. Own script and style only; nothing inline, nothing from elsewhere, no frames."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask: names of the host that a request may be sent to, and the token that it needs."""

    hosts: frozenset[str]
    """Names without a port, in small letters. Addresses of this machine need not be named."""
    token: str | None = None
    """Secret that each client presents once; None where loopback alone is served."""


def is_loopback(host: str) -> bool:
    """Return whether a host to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_names() -> frozenset[str]:
    """Return the names by which this machine is known."""
    return frozenset({"localhost", socket.gethostname().lower(), socket.getfqdn().lower()})


class Guard:
    """Middleware that refuses requests of other sites and adds the security headers.

    A page of a hostile site can send requests to a server on this machine: by a name that it has resolve to 127.0.0.1
    (the Host header names that site, and is refused), or directly, without being able to read the answer (refused by
    the header Sec-Fetch-Site where it is not a plain link, and by Origin for anything that writes).
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refused(scope)
        await (refused or self.app)(scope, receive, send_guarded)

    def _refused(self, scope: Scope) -> Response | None:
        """Return the refusal of a request, or None for one that is served."""
        headers = Headers(scope=scope)
        if not self._is_own(headers.get("host", "")):
            return PlainTextResponse("unknown host: use the address that gridloom view printed\n", 421)
        if headers.get("sec-fetch-site") == "cross-site" and (
            headers.get("sec-fetch-mode") != "navigate" or scope["method"] not in ("GET", "HEAD")
        ):
            return PlainTextResponse("requests of other sites are refused\n", 403)
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin", "")
            if origin.partition("://")[2].lower() != headers.get("host", "").lower():
                return PlainTextResponse("the request comes from another site\n", 403)
        return self._without_token(scope, headers)

    def _is_own(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in self.access.hosts:
            return True
        try:
            # an address is no name that a hostile site could resolve anew
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.access.token is not None or address.is_loopback

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = self.access.token
        if token is None:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1"))
        if "token" in given and _equal(given["token"][-1], token):
            query = {name: values for name, values in given.items() if name != "token"}
            path = "/" + scope["path"].lstrip("/\\")  # `//name` would lead to another site
            answer = RedirectResponse(f"{path}?{urlencode(query, doseq=True)}" if query else path, 303)
            answer.set_cookie(_cookie(headers), token, httponly=True, samesite="strict", path="/")
            return answer
        # ports of a machine share their cookies: one of another server may be no cookie by the standard
        if _equal(cookie_parser(headers.get("cookie", "")).get(_cookie(headers), ""), token):
            return None
        if _equal(headers.get("authorization", ""), f"Bearer {token}"):
            return None
        return PlainTextResponse("a token is needed: open the address that gridloom view printed\n", 401)


def _cookie(headers: Headers) -> str:
    """Return the name of the cookie that holds the token, by the port at which the browser reaches this server.

    That is the port of the header Host, which behind a tunnel is another one than this server listens on.
    """
    port = headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdigit() else COOKIE


def _equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())
