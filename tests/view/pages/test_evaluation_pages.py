"""Galleries of puzzles, votes and sequences, and their comparisons, from the records of two runs."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from store_cases import EPOCH, attempt
from view_support import client_of, evaluations, fill, fill_third, graph, node

from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.tasks import Task, tasks_digest
from gridloom.specs.data import Augment
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.evaluation_records import EvaluationRecord, PredictionRecord
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import MetricRecord, RunRecord, StageRecord, TaskRecord
from gridloom.stores.workspace import Workspace


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    workspace = fill(Workspace(tmp_path_factory.mktemp("evaluated") / "gridloom"))
    with client_of(workspace) as made:
        yield made


def get(client: TestClient, page: str, status: int = 200, **query: str) -> str:
    answer = client.get(f"/{page}", params=query)
    assert answer.status_code == status, answer.text
    return html.unescape(answer.text)


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def test_puzzles_are_drawn_with_what_breaks_a_rule(client: TestClient) -> None:
    text = get(client, "puzzles", run="run-1")
    assert "exact 33.3% 95%: 6.1 to 79.2" in words(text)
    assert text.count('<li class="card">') == 3
    assert 'data-marks="0 1 9" data-box="2 2"' in text
    assert text.count("data-marks") == 2
    assert 'data-letters="? 123456789"' in text


@pytest.mark.parametrize(
    ("state", "shown"), [("exact", 1), ("wrong", 2), ("valid", 1), ("valid, not exact", 0), ("invalid", 2), ("all", 3)]
)
def test_puzzles_are_filtered_by_outcome(client: TestClient, state: str, shown: int) -> None:
    text = get(client, "puzzles", run="run-1", state=state)
    assert text.count('<li class="card">') == shown
    assert f"{shown} with outcome {state}" in words(text)


def test_puzzles_go_on_after_the_last_one_shown(client: TestClient) -> None:
    text = get(client, "puzzles", run="run-1", after="0")
    assert re.findall(r"<h2>sudoku (\d)</h2>", text) == ["2", "3"]


def test_votes_show_the_grids_of_most_votes(client: TestClient) -> None:
    text = words(get(client, "votes", run="run-1"))
    assert "no vote of 4 views for the right grid" in text
    assert "right grid at place 3 of 3" in text
    assert "3 votes 2x2" in text
    assert "1 vote 1x1" in text
    assert "test 1x1" in text  # the test input, which a solve stage recorded; the second test has none
    assert get(client, "votes", run="run-1", state="no vote").count('<li class="card">') == 1
    assert get(client, "votes", run="run-1", after="aaaa0001/0").count('<li class="card">') == 1


def test_the_page_of_a_run_has_the_scores_of_its_evaluations(client: TestClient) -> None:
    text = words(get(client, "run", id="run-1"))
    assert "judge sudoku 33.3% [6.1, 79.2] 33.3% [6.1, 79.2] 95.8% 3 4 " in text
    assert "count 0.0% [0.0, 79.3] 0.0% [0.0, 79.3] 50.0% 1 2 " in text  # two tests of one task
    assert "lengths parity 30.0% [14.5, 51.9] 50.0% 20 2 " in text
    live = client.get("/live/run", params={"id": "run-2"}).json()["replace"]["stages"]
    for scores in ("judge sudoku 100.0% [43.9, 100.0]", "count 100.0% [20.7, 100.0]", "lengths parity 90.0% [69.9, "):
        assert scores in words(html.unescape(live))


def test_sequences_are_shown_by_difficulty(client: TestClient) -> None:
    text = get(client, "sequences", run="run-1")
    assert "Chart of right sequences. right: 0.5 at difficulty 1, 0.1 at difficulty 2" in text
    assert "1 10 50.0%" in words(text)


def test_tasks_link_to_what_else_was_evaluated(client: TestClient) -> None:
    for page in ("tasks", "puzzles", "votes", "sequences"):
        text = get(client, page, run="run-2")
        tabs = re.findall(r'<a href="(/\w+\?run=run-2)"( aria-current="page")?>', text.partition("Kinds of tasks")[2])
        assert [address for address, _ in tabs][:4] == [
            f"/{one}?run=run-2" for one in ("tasks", "puzzles", "votes", "sequences")
        ]
        assert [address for address, current in tabs if current] == [f"/{page}?run=run-2"]


@pytest.mark.parametrize(
    ("kind", "won", "lost", "both", "p"),
    [("tasks", 1, 0, 1, "p = 1"), ("puzzles", 2, 0, 1, "p = 0.5"), ("votes", 2, 0, 0, "p = 0.5")],
)
def test_items_of_two_runs_are_paired(client: TestClient, kind: str, won: int, lost: int, both: int, p: str) -> None:
    text = words(get(client, "compare", kind=kind, a="run-1", b="run-2"))
    for label, count in (("won by b", won), ("lost by b", lost), ("both", both), ("exact sign test", p)):
        assert f"{label} {count} " in text, label
    page = get(client, "compare", kind=kind, a="run-1", b="run-2", outcome="won")
    assert page.count('<li class="card">') == won
    back = words(get(client, "compare", kind=kind, a="run-2", b="run-1"))
    assert f"lost by b {won} " in back


def test_trainings_are_compared_by_their_curves_and_settings(client: TestClient) -> None:
    text = get(client, "compare", kind="training", a="run-1", b="run-2")
    (drawn,) = re.findall(r'aria-label="Chart of ([^"]*)"', text)
    assert drawn.startswith("loss. a: run-1: 2 at step 1, ")
    assert "b: run-2: 1 at step 1" in drawn
    assert "pretrain steps: 10 -> 20" in words(text)
    assert "loss 0.05128 0.05263 0.00135 39 19" in words(text)
    assert "lr - 0.05263 - - 19" in words(text)


def test_without_runs_the_latest_two_of_one_name_are_compared(client: TestClient) -> None:
    text = get(client, "compare", kind="puzzles")
    assert re.findall(r'<option value="([^"]*)" selected', text) == ["run-1", "run-2"]


def test_sequences_are_compared_by_difficulty(client: TestClient) -> None:
    text = words(get(client, "compare", kind="sequences", a="run-1", b="run-2"))
    assert re.search(r"2 10\.0% \[[^]]*\] 90\.0% \[[^]]*\] \+80\.0", text)


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("puzzles", {"state": "x"}), ("puzzles", {"run": "nowhere"}), ("votes", {"run": "run-1", "stage": "x"}),
        ("sequences", {"run": "run-1", "stage": "x"}), ("compare", {"kind": "x"}),
        ("compare", {"kind": "puzzles", "a": "nowhere", "b": "run-1"}),
    ],
)  # fmt: skip
def test_an_unknown_evaluation_is_a_page_of_its_own(client: TestClient, page: str, query: dict[str, str]) -> None:
    assert "Not found" in get(client, page, 404, **query)


@pytest.mark.parametrize("page", ["puzzles", "votes", "sequences", "compare", "paths", "checkpoint"])
def test_a_workspace_without_evaluations_has_pages_that_say_how_to_make_one(
    tmp_path_factory: pytest.TempPathFactory, page: str
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("empty") / "gridloom")
    with client_of(workspace) as empty:
        assert 'class="empty"' in get(empty, page)
    assert not workspace.root.exists()
    with LedgerWriter(workspace, "run-1"):
        pass
    with client_of(workspace) as empty:
        assert 'class="empty"' in get(empty, page)


def test_a_single_run_of_a_sweep_is_compared_stage_by_stage(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without a choice both sides are the run, with unlike stages; a stage that is chosen stays."""
    workspace = Workspace(tmp_path_factory.mktemp("swept") / "gridloom")
    with LedgerWriter(workspace, "swept") as writer:
        for stage, loss in (("learn@1", 3.0), ("learn@2", 2.0)):
            metric = {"run_id": "swept", "stage": stage, "name": "loss"}
            writer.append(StageRecord(run_id="swept", stage=stage, status="done", started_at=EPOCH))
            writer.append(*(MetricRecord(**metric, step=step, value=loss, recorded_at=EPOCH) for step in (1, 2)))
    with client_of(workspace) as swept:

        def sides(**query: str) -> list[str]:
            return re.findall(r"<option selected>(learn@\d)", get(swept, "compare", **query))

        assert sides() == ["learn@1", "learn@2"]
        assert sides(a="swept", b="swept") == ["learn@1", "learn@2"]
        assert sides(a="swept", b="swept", a_stage="learn@2") == ["learn@2", "learn@1"]
        assert sides(a="swept", b="swept", b_stage="learn@1") == ["learn@2", "learn@1"]
        assert sides(a="swept", b="swept", a_stage="learn@1", b_stage="learn@1") == ["learn@1", "learn@1"]
        assert "Chart of loss" in get(swept, "compare")


