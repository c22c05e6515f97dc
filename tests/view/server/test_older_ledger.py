"""The viewer on the workspace of an earlier commit: its ledger is brought up to date, and every page opens."""

from __future__ import annotations

import html
import re
import tarfile
from pathlib import Path

from view_support import client_of

from gridloom.stores.workspace import Workspace

ARCHIVE = Path(__file__).parents[2] / "compatibility" / "workspace-d473133.tar.gz"


def test_every_page_of_an_older_ledger_opens(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (ledger,) = tmp_path.rglob("ledger.duckdb")
    opened = set()
    with client_of(Workspace(ledger.parent)) as client:
        waiting = ["/runs", "/tasks", "/compare", "/halting", "/checkpoint", "/sql"]
        while waiting and len(opened) < 40:
            address = waiting.pop(0)
            if address in opened or address.startswith(("/static", "/search")):
                continue
            opened.add(address)
            answer = client.get(address)
            assert answer.status_code == 200, (address, answer.text)
            links = re.findall(r'href="(/(?:run|task|attempt|curves)\?[^"]*)"', answer.text)
            waiting += [html.unescape(link) for link in links]
    assert {address.partition("?")[0] for address in opened} >= {"/runs", "/run", "/task", "/attempt", "/curves"}
