"""Protection of the viewer: hosts, tokens, other sites, headers, and texts of the ledger that stay text."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from view_support import ESCAPE, LINK, client_of, fill

from gridloom.stores.workspace import Workspace
from gridloom.view.server.guard import COOKIE, Access, is_loopback

PAGES = (
    "/runs",
    "/run?id=run-1",
    "/run?id=run-2",
    "/tasks?run=run-2",
    "/task?run=run-2&stage=solve&id=bbbb0002",
    "/attempt?name=bbbb0002.3@run-2",
    "/attempt?name=bbbb0002.3@run-2&against=bbbb0002.1@run-2",
    "/compare?a=run-1&b=run-2",
    "/sql?q=from+attempts+select+prompt,+text,+feedback",
    "/search?q=script",
    "/search?q=%3Cscript%3E",
    "/attempt?name=%3Cscript%3Ealert(1)%3C/script%3E",
    "/%3Cscript%3E",
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return fill(Workspace(tmp_path_factory.mktemp("guard") / "gridloom"))


@pytest.fixture(scope="module")
def client(workspace: Workspace) -> Iterator[TestClient]:
    with client_of(workspace) as made:
        yield made


class Parts(HTMLParser):
    """Collector of what a browser would act on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("page", PAGES)
def test_texts_of_the_ledger_and_of_addresses_stay_text(client: TestClient, page: str) -> None:
    answer = client.get(page)
    found = Parts(answer.text)
    assert [attributes for tag, attributes in found.tags if tag == "script"] == [
        {"src": "/static/view.js", "defer": None}
    ]
    assert not [attributes for tag, attributes in found.tags if tag == "img"]
    for _, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action", "data-fetch", "data-live", "data-load"):
            assert (attributes.get(name) or "/").startswith(("/", "#main"))
    assert "\x1b" not in answer.text
    assert "\u202e" not in answer.text


def test_hostile_texts_are_shown(client: TestClient) -> None:
    text = client.get("/attempt?name=bbbb0002.3@run-2").text
    assert "&lt;script&gt;" in text
    assert LINK in text
    assert ESCAPE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") in text


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for page in (*PAGES, "/static/view.js", "/live", "/nowhere"):
        headers = client.get(page).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8642", 200),
        ("localhost", 200),
        ("[::1]:8642", 200),
        ("evil.example", 421),
        ("evil.example:8642", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.168.0.7", 421),
        ("", 421),
    ],
)
def test_a_request_must_name_this_machine(workspace: Workspace, host: str, status: int) -> None:
    with client_of(workspace, Access(frozenset({"localhost"}))) as client:
        assert client.get("/static/icon.svg", headers={"host": host}).status_code == status


def test_requests_of_other_sites_are_refused_but_for_links(client: TestClient) -> None:
    def status(site: str, mode: str) -> int:
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode}
        return client.get("/static/icon.svg", headers=headers).status_code

    assert status("cross-site", "no-cors") == 403
    assert status("cross-site", "cors") == 403
    assert status("cross-site", "navigate") == 200
    assert status("same-origin", "cors") == 200


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://testserver.evil.example"])
def test_queries_are_saved_for_the_own_pages_alone(
    client: TestClient, workspace: Workspace, origin: str | None
) -> None:
    form = {"name": "mine", "q": "from v_runs"}
    headers = {} if origin is None else {"origin": origin}
    assert client.post("/queries", data=form, headers=headers).status_code == 403
    assert not (workspace.root / "queries").exists()


def test_without_the_token_nothing_is_served(workspace: Workspace) -> None:
    with client_of(workspace, Access(frozenset({"testserver"}), "secret")) as client:
        assert client.get("/runs").status_code == 401
        assert client.get("/static/view.js").status_code == 401
        assert client.get("/runs?token=wrong").status_code == 401
        assert client.get("/runs", headers={"cookie": f"{COOKIE}=wrong"}).status_code == 401
        assert client.get("/runs", headers={"authorization": "Bearer secret"}).status_code == 200
        # of another server of this machine, whose cookies come with every request
        neighbour = f'settings={{"dark": true}}; {COOKIE}=secret'
        assert client.get("/static/view.js", headers={"cookie": neighbour}).status_code == 200
        entered = client.get("/run?token=secret&id=run-1")
        assert entered.status_code == 303
        assert entered.headers["location"] == "/run?id=run-1"
        assert "HttpOnly" in entered.headers["set-cookie"]
        assert client.get("/runs").status_code == 200
        assert (
            client.get("/runs", headers={"host": "testserver:8643"}).status_code == 401
        )  # of a viewer at another port
        assert client.get("http://testserver//evil.example/?token=secret").headers["location"] == "/evil.example/"
        assert client.get("/runs", headers={"host": "192.168.0.7"}).status_code == 200  # an address cannot be rebound


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False)])
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_files_outside_the_own_folder_are_not_served(client: TestClient) -> None:
    for path in ("/static/../html.py", "/static/%2e%2e/html.py", "/static//etc/passwd", "/static/..%2fhtml.py"):
        assert client.get(path).status_code == 404


def test_the_script_writes_no_text_as_markup() -> None:
    """`innerHTML` and `insertAdjacentHTML` take pages of the server itself, which are escaped."""
    text = (Path(__file__).parents[3] / "gridloom/view/static/view.js").read_text(encoding="utf-8")
    assert text.count("innerHTML") == 3
    assert text.count("insertAdjacentHTML") == 1
    assert "eval(" not in text
    assert "http" not in text