def test_equal_votes_stand_in_the_order_of_the_count(tmp_path: Path) -> None:
    """The grid whose views halted more surely is the first, also where an earlier view gave another."""
    workspace = Workspace(tmp_path / "gridloom")
    halting = {0: -800.0, 1: 2.0, 2: 0.5}
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(
            EvaluationRecord(
                run_id="run-1", stage="count", vote_stage="vote", task_id="a", test_index=0, rank=0, votes=1,
                num_candidates=3, num_views=3, num_cast=3, shape_match=True, cell_accuracy=1.0,
            ),
            *(
                PredictionRecord(
                    run_id="run-1", stage="vote", task_id="a", test_index=0, view_index=view, view="", grid=[[view]],
                    q_halt=logit,
                )
                for view, logit in halting.items()
            ),
            *(
                TaskRecord(
                    run_id="run-1", stage=stage, task_id="a", subset="s", demos=[], check_demos=[], tests=[[[colour]]]
                )
                for stage, colour in (("one", 8), ("other", 9))
            ),
        )  # fmt: skip
    with client_of(workspace) as made:
        text = get(made, "votes")
        (compared,) = re.findall(
            r'<li class="card">.*?</li>', get(made, "compare", kind="votes", a="run-1", b="run-1"), re.DOTALL
        )
    assert re.findall(r'data-grid="([^"]*)"', text) == ["1", "2", "0"]  # no input: the recorded graph names no data
    assert re.findall(r'data-grid="([^"]*)"', compared) == ["1", "1"]


