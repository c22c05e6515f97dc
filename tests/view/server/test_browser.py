"""The viewer in Chromium: every page of a real ledger, by mouse and by key, with what screen readers need.

One server and one browser for all. With GRIDLOOM_SCREENSHOTS=FOLDER a picture of each page is written there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stepping_support import publish_checkpoints
from store_cases import EPOCH, attempt
from view_support import fill, fill_third, halting_rows

from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import ArtifactRecord, RunRecord, StageRecord
from gridloom.stores.workspace import Workspace

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT_MS = 90_000


@dataclass
class Seen:
    """Browser at the viewer, with everything that it asked for and reported."""

    page: Any
    base: str
    workspace: Workspace
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def open(self, address: str) -> str:
        """Open a page of the viewer; return its text."""
        self.page.goto(self.base + address)
        return str(self.page.inner_text("main"))

    def picture(self, name: str) -> None:
        """Write a picture of the page, where pictures are wanted."""
        if folder := os.environ.get("GRIDLOOM_SCREENSHOTS"):
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A ledger with a real solve of a tiny TRM, its checkpoint and dataset, and two recorded runs to compare."""
    from solve_support import RUN, Place

    made = Place(tmp_path_factory.mktemp("browser") / "place", with_llama=False)
    artifact, _ = made.solve()
    made.score(artifact)
    with LedgerWriter(made.workspace, RUN) as writer:
        for one, stage in ((made.checkpoint, "joint"), (made.data, "arc1")):
            writer.append(
                ArtifactRecord(
                    key=one.key,
                    type=one.type,
                    kind="train",
                    run_id=RUN,
                    stage=stage,
                    bytes=one.num_bytes,
                    created_at=1.0,
                )
            )
    fill(made.workspace)
    fill_third(made.workspace)
    with LedgerWriter(made.workspace, "run-1") as writer:
        writer.append(*halting_rows("run-1"))
        for stage, kind in (("arc1", "arc"), ("arc1.answers", "arc_answers"), ("parity", "parity")):
            writer.append(StageRecord(run_id="run-1", stage=stage, kind=kind, key=f"gl1:{stage}", status="cached"))
        for at, (stage, kind) in enumerate(
            (("score", "score"), ("count.votes", "vote"), ("count", "count_votes"), ("lengths", "evaluate"))
        ):
            times = {"started_at": EPOCH + 50 + at, "ended_at": EPOCH + 52.5 + at}
            writer.append(
                StageRecord(run_id="run-1", stage=stage, kind=kind, key=f"gl1:{stage}", status="done", **times)
            )
    return publish_checkpoints(made.workspace)


@pytest.fixture(scope="module")
def served(workspace: Workspace) -> Iterator[str]:
    """Address of the viewer, served by a process of its own."""
    command = [sys.executable, "-m", "gridloom", "view", "--home", str(workspace.root), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0].rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")


@pytest.fixture(scope="module")
def seen(served: str, workspace: Workspace) -> Iterator[Seen]:
    if not CHROMIUM and not os.environ.get("CI"):
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.set_default_timeout(WAIT_MS)
        found = Seen(page, served, workspace)
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("console", lambda message: found.messages.append(message.text))
        page.on("pageerror", lambda error: found.messages.append(str(error)))
        yield found
        browser.close()


PAGES = {
    "runs": "/runs",
    "run": "/run?id=run-1",
    "tasks": "/tasks?run=run-1",
    "hostile_tasks": "/tasks?run=run-2",
    "task": "/task?run=run-2&stage=solve&id=bbbb0002",
    "attempt": "/attempt?name=aaaa0001.1@run-1",
    "compare": "/compare?a=run-1&b=run-2",
    "compare_several": "/compare?run=run-3&run=run-2&run=run-1",
    "compare_puzzles": "/compare?kind=puzzles&a=run-1&b=run-2",
    "compare_votes": "/compare?kind=votes&a=run-1&b=run-2",
    "compare_sequences": "/compare?kind=sequences&a=run-1&b=run-2",
    "compare_trainings": "/compare?kind=training&a=run-1&b=run-2",
    "puzzles": "/puzzles?run=run-1",
    "votes": "/votes?run=run-1",
    "sequences": "/sequences?run=run-1&after=0#answers",
    "paths": "/paths?checkpoint=gl1:engine&data=gl1:sudokus",
    "sequence": "/checkpoint?checkpoint=gl1:rnn&data=gl1:parity",
    "halting": "/halting",
    "checkpoint": "/checkpoint?checkpoint=gl1:joint&data=gl1:data",
    "sql": "/sql?q=from+v_runs+select+run_id,+name,+status,+tasks,+attempts",
    "search": "/search?q=colours&run=run-1",
    "hostile_search": "/search?q=crop",
    "hostile": "/attempt?name=bbbb0002.3@run-2",
    "unknown": "/attempt?name=nowhere",
}

