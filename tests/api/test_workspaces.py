"""A workspace from Python: SQL, attempts and replays of a real solve in miniature."""

from __future__ import annotations

import asyncio
from datetime import UTC
from pathlib import Path

import pytest
from api_support import tags_of
from solve_support import Place, place
from store_cases import attempt as attempt_record
from store_cases import task as task_record

import gridloom
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace as Folder

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def solved_place(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Place:
    """A solve and its score, for this module alone: replays add forks to it."""
    made = place(tmp_path_factory.mktemp("api") / "place", llama)
    artifact, _ = made.solve()
    made.score(artifact)
    return made


@pytest.fixture
def ws(solved_place: Place) -> gridloom.Workspace:
    return gridloom.workspace(solved_place.workspace.root)


def test_sql_answers_with_a_relation(ws: gridloom.Workspace) -> None:
    relation = ws.sql("select task_id, count(*) as n from v_attempts where fork = 0 group by all order by all")
    assert relation.columns == ["task_id", "n"]
    assert [row[0] for row in relation.fetchall()] == ["aaaa0001", "bbbb0002", "cccc0003"]
    assert relation.to_arrow_table().column_names == ["task_id", "n"]
    assert relation.arrow().read_all().num_rows == 3
    assert ws.sql("select $x as x", {"x": 3}).fetchall() == [(3,)]
    with pytest.raises(gridloom.StoreError, match="read-only"):
        ws.sql("drop table runs")


def test_a_relation_becomes_a_data_frame(ws: gridloom.Workspace) -> None:
    pandas = pytest.importorskip("pandas")
    assert isinstance(ws.sql("from v_runs").df(), pandas.DataFrame)


def test_attempts_are_those_that_are_asked_for(ws: gridloom.Workspace) -> None:
    every = ws.attempts()
    assert {attempt.task_id for attempt in every} == {"aaaa0001", "bbbb0002", "cccc0003"}
    assert [a.attempt_id for a in ws.attempts(every[0].run_id)] == [a.attempt_id for a in every]
    of_task = ws.attempts(task="bbbb0002")
    assert of_task
    assert {attempt.task_id for attempt in of_task} == {"bbbb0002"}
    assert [a.number for a in of_task] == sorted(a.number for a in of_task)
    assert [a.attempt_id for a in ws.attempts(limit=2)] == [a.attempt_id for a in every[:2]]
    for solved in (True, False):
        found = {attempt.attempt_id for attempt in ws.attempts(solved=solved)}
        assert found == {attempt.attempt_id for attempt in every if attempt.solved is solved}
    assert ws.attempts("no such run") == []
    assert ws.attempts(stage="elsewhere") == []


def test_an_attempt_has_what_the_ledger_has(ws: gridloom.Workspace) -> None:
    listed = ws.attempts(task="bbbb0002", limit=1)[0]
    alone = ws.attempt("bbbb0002.1")
    for found in (listed, alone):
        assert (found.attempt_id, found.number, found.stage, found.parent) == ("bbbb0002.1", 1, "solve", None)
        assert found.verdict in ("accepted", "rejected")
        assert found.accepted == (found.verdict == "accepted")
        assert found.score is not None
        assert 0 <= found.score <= 1
        assert len(found.grids) == 2
        assert found.plan["views"]
        assert found.seconds == pytest.approx(sum(found.timings.values()))
        assert found.started_at.tzinfo is UTC
        assert found.started_at < found.ended_at
        assert found.task is not None
        assert len(found.task.tests) == 2
        assert found.task.answers == ()
        assert found.prompt
        assert found.text is not None
        assert found.candidates[0]["rank"] == 0
        assert set(found.signals) >= {"consistency"} or found.signals
    assert (listed.grids, listed.plan, listed.timings, listed.solved, listed.score, listed.started_at) == (
        alone.grids,
        alone.plan,
        alone.timings,
        alone.solved,
        alone.score,
        alone.started_at,
    )
    with pytest.raises(gridloom.ReplayError, match=r"unknown attempt 'bbbb0002\.99'"):
        ws.attempt("bbbb0002.99")


def test_a_replay_is_equal_and_silent(ws: gridloom.Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    report = ws.replay("aaaa0001.1")
    assert report.equal
    assert report.fork_id is None
    assert [node.name for node in report.nodes] == ["adapt", "propose", "verify"]
    assert capfd.readouterr() == ("", "")


def test_a_replay_with_changes_is_a_fork(ws: gridloom.Workspace) -> None:
    report = ws.replay("aaaa0001.1", set={"act_steps": 1})
    assert report.fork_id == "aaaa0001.1+1"
    fork = ws.attempt(report.fork_id)
    assert (fork.parent, fork.plan["act_steps"]) == ("aaaa0001.1", 1)
    with pytest.raises(gridloom.ReplayError, match="a plan has no 'act_stepz' to set"):
        ws.replay("aaaa0001.1", set={"act_stepz": 1})


def test_a_live_replay_in_a_cell_of_a_notebook(
    ws: gridloom.Workspace, solved_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(solved_place.root)  # the folder of the LLaMA is relative

    async def cell() -> gridloom.ReplayReport:
        return ws.replay("aaaa0001.1", live=True)

    report = asyncio.run(cell())
    assert report.live
    assert report.nodes[0].name == "reason"
    assert report.equal


def test_a_workspace_that_is_not_there_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDLOOM_HOME", str(tmp_path / "home"))
    ws = gridloom.workspace()
    assert ws.path == tmp_path / "home"
    for ask in (lambda: ws.sql("from runs"), ws.attempts, lambda: ws.attempt("a.1")):
        with pytest.raises(gridloom.StoreError, match="nothing is recorded"):
            ask()
    assert not ws.path.exists()
    assert ws.warnings == ()


def test_an_attempt_draws_itself(ws: gridloom.Workspace) -> None:
    html = ws.attempt("aaaa0001.1")._repr_html_()
    tags = tags_of(html)
    assert tags.count("svg") == 2
    assert tags.count("details") >= 2
    assert "aaaa0001.1" in html


def test_markup_in_an_attempt_is_shown_and_never_read(tmp_path: Path) -> None:
    task_id = f"{SCRIPT}\x07"
    with LedgerWriter(Folder(tmp_path), "run-1") as writer:
        writer.append(
            task_record(task_id),
            attempt_record(task_id, 1, prompt=f"{SCRIPT}</pre>", text=SCRIPT, feedback=SCRIPT, plan={"focus": SCRIPT}),
        )
    attempt = gridloom.workspace(tmp_path).attempt(f"{task_id}.1")
    html = attempt._repr_html_()
    assert attempt.text == SCRIPT
    assert not {"script", "alert"} & set(tags_of(html))
    assert html.count("&lt;script&gt;") >= 5
    assert "\x07" not in html
