"""Speed of the viewer on a large ledger: server start, time of each page, and the report of a run.

    python benchmarks/view_speed.py [--attempts 100000] [--metrics 1000000] [--workspace FOLDER]

Peer of a page: the server's static icon, which shows what the framework and this client take. Pages are asked over a
connection to 127.0.0.1 that is kept, of the server as `gridloom view` runs it, in a thread of this process: wall clock
of the answer, and CPU of the whole process. `anew`: the server forgets what it keeps of pages before each request, as
it does after each record of a run that goes on; `kept`: nothing is added to the ledger. Figures of the next attempt and
of tasks are those of 20 addresses. With `--workspace` the ledger stays there and a second call reuses it.

`--paint` measures in headless Chromium (apt-get install chromium; pip install playwright) when a page has painted its
first content, and when all its grids in view are drawn, from the start of the navigation. Peer: `about:blank`.
"""

from __future__ import annotations

import argparse
import http.client
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import MetricRecord
from gridloom.stores.workspace import Workspace
from gridloom.view.report.run_report import run_report
from gridloom.view.server.app import make_app
from gridloom.view.server.guard import Access
from gridloom.view.server.serve import listen, server_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from big_ledger import EPOCH, write_journals

NAMES = 20
"""Curves of the training whose metrics fill the table."""
TIMES = 20
"""Requests of each page."""
STARTS = 5
"""Times that the server is started."""
PAINTS = 5
"""Times that each page is opened in the browser."""
DRAWN = """() => new Promise((done) => {
  const first = performance.getEntriesByName('first-contentful-paint')[0];
  const answer = performance.getEntriesByType('navigation')[0];
  requestAnimationFrame(() => setTimeout(() => done({
    server: answer ? answer.responseEnd : 0, paint: first ? first.startTime : null, drawn: performance.now() })));
})"""
"""Script that answers the times of a page in ms from the start of its navigation."""


