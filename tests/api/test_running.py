"""Runs started from Python: silent, resumable, with what was made as data."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_support import SUDOKUS, tags_of
from progress_support import Reporter
from train_support import StopAfter

import gridloom
from gridloom.runtime.execution.executor import run_local
from gridloom.runtime.execution.finish_early import finish_early
from gridloom.runtime.execution.launch import off_loop
from gridloom.runtime.execution.run_locks import stage_lock
from gridloom.runtime.planning.local import plan_local
from gridloom.stores.workspace import Workspace


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the tiny spec has run."""
    folder = tmp_path_factory.mktemp("api") / "home"
    gridloom.run(SUDOKUS, home=folder)
    return folder


def test_a_run_prints_nothing_and_returns_what_it_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    result = gridloom.run(SUDOKUS, set={"stages.learn.steps": 3}, home=tmp_path / "home")
    assert capfd.readouterr() == ("", "")
    assert result.ok
    assert result.name == "four"
    assert [(stage.name, stage.kind, stage.status) for stage in result.stages] == [
        ("sudokus", "sudoku", "done"),
        ("learn", "train", "done"),
        ("judge", "evaluate", "done"),
    ]
    learn, judge = result["learn"], result["judge"]
    assert learn.path is not None
    assert (learn.path / "bundle.json").is_file()
    assert learn.metrics["loss"] > 0
    assert learn.report == {}
    assert judge.report["num_puzzles"] == 6
    assert judge.recorded_as == (result.run_id, "judge")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    rows = gridloom.workspace(tmp_path / "home").sql("select spec, overrides, status from v_runs").fetchall()
    assert rows == [("<dict>.yaml", ["stages.learn.steps=3"], "done")]