PICTURES = (
    "runs", "run", "tasks", "task", "attempt", "compare", "halting", "checkpoint", "sql", "search", "puzzles", "paths",
    "compare_several", "votes", "sequences",
)  # fmt: skip
"""Pages whose pictures stand in docs/view.md."""


def test_every_page_opens_and_has_no_serious_finding_of_axe(seen: Seen) -> None:
    from axe_core_python.base import AXE_SCRIPT

    for name, address in PAGES.items():
        seen.messages.clear()
        seen.open(address)
        assert seen.page.title() != "taken"
        assert [text for text in seen.messages if "404" not in text] == [], name
        found = seen.page.evaluate(
            AXE_SCRIPT + "; axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
            "one => [one.impact, one.id, one.nodes.map(node => node.html).slice(0, 3)]))"
        )
        assert [one for one in found if one[0] in ("serious", "critical")] == [], name
        if name in PICTURES:
            seen.picture(name)


def test_dark_pages_have_no_serious_finding_and_another_ground(seen: Seen) -> None:
    """Contrast is judged by axe on the colours of the dark side too."""
    from axe_core_python.base import AXE_SCRIPT

    ground = "getComputedStyle(document.body).backgroundColor"
    light = seen.page.evaluate(ground)
    seen.page.emulate_media(color_scheme="dark")
    try:
        for name in ("run", "attempt", "compare_puzzles", "paths", "sql"):
            seen.open(PAGES[name])
            assert seen.page.evaluate(ground) != light
            found = seen.page.evaluate(
                AXE_SCRIPT + "; axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map("
                "one => [one.impact, one.id, one.nodes.map(node => node.html).slice(0, 3)]))"
            )
            assert [one for one in found if one[0] in ("serious", "critical")] == [], name
            if name == "run":
                seen.picture("run_dark")
    finally:
        seen.page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("width", [1280, 700])
def test_no_page_is_wider_than_its_window(seen: Seen, width: int) -> None:
    seen.page.set_viewport_size({"width": width, "height": 800})
    try:
        for name in ("runs", "run", "tasks", "attempt", "compare", "puzzles", "sql"):
            seen.open(PAGES[name])
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width, name
    finally:
        seen.page.set_viewport_size({"width": 1200, "height": 800})


def test_another_run_is_chosen_without_the_stage_of_the_one_before(seen: Seen) -> None:
    seen.open("/compare?kind=training&a=run-1&b=run-2&a_stage=pretrain&b_stage=pretrain")
    with seen.page.expect_navigation():
        seen.page.select_option("select[name=b]", "run-1")
    assert "b_stage" not in seen.page.url
    assert "a_stage" not in seen.page.url or "a_stage=pretrain" in seen.page.url


def test_grids_are_drawn(seen: Seen) -> None:
    seen.open(PAGES["attempt"])
    pixel = "canvas => [...canvas.getContext('2d').getImageData(5, 5, 1, 1).data]"
    seen.page.wait_for_selector("canvas[width]")
    # demo 1 in is [[1]]: ARC's blue
    assert seen.page.eval_on_selector("canvas", pixel) == [0, 0x74, 0xD9, 255]


def test_grids_out_of_view_are_drawn_on_paper(seen: Seen) -> None:
    seen.open(PAGES["attempt"])
    opaque = seen.page.evaluate(
        "() => { const far = document.querySelector('canvas').cloneNode(); document.body.append(far);"
        "const alpha = () => far.getContext('2d').getImageData(5, 5, 1, 1).data[3]; const before = alpha();"
        "window.dispatchEvent(new Event('beforeprint')); return [before, alpha()]; }"
    )
    assert opaque == [0, 255]


def test_attempts_are_paged_by_key(seen: Seen) -> None:
    seen.open(PAGES["attempt"])
    names = []
    for _ in range(5):
        names.append(seen.page.inner_text("h1").removeprefix("Attempt ").partition("@")[0])
        if seen.page.query_selector("a[rel=next]"):
            with seen.page.expect_navigation():
                seen.page.keyboard.press("ArrowRight")
    assert names == ["aaaa0001.1", "aaaa0001.2", "bbbb0002.1", "bbbb0002.2", "cccc0003.1"]
    with seen.page.expect_navigation():
        seen.page.keyboard.press("k")
    assert "bbbb0002.2" in seen.page.inner_text("h1")