def own_task(colour: int) -> Task:
    """A task of the id aaaa0001 whose one test input is a cell of a colour."""
    return Task("aaaa0001", "s", (), (np.array([[colour]], dtype=np.uint8),))


def test_votes_show_the_input_of_the_data_that_was_read(tmp_path: Path) -> None:
    """Where solve stages on data of another key recorded another task of the same id, theirs is not shown."""
    workspace, store = Workspace(tmp_path / "gridloom"), ArtifactStore(Workspace(tmp_path / "gridloom"))
    with LedgerWriter(workspace, "other") as writer:
        solving = graph().model_copy(
            update={
                "nodes": (
                    node("arc1", "arc", produces="dataset", key="gl1:elsewhere"),
                    node("solve", "solve", inputs={"data": "arc1"}, key="gl1:solved"),
                )
            }
        )
        task = {"task_id": "aaaa0001", "subset": "s", "demos": [], "check_demos": []}
        writer.append(
            RunRecord(run_id="other", graph=solving.to_json(), started_at=EPOCH),
            TaskRecord(run_id="other", stage="solve", tests=[[[8]]], **task),
            attempt("aaaa0001", 1, run_id="other"),
        )
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(RunRecord(run_id="run-1", graph=graph().to_json(), started_at=EPOCH), *evaluations("run-1"))

    def drawn() -> list[str]:
        with client_of(workspace) as made:
            card = get(made, "votes", run="run-1", state="no vote").partition("test 1</h2>")[2]
        return re.findall(r'data-grid="([^"]*)"', card)

    votes = ["12/34", "7"]
    assert drawn() == votes
    with LedgerWriter(workspace, "solved") as writer:
        writer.append(
            RunRecord(run_id="solved", graph=graph().to_json(), started_at=EPOCH - 9),
            TaskRecord(run_id="solved", stage="solve", tests=[[[6]]], **task),
            attempt("aaaa0001", 1, run_id="solved"),
        )
    assert drawn() == ["6", *votes]  # a solve stage on the same data recorded it
    tasks = (own_task(5),)
    with store.writing("gl1:arc1") as out:
        save_dataset(out, Dataset(tasks, 3, tasks_digest(tasks), Augment(), "v"))
        store.publish(out, key="gl1:arc1", type="dataset", kind="arc", producer={"stage": "arc1"}, inputs={})
    assert drawn() == ["5", *votes]  # the data itself
    (folder,) = (workspace.root / "artifacts").glob("*arc1*")
    (folder / "tasks.json").chmod(0o644)
    (folder / "tasks.json").write_text("{", encoding="utf-8")
    os.utime(folder, (1, 1))
    assert drawn() == ["6", *votes]  # damaged: what solve stages recorded


