"""An evaluation by an ensemble: the votes of its members are added, and each member is named and counted by itself."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hashed_files import manifest_of
from rich.console import Console
from vote_support import MODEL, VotePlace

from gridloom.cli.show.run_results import print_results
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.tokens import encode
from gridloom.runtime.data.arc.views import parse_name
from gridloom.runtime.evaluation.ballots import rank
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import TrmHybridModel
from gridloom.runtime.models.steps import Answers, Rows
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import PredictionRecord

HYBRID = TrmHybridModel(hidden_size=32, num_heads=2, layers=1, expansion=1.0, puzzle_embedding_len=1, precision="fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> VotePlace:
    return VotePlace(tmp_path_factory.mktemp("ensemble"))


@pytest.fixture(scope="module")
def members(place: VotePlace) -> tuple[Artifact, ...]:
    """One that learnt the tasks by heart, another seed after a few steps, and a z_init hybrid's network."""
    return (place.another("seed4", MODEL, 4, 50), place.checkpoint, place.another("hybrid", HYBRID, 5, 50))


@pytest.fixture(scope="module")
def whole(place: VotePlace, members: tuple[Artifact, ...]) -> Path:
    return place.vote("together", members=members, early_stop=False)


def entries_of(folder: Path) -> list[dict[str, Any]]:
    tasks = json.loads((folder / "votes.json").read_text())["tasks"]
    return [test for entries in tasks.values() for test in entries]


def test_votes_are_the_sum_of_those_of_the_members_alone(
    place: VotePlace, members: tuple[Artifact, ...], whole: Path
) -> None:
    alone = [entries_of(place.vote(f"alone-{m.path.name}", members=(m,), early_stop=False)) for m in members]
    assert alone[0] != alone[1] != alone[2]  # members that agree everywhere would show nothing
    for number, test in enumerate(entries_of(whole)):
        votes, halting = defaultdict(int), defaultdict(float)
        for member in alone:
            for candidate in member[number]["candidates"]:
                votes[str(candidate["grid"])] += candidate["votes"]
                halting[str(candidate["grid"])] += candidate["votes"] * candidate["confidence"]
        told = {str(c["grid"]): (c["votes"], c["confidence"]) for c in test["candidates"]}
        assert {grid: found[0] for grid, found in told.items()} == votes
        for grid, (count, confidence) in told.items():
            assert confidence == pytest.approx(halting[grid] / count, abs=1e-4)
        order = [rank(c["votes"], c["confidence"]) for c in test["candidates"]]
        assert order == sorted(order)
        for member, own in zip(alone, test["members"], strict=True):
            assert [(c["grid"], c["votes"]) for c in own["candidates"]] == [
                (c["grid"], c["votes"]) for c in member[number]["candidates"]
            ]
        assert test["num_cast"] == test["num_views"] == 24


def test_early_stop_leaves_rows_of_a_settled_member_out_and_changes_no_pick(
    place: VotePlace, members: tuple[Artifact, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    two = members[1:]
    known = {found.network.spec.kind: found.puzzle_ids.names for found in (load_bundle(member.path) for member in two)}

    def scripted(network: RecursiveNetwork, rows: Rows, *_: Any) -> Answers:
        """Colours by the turn of a view: 0 0 0 0 0 1 1 2 says the TRM, 0 0 0 0 1 1 1 2 the hybrid."""
        last, names = 5 if network.spec.kind == "trm" else 4, known[network.spec.kind]
        tokens = []
        for puzzle in rows.puzzle_ids.tolist():
            task_id, view = parse_name(names[puzzle])
            turn = [name for name in names if name.startswith(task_id)].index(names[puzzle])
            grid = np.full((1, 2), 0 if turn < last else 1 if turn < 7 else 2, dtype=np.uint8)
            tokens.append(encode(view.apply(grid), network.canvas))
        run = len(rows.inputs)
        return Answers(torch.from_numpy(np.stack(tokens)), torch.zeros(run), torch.ones(run, dtype=torch.int32), run)

    monkeypatch.setattr(RecursiveNetwork, "answer", scripted)
    full = entries_of(place.vote("full-scripted", members=two, early_stop=False))
    early = entries_of(place.vote("early-scripted", members=two, batch_size=4))
    for short, long in zip(early, full, strict=True):
        # after seven turns of each, all votes are 9 : 5 and the TRM's 5 : 2, but the hybrid's 4 : 3 are open
        assert [own["num_cast"] for own in short["members"]] == [7, 8]
        assert (short["num_cast"], long["num_cast"]) == (15, 16)
        for a, b in ((short, long), *zip(short["members"], long["members"], strict=True)):
            assert [c["grid"] for c in a["candidates"][:2]] == [c["grid"] for c in b["candidates"][:2]]


def test_report_names_every_member_and_its_own_score(
    place: VotePlace, members: tuple[Artifact, ...], whole: Path
) -> None:
    report = place.count("together", whole)
    assert "checkpoint" not in report["evaluated"]
    named = [{name: one[name] for name in ("checkpoint", "stage", "steps")} for one in report["evaluated"]["ensemble"]]
    assert named == [
        {"checkpoint": "gl1:seed4", "stage": "seed4", "steps": 50},
        {"checkpoint": "gl1:pretrain", "stage": "pretrain", "steps": 160},
        {"checkpoint": "gl1:hybrid", "stage": "hybrid", "steps": 50},
    ]
    for member, told in zip(members, report["members"], strict=True):
        alone = place.vote(f"alone-{member.path.name}", members=(member,), early_stop=False)
        counted = place.count(f"alone-{member.path.name}", alone)
        assert told["pass_at"] == counted["pass_at"]
        assert told["cell_accuracy"] == counted["cell_accuracy"]
    predictions = place.ledger.read(PredictionRecord, run_id="together")
    assert {p.checkpoint_key for p in predictions} == {"gl1:seed4", "gl1:pretrain", "gl1:hybrid"}
    assert len(predictions) == 4 * 24

    shown = io.StringIO()
    node = StageNode(name="judge", kind="count_votes", version=1, produces="evaluation", spec={})
    folder = place.root / "report-together"
    made = {"judge": Artifact("gl1:judge", "evaluation", folder, manifest_of(folder))}
    print_results(
        Console(file=shown, width=120),
        RunResult("run", ("judge",), (), made, 1.0),
        RunGraph(name="x", seed=0, device="cpu", nodes=(node,)),
        place.workspace,
        show_tasks=False,
        quiet=False,
    )
    assert "an ensemble of 3 checkpoints" in shown.getvalue()
    alone_line = f"checkpoint gl1:pretrain (step 160) alone: pass@1 {report['members'][1]['pass_at']['1']:.1%}"
    assert alone_line in shown.getvalue()