def test_pages_are_reached_by_keyboard_alone(seen: Seen) -> None:
    seen.open("/runs")
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    seen.page.keyboard.press("/")
    seen.page.keyboard.type("palette rule")
    with seen.page.expect_navigation():
        seen.page.keyboard.press("Enter")
    assert "palette rule" in seen.page.inner_text("mark")


def test_the_steps_of_an_attempt_are_played(seen: Seen) -> None:
    seen.open("/tasks?run=2026-11-21T10-00-00")
    seen.page.click(".card a >> nth=0")
    seen.page.click(".gallery .card a >> nth=0")
    seen.page.click("#playback button")
    seen.page.wait_for_selector("#playback [data-playback]")
    place = seen.page.locator("#playback input[type=range]").first
    assert place.get_attribute("max") == "2"
    assert "step 1: halting logit" in seen.page.inner_text("#playback output")
    seen.page.evaluate("document.activeElement.blur()")
    seen.page.keyboard.press("Space")
    seen.page.wait_for_selector("#playback output >> text=/^step 3/")
    seen.page.evaluate("document.getElementById('playback').scrollIntoView({block: 'end'})")
    seen.picture("playback")


def test_a_checkpoint_is_stepped_through_by_row(seen: Seen) -> None:
    text = seen.open("/checkpoint")
    assert "choose one" in text
    seen.page.select_option("select[name=checkpoint]", "gl1:joint")
    seen.page.select_option("select[name=data]", "gl1:data")
    seen.page.click("main form button")
    seen.page.select_option("[data-unit]", "row")
    seen.page.click("[data-play]")
    seen.page.wait_for_selector("main output >> text=/^step 3/")
    with seen.page.expect_navigation():
        seen.page.click("a[rel=next]")
    assert "test 1" in seen.page.inner_text("main h2 >> nth=0")


def test_two_runs_are_compared_from_the_list(seen: Seen) -> None:
    seen.open("/runs")
    seen.page.check("input[name=run][value=run-1]")
    seen.page.check("input[name=run][value=run-2]")
    seen.page.click("text=Compare the chosen runs")
    assert "3 tasks in both" in seen.page.inner_text("main")
    seen.page.click("a.tile >> nth=0")
    assert seen.page.inner_text(".card h2") == "bbbb0002"


def test_a_query_is_run_and_saved(seen: Seen) -> None:
    seen.open("/sql")
    seen.page.fill("textarea", "select count(*) as attempts from attempts where run_id = 'run-1'")
    seen.page.click("form[action='/sql'] button")
    assert seen.page.inner_text("main table td") == "5"
    seen.page.fill("input[name=name]", "attempts-of-run-1")
    seen.page.click("text=Save in the workspace")
    assert "attempts-of-run-1" in seen.page.inner_text("main")


def test_new_attempts_of_a_run_arrive(seen: Seen) -> None:
    with LedgerWriter(seen.workspace, "run-4") as writer:
        writer.append(RunRecord(run_id="run-4", name="live", status="started", started_at=time.time()))
        writer.append(attempt("eeee0005", 1, run_id="run-4"))
        seen.open("/run?id=run-4")
        writer.append(attempt("eeee0005", 2, run_id="run-4"))
        seen.page.wait_for_selector("#newest >> text=eeee0005.2")
        names = seen.page.locator("#newest a").all_inner_texts()
        writer.append(RunRecord(run_id="run-4", status="done", ended_at=time.time()))
        seen.page.wait_for_selector("#stages >> text=done")
    assert [name.partition("@")[0] for name in names] == ["eeee0005.2", "eeee0005.1"]


def test_the_list_of_runs_grows_without_forgetting_what_was_ticked(seen: Seen) -> None:
    seen.open("/runs")
    seen.page.evaluate("window.stays = true")
    seen.page.check("input[name=run][value=run-1]")
    with LedgerWriter(seen.workspace, "run-5") as writer:
        writer.append(RunRecord(run_id="run-5", name="later", status="started", started_at=time.time()))
        seen.page.wait_for_selector("#runs >> text=run-5")
    assert seen.page.is_checked("input[name=run][value=run-1]")
    assert not seen.page.is_checked("input[name=run][value=run-2]")
    assert seen.page.evaluate("document.activeElement.value") == "run-1"
    assert seen.page.evaluate("window.stays")


def test_nothing_was_asked_of_another_machine(seen: Seen) -> None:
    assert len(seen.requests) > 50
    assert [address for address in seen.requests if not address.startswith((seen.base + "/", "data:"))] == []
