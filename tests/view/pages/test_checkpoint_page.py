"""Checkpoints stepped through: sudokus, packed rows, sequences, an engine's paths, and choices that do not fit."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from engine_support import engine
from packed_support import DATASET
from starlette.testclient import TestClient
from stepping_support import publish_checkpoints
from view_support import client_of, graph, node

from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.dataset import save_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.kind import RowShape
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.evaluation_records import DifficultyRecord
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import ArtifactRecord, RunRecord
from gridloom.stores.workspace import Workspace


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    workspace = publish_checkpoints(Workspace(tmp_path_factory.mktemp("checkpoint") / "gridloom"))
    with client_of(workspace) as made:
        yield made


def page(client: TestClient, status: int = 200, **choice: object) -> str:
    answer = client.get("/checkpoint", params={name: str(value) for name, value in choice.items()})
    assert answer.status_code == status, answer.text
    return answer.text


def frames(text: str) -> list[str]:
    return re.findall(r'data-frames="([^"]*)"', text)[0].split("|")


def test_a_sudoku_is_stepped_through_in_digits(client: TestClient) -> None:
    text = page(client, checkpoint="gl1:trm", data="gl1:sudokus")
    assert len(frames(text)) == 3
    assert 'data-letters="? 123456789"' in text
    assert "1115/4523/3254/5432" in text  # the question: blanks are 1, digit d is d + 1
    assert "2345/4523/3254/5432" in text  # its answer
    assert len(frames(page(client, checkpoint="gl1:trm", data="gl1:sudokus", steps=5))) == 5
    raw = page(client, checkpoint="gl1:trm", data="gl1:sudokus", weights="raw")
    assert "the checkpoint has one set of weights" in raw


def test_the_paths_of_an_engine_are_shown(client: TestClient) -> None:
    text = page(client, checkpoint="gl1:engine", data="gl1:sudokus")
    assert "Chart of weights of the paths. path 1:" in text
    (address,) = re.findall(r'href="(/paths[^"]*)"', text.partition("<main")[2])
    answer = client.get(html.unescape(address))
    assert answer.status_code == 200, answer.text
    assert "Weights of the paths in the last ACT step by item. sudoku 1 (gate" in answer.text
    calls = re.findall(r"call (\d) \(gate [\d.]+\): path 1 ([\d.]+), path 2 ([\d.]+), path 3 ([\d.]+)", answer.text)
    assert [number for number, *_ in calls] == ["1", "2", "3"]
    for _, *weights in calls:
        assert abs(sum(map(float, weights)) - 1) < 0.02
    rows = answer.text[answer.text.index('aria-label="Norms of the thoughts"') :].count("<tr>") - 1
    assert rows == 3


@pytest.mark.parametrize("choice", [{}, {"weights": "raw"}, {"steps": 1}, {"weights": "raw", "steps": 2}])
def test_the_paths_beside_one_another_are_those_of_the_same_weights_and_steps(
    client: TestClient, choice: dict[str, object]
) -> None:
    asked = {"checkpoint": "gl1:engine", "data": "gl1:sudokus"} | {name: str(value) for name, value in choice.items()}
    text = client.get("/paths", params=asked).text
    shown = re.findall(r"(sudoku 1|call \d) \(gate ([\d.]+)\): path 1 ([\d.]+), path 2 ([\d.]+), path 3 ([\d.]+)", text)
    (_, *overview), *calls = shown
    assert overview == [*calls[-1][1:]]
    assert str(choice.get("steps", 3)) == calls[-1][0].split()[1]


def test_the_page_of_paths_lists_engines_that_plan_alone(client: TestClient) -> None:
    text = client.get("/paths").text
    listed = re.findall(r'<option value="([^"]+)"', text)
    assert (listed[0], sorted(listed[1:])) == ("gl1:engine", ["gl1:parity", "gl1:sudokus", "gl1:tasks"])
    refused = client.get("/paths", params={"checkpoint": "gl1:trm", "data": "gl1:sudokus"})
    assert refused.status_code == 400
    assert "this checkpoint does not plan" in refused.text


def test_a_checkpoint_of_packed_rows_is_stepped_through(client: TestClient) -> None:
    text = html.unescape(page(client, checkpoint="gl1:packed", data="gl1:tasks", item=2))
    assert "packed rows: the network reads and writes a rectangle of 4x4 cells" in text
    assert len(frames(text)) == 3
    assert "16 positions changed" in text.partition("step 2")[0]
    assert "right answer" in text


@pytest.mark.parametrize("item", range(1, 6))
def test_a_sequence_is_stepped_through_in_words(client: TestClient, item: int) -> None:
    text = html.unescape(page(client, checkpoint="gl1:rnn", data="gl1:parity", item=item))
    assert f"parity {item}, difficulty" in text
    (question,) = re.findall(r'aria-label="question">([^<]*)<', text)
    (answer,) = re.findall(r'aria-label="right answer">([^<]*)<', text)
    assert set(question.split()) <= {"-", "0", "+"}
    entries = [one for one in question.split() if one != "0"]
    assert answer == ("odd" if entries.count("+") % 2 else "even")
    table = text[text.index('aria-label="Answers by step"') :].partition("</table>")[0]
    assert table.count("<tr>") == 1 + 4
    for row in table.split("<tr>")[2:]:
        assert ("<mark>" in row) == (">wrong<" in row)


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        ({"item": 2}, "no puzzle 2: there are 1"),
        ({"item": "x"}, "item is 'x'"),
        ({"steps": 65}, "65 ACT steps"),
        ({"steps": 0}, "0 ACT steps"),
        ({"weights": "best"}, "no weights 'best'"),
        ({"checkpoint": "gl1:none"}, "no artifact gl1:none"),
        ({"checkpoint": "gl1:sudokus"}, "is a puzzles, no checkpoint"),
        ({"checkpoint": "../../etc/passwd"}, "no artifact ../../etc/passwd"),
        ({"checkpoint": "shipped:../x"}, "ships no weights named"),
        ({"checkpoint": "shipped:trm-arc1-small"}, "trained on arc data, not sudoku"),
        ({"data": "gl1:trm"}, "has no items to step through"),
        ({"data": "gl1:parity"}, "trained on sudoku data, not parity"),
        ({"checkpoint": "gl1:rnn", "data": "gl1:parity", "item": 100_001}, "there are 100,000"),
    ],
)
def test_what_does_not_fit_is_named(client: TestClient, choice: dict[str, object], problem: str) -> None:
    given = {"checkpoint": "gl1:trm", "data": "gl1:sudokus"} | choice
    assert problem in html.unescape(page(client, 400, **given))


def test_a_damaged_checkpoint_is_named(client: TestClient) -> None:
    text = page(client)
    assert "gl1:engine" in text
    workspace = client.app.state.viewer.workspace  # type: ignore[attr-defined]
    artifact = ArtifactStore(workspace).find("gl1:engine")
    assert artifact is not None
    client.app.state.viewer.networks.__init__(workspace)  # type: ignore[attr-defined]
    (artifact.path / "trm.safetensors").chmod(0o644)
    (artifact.path / "trm.safetensors").write_bytes(b"damaged")
    found = html.unescape(page(client, 400, checkpoint="gl1:engine", data="gl1:sudokus"))
    assert "trm.safetensors" in found


@pytest.fixture(scope="module")
def planning_arc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Four ARC tasks, of which two fit the canvas of 4x4 cells of an engine that plans."""
    workspace = Workspace(tmp_path_factory.mktemp("planning") / "gridloom")
    store, records = ArtifactStore(workspace), []
    network = engine(RowShape(4, 16, 12), planning={"paths": 3, "depth": 2, "gate": True}).eval()
    fillers = {
        "checkpoint": lambda out: save_bundle(out, Bundle({NETWORK: network}, PuzzleIds.of(()))),
        "dataset": lambda out: save_dataset(out, replace(DATASET, packed=False)),
    }
    for kind, filler in fillers.items():
        with store.writing(f"gl1:{kind}") as out:
            filler(out)
            store.publish(out, key=f"gl1:{kind}", type=kind, kind=kind, producer={"stage": kind}, inputs={})
        records.append(
            ArtifactRecord(key=f"gl1:{kind}", type=kind, kind=kind, run_id="run-1", stage=kind, bytes=1, created_at=1.0)
        )
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*records)
    with client_of(workspace) as made:
        yield made


