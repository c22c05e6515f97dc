"""Start of the web server, and its addresses."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette

from gridloom.errors import GridloomError
from gridloom.stores.workspace import Workspace
from gridloom.view.server.app import make_app, warm_up
from gridloom.view.server.guard import Access, is_loopback, own_names


def serve(
    workspace: Workspace,
    *,
    host: str = "127.0.0.1",
    port: int = 8642,
    hosts: Sequence[str] = (),
    with_token: bool = False,
    ready: Callable[[str], None],
) -> None:
    """Serve the viewer until the process is stopped.

    Args:
        host: address to listen on; anything but loopback demands a token.
        port: port; 0 for any free one.
        hosts: further names by which clients reach this machine.
        with_token: demand a token on loopback too, as on a machine that other people use.
        ready: called with the address to open, before the first request.

    Raises:
        GridloomError: the address is in use or not of this machine.
    """
    token = secrets.token_urlsafe(24) if with_token or not is_loopback(host) else None
    access = Access(own_names() | {name.lower() for name in (host, *hosts)}, token)
    listening = listen(host, port)
    taken = listening.getsockname()[1]
    app = make_app(workspace, access)
    shown = socket.gethostname() if host in ("0.0.0.0", "::") else host
    shown = f"[{shown}]" if ":" in shown else shown
    ready(f"http://{shown}:{taken}/" + (f"?token={token}" if token else ""))
    warming = threading.Thread(target=warm_up, args=(app.state.viewer,), daemon=True)
    warming.start()
    try:
        with suppress(KeyboardInterrupt):  # the usual end
            server_of(app).run(sockets=[listening])
    finally:
        listening.close()
        warming.join(timeout=5)  # a thread that imports is not cut off at the end of the process
        app.state.viewer.reader.close()


def server_of(app: Starlette) -> uvicorn.Server:
    """Return the server of a viewer's application, which is run with sockets that listen."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False, ws="none", http="h11",
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises GridloomError: the address is in use or not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise GridloomError(f"cannot listen on {host!r}: {error}", "name an address of this machine") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(128)
    except OSError as error:
        made.close()
        raise GridloomError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", "choose another one with --port, or 0 for any"
        ) from error
    return made