@pytest.fixture(scope="module")
def of_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    workspace = fill(Workspace(tmp_path_factory.mktemp("three") / "gridloom"))
    fill_third(workspace)
    with client_of(workspace) as made:
        yield made


def rows_of(text: str, region: str) -> list[list[str]]:
    """The cells of the rows of a table."""
    body = text.partition(f'aria-label="{region}"')[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [[words(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in body.split("</tr>")[:-1]]


def test_several_runs_are_compared_with_the_earliest(of_three: TestClient) -> None:
    asked = {"kind": "puzzles", "run": ["run-3", "run-2", "run-1"]}
    text = html.unescape(of_three.get("/compare", params=asked).text)
    assert [(row[0], row[1]) for row in rows_of(text, "Runs")] == [("a", "run-1"), ("b", "run-2"), ("c", "run-3")]
    first, second, third = rows_of(text, "Runs")
    assert first[3] == "33.3%"
    assert second[3:10] == ["100.0%", "+66.7 points over 3", "2", "0", "1", "0", "p = 0.5"]
    assert third[3:10] == ["33.3%", "+0.0 points over 3", "0", "0", "1", "2", "-"]
    assert rows_of(text, "Items that not all answered alike") == [
        ["puzzle 2", "failed", "solved", "failed"], ["puzzle 3", "failed", "solved", "failed"],
    ]  # fmt: skip
    others = {"kind": "puzzles", "a": "run-2", "b": ["run-1", "run-3", "run-2", ""]}
    changed = html.unescape(of_three.get("/compare", params=others).text)
    assert [row[1] for row in rows_of(changed, "Runs")] == ["run-2", "run-1", "run-3"]
    pair = re.findall(r'href="([^"]*)" aria-label="leave out run-3"', changed)
    assert "Compare two runs" in of_three.get(pair[0]).text


@pytest.mark.parametrize("kind", ["tasks", "votes", "sequences", "training"])
def test_several_runs_are_compared_in_every_kind(of_three: TestClient, kind: str) -> None:
    text = html.unescape(of_three.get("/compare", params={"kind": kind, "run": ["run-3", "run-2", "run-1"]}).text)
    assert "<h1>Compare 3 runs</h1>" in text
    for address in re.findall(r'href="(/compare[^"]*)"', text):
        assert of_three.get(address).status_code == 200, address
    if kind == "training":
        assert "a: run-1: 2 at step 1" in text
        assert "c: run-3: 3 at step 1" in text
        assert rows_of(text, "Last values")[0] == ["loss", "0.05128 at 39", "0.05263 at 19", "0.3333 at 9"]
    if kind == "sequences":
        assert [row[0] for row in rows_of(text, "Right sequences by difficulty")] == ["1", "2"]
        assert "c: run-3: 0.5 at difficulty 1" in text


def test_a_single_chosen_run_is_compared_with_the_latest_other(of_three: TestClient) -> None:
    for query, expected in (({"run": "run-2"}, ["run-2", "run-3"]), ({"b": "run-3"}, ["run-2", "run-3"])):
        text = html.unescape(of_three.get("/compare", params={"kind": "puzzles"} | query).text)
        assert re.findall(r'<option value="([^"]*)" selected', text) == expected