@pytest.mark.parametrize("item", [1, 3])
def test_items_that_a_planner_cannot_read_are_named_beside_the_others(planning_arc: TestClient, item: int) -> None:
    asked = {"checkpoint": "gl1:checkpoint", "data": "gl1:dataset", "item": str(item)}
    answer = planning_arc.get("/paths", params=asked)
    text = html.unescape(answer.text)
    assert answer.status_code == (200 if item == 1 else 400)
    overview = text[text.index("Weights of the paths in the last ACT step by item") :].partition('"')[0]
    assert re.findall(r"task (t\d)", overview) == ["t0", "t1"]
    assert "item 3 is left out: a grid of 5x4, the canvas has 4" in text
    assert "item 4 is left out: a grid of 2x6, the canvas has 4" in text
    assert ("every planning call" in text) == (item == 1)
    assert re.findall(r'rel="(prev|next)"', text) == (["next"] if item == 1 else ["prev", "next"])


def test_paths_of_items_that_run_together_are_those_of_each_alone(planning_arc: TestClient) -> None:
    for item in (1, 2):
        asked = {"checkpoint": "gl1:checkpoint", "data": "gl1:dataset", "item": str(item)}
        text = planning_arc.get("/paths", params=asked).text
        shown = re.findall(
            r"(t\d, test 1|call \d) \(gate ([\d.]+)\): path 1 ([\d.]+), path 2 ([\d.]+), path 3 ([\d.]+)", text
        )
        rows = {name: values for name, *values in shown}
        alone = rows[max(name for name in rows if name.startswith("call"))]
        assert alone == rows[f"t{item - 1}, test 1"]
        assert rows["t0, test 1"] != rows["t1, test 1"]