def write_metrics(workspace: Workspace, run: str, number: int) -> None:
    """Append `number` metric rows of one training, in batches."""
    with LedgerWriter(workspace, run) as writer:
        for step in range(number // NAMES):
            writer.append(
                *(
                    MetricRecord(
                        run_id=run, stage="train", step=step, name=f"metric_{name}", value=1 / (1 + step),
                        recorded_at=EPOCH,
                    )
                    for name in range(NAMES)
                )
            )  # fmt: skip


class Client:
    """Client of a server, over one connection."""

    def __init__(self, port: int, app: Any) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.app = app

    def get(self, address: str) -> bytes:
        """Return the body of a page."""
        self.connection.request("GET", address)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status in (200, 204), body
        return body

    def text(self, address: str) -> str:
        return self.get(address).decode()

    def forget(self) -> None:
        """Have the server forget what it keeps of pages, as a new record does."""
        kept = self.app.state.viewer.reader._held._kept
        if kept is not None:
            kept.memo.clear()


@contextmanager
def serving(workspace: Workspace) -> Iterator[Client]:
    """Serve a workspace from a thread of this process."""
    app = make_app(workspace, Access(frozenset()))
    listening = listen("127.0.0.1", 0)
    server = server_of(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield Client(listening.getsockname()[1], app)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        app.state.viewer.reader.close()


def pages(client: Client, run: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (name, addresses) of what a user opens."""
    tasks = sorted(set(re.findall(r"/task\?[^\"]+", client.text(f"/tasks?run={run}"))))
    following, address = [], re.findall(r"/attempt\?[^\"]+", client.text(f"/tasks?run={run}"))[0]
    for _ in range(TIMES):
        following.append(unescape(address))
        address = re.findall(r'rel="next" href="([^"]+)"', client.text(unescape(address)))[0]
    yield "runs", ["/runs"]
    yield "run", [f"/run?id={run}"]
    yield "its curves, 8 of 20", [f"/curves?id={run}"]
    yield "tasks", [f"/tasks?run={run}"]
    yield "tasks, failed", [f"/tasks?run={run}&state=failed"]
    yield "tasks by view", [f"/tasks?run={run}&view=3"]
    yield "tasks by proposer", [f"/tasks?run={run}&source=trm"]
    yield "task with its attempts", [unescape(one) for one in tasks[:TIMES]]
    yield "next attempt", following
    yield "compare", [f"/compare?a={run}&b={run}"]
    yield "SQL: leaderboard", ["/sql?q=from+v_leaderboard"]
    yield "search of a common word", ["/search?q=output"]
    yield "search of a rare word", ["/search?q=9+9+9+9+9+9+9+9"]
    yield "live, nothing new", ["/live"]
    yield "halting", ["/halting"]
    yield "peer: a static file", ["/static/icon.svg"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--metrics", type=int, default=1_000_000)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--paint", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(arguments.workspace or Path(folder) / "gridloom")
        if not workspace.journal_dir.is_dir():
            write_journals(workspace.root, arguments.attempts, 1)
            write_metrics(workspace, "big-1-0000", arguments.metrics)
        Ledger(workspace, timeout_s=600).ingest()
        run = str(Ledger(workspace).rows("select run_id from runs order by run_id limit 1")[0]["run_id"])
        _start(workspace)
        with serving(workspace) as client:
            measured = [*pages(client, run)]
            for name, addresses in measured:
                measure(client, name, addresses)
            following = dict(measured)["next attempt"]
            measure(client, "next attempt, ledger closed", following, before=client.app.state.viewer.reader.close)
        if arguments.paint:
            paint(workspace, [one for one in measured if not one[0].startswith(("live", "peer", "its curves"))])
        began, cpu = time.perf_counter(), time.process_time()
        text = run_report(workspace, run)
        print(
            f"report of a run: {time.perf_counter() - began:.1f} s, {time.process_time() - cpu:.1f} s CPU, "
            f"{len(text.encode()) / 1e6:.2f} MB"
        )


def measure(client: Client, name: str, addresses: list[str], before: Callable[[], None] | None = None) -> None:
    """Print the times of the requests of a page, in turn of all its addresses.

    Args:
        before: what is done before each request, and not measured.
    """
    times: dict[str, list[tuple[float, float]]] = {"anew": [], "kept": []}
    for how, found in times.items():
        client.forget()
        for number in range(TIMES + 1):
            if how == "anew":
                client.forget()
            if before is not None:
                before()
            began, cpu = time.perf_counter(), time.process_time()
            size = len(client.get(addresses[number % len(addresses)]))
            found.append((1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu)))
    shown = []
    for at, what in ((1, "CPU"), (0, "wall")):
        anew, kept = ([one[at] for one in times[how][1:]] for how in ("anew", "kept"))
        shown.append(
            f"{what} anew {statistics.median(anew):5.0f} p95 {statistics.quantiles(anew, n=20)[-1]:5.0f} "
            f"kept {statistics.median(kept):5.0f} p95 {statistics.quantiles(kept, n=20)[-1]:5.0f} ms"
        )
    print(f"{name:28} {'   '.join(shown)}   {size:9,} bytes", flush=True)


def paint(workspace: Workspace, measured: list[tuple[str, list[str]]]) -> None:
    """Print when Chromium paints each page of a server of its own. Raises RuntimeError without Chromium."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise RuntimeError("no Chromium: apt-get install chromium, or leave --paint out")
    command = [sys.executable, "-m", "gridloom", "view", "--home", str(workspace.root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.search(r"http://[^/]+", process.stdout.readline())
    assert found is not None
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            for name, addresses in [*measured, ("peer: about:blank", ["about:blank"])]:
                times = []
                for number in range(PAINTS + 1):
                    address = addresses[number % len(addresses)]
                    page.goto(found[0] + address if address.startswith("/") else address)
                    times.append(page.evaluate(DRAWN))
                shown = "   ".join(
                    f"{what} median {statistics.median(ms):5.0f} most {max(ms):5.0f} ms"
                    for what in ("server", "paint", "drawn")
                    if (ms := [one[what] for one in times[1:] if one[what] is not None])
                )
                print(f"{name:28} {shown}", flush=True)
            browser.close()
    finally:
        process.terminate()
        process.wait()


def _start(workspace: Workspace) -> None:
    """Print how long the command takes until its server has answered: the static icon, and the list of runs."""
    for what in ("/static/icon.svg", "/runs"):
        walls, cpus = [], []
        for _ in range(STARTS):
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "gridloom", "view", "--home", str(workspace.root), "--port", "0"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            found = re.search(r"http://[^/:]+:(\d+)", process.stdout.readline())
            assert found is not None
            Client(int(found[1]), None).get(what)
            walls.append(time.perf_counter() - began)
            process.terminate()
            process.wait()
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(
            f"server up, {what} answered after {statistics.median(walls):.2f} s (most {max(walls):.2f}); "
            f"with what it prepares and its end {statistics.median(cpus):.2f} s CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()