def test_progress_is_shown_when_it_is_asked_for(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridloom.cli.show.progress.PLAIN_EVERY_S", 0.0)
    gridloom.run(SUDOKUS, set={"stages.learn.steps": 4}, home=home, progress=True)
    assert "learn  4/4 " in capsys.readouterr().out


def test_a_cached_run_has_the_figures_of_the_run_that_made_them(home: Path) -> None:
    result = gridloom.run(gridloom.compile(SUDOKUS), home=gridloom.workspace(home))
    assert {stage.status for stage in result.stages} == {"cached"}
    assert result["learn"].metrics["loss"] > 0
    recorded = result["learn"].recorded_as
    assert recorded is not None
    assert recorded[0] != result.run_id
    with pytest.raises(KeyError):
        _ = result["lern"]


def test_a_stage_that_fails_raises_or_is_reported(home: Path) -> None:
    over = {"stages.learn.optimizer.lr": 1e30}
    with pytest.raises(gridloom.StageError, match="learn failed"):
        gridloom.run(SUDOKUS, set=over, home=home)
    result = gridloom.run(SUDOKUS, set=over, home=home, check=False)
    assert not result.ok
    assert [stage.status for stage in result.stages] == ["cached", "failed", "blocked"]
    assert result["learn"].path is None
    assert result["learn"].error
    assert result["judge"].error == "blocked by learn"
    assert tags_of(result._repr_html_()).count("tr") == 4


def test_a_run_without_time_is_interrupted_and_resumes(home: Path) -> None:
    over = {"stages.learn.steps": 5}
    with pytest.raises(gridloom.StageInterrupted):
        gridloom.run(SUDOKUS, set=over, home=home, walltime=0)
    (interrupted,) = gridloom.workspace(home).sql("select run_id from runs where status = 'interrupted'").fetchall()
    assert gridloom.run(SUDOKUS, set=over, home=home).run_id == interrupted[0]


def test_a_run_may_start_in_another_thread_and_below_an_event_loop(home: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(gridloom.run, SUDOKUS, home=home).result().ok

    async def cell() -> gridloom.RunResult:
        return gridloom.run(SUDOKUS, home=home)

    assert asyncio.run(cell()).ok


def test_work_below_an_event_loop_may_have_a_loop_of_its_own() -> None:
    async def answer() -> int:
        return 42

    async def cell() -> int:
        return off_loop(lambda: asyncio.run(answer()))

    assert asyncio.run(cell()) == 42
    assert off_loop(lambda: asyncio.run(answer())) == 42


def test_a_script_under_torchrun_is_sent_to_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(gridloom.GridloomError, match="torchrun -m gridloom run"):
        gridloom.run(SUDOKUS, home=home)


def test_a_spec_with_problems_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(gridloom.SpecError):
        gridloom.run({**SUDOKUS, "stages": {}}, set={"nam": "x"}, home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_a_run_uses_what_was_finished_early(tmp_path: Path) -> None:
    folder = Workspace(tmp_path / "home")
    change = {"stages.learn.steps": 6, "stages.learn.checkpoint_every": 1}
    spec = gridloom.compile(SUDOKUS, set=change)
    planned = plan_local(spec.source, spec.overrides, folder)
    with pytest.raises(gridloom.StageInterrupted):
        run_local(planned, "four.yaml", spec.overrides, folder, Reporter(), StopAfter(3), "cpu")
    with pytest.raises(gridloom.GridloomError, match=r"stage 'learn' .* was not finished early"):
        gridloom.run(spec, home=folder.root, finished_early=["learn"])
    made = finish_early("four.yaml", spec.graph, folder, "learn", None, Reporter(), spec.overrides, "cpu")
    for names in (["learn"], "learn"):
        result = gridloom.run(spec, home=folder.root, finished_early=names)
        plan = spec.plan(folder.root, finished_early=names)
        assert [stage.state for stage in plan.stages] == ["cached"] * 3
        assert (result["learn"].key, result["learn"].status) == (made.key, "cached")
        assert made.key in str(result["judge"].report)
    assert gridloom.run(spec, home=folder.root)["learn"].status == "done"


def test_a_run_waits_for_a_stage_that_another_process_runs_when_it_is_asked_to(tmp_path: Path) -> None:
    folder = Workspace(tmp_path / "home")
    nodes = {node.name: node for node in gridloom.compile(SUDOKUS).graph.nodes}
    with ThreadPoolExecutor(1) as pool:
        with stage_lock(folder, nodes["learn"]):
            refused = gridloom.run(SUDOKUS, home=folder.root, check=False)
            assert refused["learn"].status == "failed"
            assert "--wait" in refused["learn"].error
            waiting = pool.submit(gridloom.run, SUDOKUS, home=folder.root, wait=True)
            with pytest.raises(TimeoutError):
                waiting.result(0.5)
        assert waiting.result(60).ok


def test_workers_share_a_run_that_python_starts(home: Path, tmp_path: Path) -> None:
    result = gridloom.run(SUDOKUS, home=tmp_path / "home", on="local:2")
    alone = gridloom.run(SUDOKUS, home=home)
    assert [stage.status for stage in result.stages] == ["done"] * 3
    assert [stage.key for stage in result.stages] == [stage.key for stage in alone.stages]
    assert result["judge"].report == alone["judge"].report
    rows = gridloom.workspace(tmp_path / "home").sql("select worker from run_processes where worker is not null")
    assert {name for (name,) in rows.fetchall()} == {"local-0", "local-1"}


@pytest.mark.parametrize("given", ["argument", "spec"])
@pytest.mark.parametrize("place", ["torchrun:2", "slurm:gpu"])
def test_a_place_that_takes_the_run_over_is_refused_with_the_command_for_it(home: Path, given: str, place: str) -> None:
    spec = SUDOKUS if given == "argument" else {**SUDOKUS, "where": place}
    with pytest.raises(gridloom.GridloomError, match=rf"on='{place}' would hand the run over") as error:
        gridloom.run(spec, home=home, on=place if given == "argument" else None)
    assert f"gridloom run SPEC --on {place}" in error.value.remedy
    assert gridloom.run({**SUDOKUS, "where": place}, home=home, on="here").ok