def test_single_sequences_of_an_evaluation_are_answered(tmp_path: Path) -> None:
    workspace = publish_checkpoints(Workspace(tmp_path / "gridloom"))
    nodes = (
        node("parity", "parity", produces="sequences"),
        node("lengths", "evaluate", produces="report", inputs={"data": "parity"}),
        node("lost", "evaluate", produces="report", inputs={"data": "parity"}),
    )
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(RunRecord(run_id="run-1", graph=graph().model_copy(update={"nodes": nodes}).to_json()))
        for stage, key in (("lengths", "gl1:rnn"), ("lost", "gl1:removed")):
            writer.append(
                DifficultyRecord(
                    run_id="run-1", stage=stage, kind="parity", difficulty=1, num_rows=10, num_scored=10, num_right=9,
                    num_places=10, num_places_right=5, mean_steps=2.0, checkpoint_key=key,
                )
            )  # fmt: skip
    with client_of(workspace) as client:
        text = html.unescape(client.get("/sequences", params={"stage": "lengths"}).text)
        assert "halting probability" not in text
        (address,) = re.findall(r'href="(/sequences[^"]*)#answers"', text)
        first = html.unescape(client.get(address).text)
        (following,) = re.findall(r'rel="next" href="([^"]*)"', first)
        second = html.unescape(client.get(following).text)
        assert 'rel="prev"' in second
        lost = html.unescape(client.get("/sequences", params={"stage": "lost", "after": "0"}).text)
        assert "no artifact gl1:removed" in lost
        cards = re.findall(r'<li class="card">.*?</li>', first + second, re.DOTALL)
        assert len(cards) == 48
        for number in (1, 24, 30):
            (card,) = (one for one in cards if f">parity {number}, difficulty" in one)
            alone = page(client, checkpoint="gl1:rnn", data="gl1:parity", item=number)
            last = html.unescape(alone[alone.index('aria-label="Answers by step"') :].partition("</table>")[0])
            last = last.rpartition("<tr>")[2]
            assert (">wrong<" in card) == ("<mark>" in card) == (">wrong<" in last)
            assert re.findall(r"halting probability ([\d.]+)", card)[0] in last
            (question,) = re.findall(r'aria-label="question">([^<]*)<', card)
            assert f'aria-label="question">{question}<' in html.unescape(alone)
