"""Tests of a crew of real worker processes: hand-out, lost workers, errors, stop signals, refusals."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_split import toy_job

from gridloom.errors import ModelError, StageError
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SUPPORT = Path(__file__).parents[2] / "support"
CrewOf = Callable[..., Any]


def test_two_workers_load_once_each_do_all_items_and_keep_journals_of_their_own(crew_of: CrewOf) -> None:
    watched = crew_of(2)
    # long enough for a worker that starts late on a busy machine to get one
    assert watched.run(toy_job(), **{f"i{n}": {"sleep": 1.0} for n in range(10)}) == []
    assert {item: got["square"] for item, got in watched.results.items()} == {f"i{n}": n * n for n in range(10)}
    by_process = {got["pid"] for got in watched.results.values()}
    assert len(by_process) == 2
    assert {got["loaded"] for got in watched.results.values()} == {1}
    rows = Ledger(watched.workspace).rows("select step, value from metrics order by step")
    assert [(row["step"], row["value"]) for row in rows] == [(n, n * n) for n in range(10)]
    assert len([*watched.workspace.journal_dir.iterdir()]) == 2
    # the same workers do the next job
    watched.run(toy_job(slots=4), more={}, yet={})
    assert {watched.results["more"]["pid"], watched.results["yet"]["pid"]} <= by_process


def test_a_killed_workers_item_goes_to_another_and_a_poisoned_one_is_set_aside(crew_of: CrewOf) -> None:
    watched = crew_of(1)
    job = toy_job(slots=2)
    assert watched.run(job, before={}, bad={"do": "kill"}, after={}) == ["bad"]
    assert {*watched.results} == {"before", "after"}
    assert "bad is set aside" in " ".join(watched.said)
    assert "killed by SIGKILL" in watched.said[0]
    assert [status for _, status in watched.recorded].count("lost") == 3


@pytest.mark.parametrize(("do", "message"), [("fail", "item 1 has no answer"), ("bug", "ZeroDivisionError: a bug")])
def test_an_item_that_fails_ends_the_job_with_its_error(crew_of: CrewOf, do: str, message: str) -> None:
    watched = crew_of(1)
    with pytest.raises(ModelError if do == "fail" else StageError, match=message):
        watched.run(toy_job(), good={}, bad={"do": do})


def test_what_fails_to_load_ends_the_job(crew_of: CrewOf) -> None:
    with pytest.raises(ModelError, match="no weights here"):
        crew_of(1).run(toy_job(fail=True), one={})


def test_a_stop_signal_stops_the_workers_and_leaves_items_open(crew_of: CrewOf) -> None:
    watched = crew_of(1)

    def stop() -> None:
        while not watched.recorded:
            time.sleep(0.01)
        time.sleep(0.3)
        watched.stop.reason = "SIGTERM"

    threading.Thread(target=stop).start()
    began = time.monotonic()
    assert watched.run(toy_job(), long={"sleep": 60}, later={}) == []
    assert time.monotonic() - began < 30
    assert watched.results == {}


def test_a_worker_of_another_gridloom_is_refused_by_name(crew_of: CrewOf) -> None:
    def other(name: str, index: int, workspace: Workspace) -> list[str]:
        code = (
            "import sys; sys.argv = ['w', *sys.argv[1:]]; import gridloom.runtime.cluster.messages as m;"
            "m.__version__ = '0.0.9'; import gridloom.runtime.cluster.worker as w; w.main()"
        )
        return [sys.executable, "-c", code, name, str(index), str(workspace.root)]

    with pytest.raises(StageError, match=r"worker local-0 on .* runs gridloom 0\.0\.9 .*, this driver gridloom"):
        crew_of(1, other).run(toy_job(), one={})


def test_a_clock_an_hour_ahead_is_reported_and_changes_nothing(crew_of: CrewOf) -> None:
    def ahead(name: str, index: int, workspace: Workspace) -> list[str]:
        code = (
            "import sys, time; real = time.time; time.time = lambda: real() + 3600;"
            "import gridloom.runtime.cluster.worker as w; w.main()"
        )
        return [sys.executable, "-c", code, name, str(index), str(workspace.root)]

    watched = crew_of(1, ahead)
    assert watched.run(toy_job(), one={}, two={}) == []
    assert "1 h 00 min ahead" in watched.said[0]
    assert watched.results["two"]["square"] == 1
    assert Ledger(watched.workspace).rows("select count(*) as n from metrics")[0]["n"] == 2


def test_a_worker_that_cannot_start_is_an_error_that_quotes_it(crew_of: CrewOf) -> None:
    def broken(name: str, index: int, workspace: Workspace) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no such library')"]

    with pytest.raises(StageError, match=r"(?s)local-0 cannot be started: it ended 3 times.*no such library"):
        crew_of(1, broken).run(toy_job(), one={})


def test_a_full_disk_in_a_worker_stops_the_job_as_in_one_process(crew_of: CrewOf) -> None:
    def full(name: str, index: int, workspace: Workspace) -> list[str]:
        code = (
            "import sys, resource; resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250));"
            "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "import gridloom.runtime.cluster.worker as w; w.main()"
        )
        return [sys.executable, "-B", "-c", code, name, str(index), str(workspace.root)]

    from gridloom.errors import StoreError

    watched = crew_of(1, full)
    with pytest.raises(StoreError, match="append to the journal"):
        watched.run(toy_job(), **{f"i{n}": {} for n in range(50)})


def test_workers_end_with_a_killed_driver(workspace: Workspace) -> None:
    code = (
        f"import sys; sys.path[:0] = [{str(Path(__file__).parents[1])!r}, {str(SUPPORT)!r}]\n"
        "from cluster.conftest import Watched\n"
        "from pathlib import Path\n"
        "from gridloom.runtime.cluster.local_workers import LocalWorkers\n"
        "from gridloom.stores.workspace import Workspace\n"
        "from toy_split import toy_job\n"
        f"place = Workspace(Path({str(workspace.root)!r}))\n"
        "watched = Watched(place, LocalWorkers(1, place))\n"
        "import threading, time\n"
        "threading.Timer(0.5, lambda: print(*watched.workers.pids().values(), flush=True)).start()\n"
        "watched.run(toy_job(), one={'sleep': 60})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        worker = int(driver.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        driver.kill()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
