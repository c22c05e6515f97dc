"""The evaluate stage on sequences: shares as recounted from the answers, a row a difficulty, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from train_support import StopAfter, stage_context

from gridloom.cli.show.sequences import sequence_lines
from gridloom.compiler.graph import StageNode
from gridloom.errors import ModelError, StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.sequences.artifact import SequenceSpec, save_sequences
from gridloom.runtime.data.sequences.vectors import vector_rows
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.evaluation.sequences import SequenceTally
from gridloom.runtime.evaluation.stage import EvaluateRows
from gridloom.runtime.models.act_rnn.network import ActRnn
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.sequence_rows import sequence_rows
from gridloom.runtime.models.steps import Answers, Rows
from gridloom.runtime.training.material import MODELS
from gridloom.runtime.training.validate import RowValidator, ValidationRows
from gridloom.specs.puzzles import AdditionData, CopyData, LogicData, ParityData
from gridloom.specs.stages import EvaluateStage
from gridloom.specs.validation import Validation
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

RNN = ActRnnModel(hidden_size=8)
TRM = TrmModel(hidden_size=16, num_heads=2, layers=1, H_cycles=1, L_cycles=1, halt_max_steps=3, precision="fp32")
SUMS = AdditionData(numbers=3, digits=2, fixed_length=False)


def checkpoint(folder: Path, data: SequenceSpec, spec: Any = RNN, seed: int = 0) -> Artifact:
    """A checkpoint with random weights for rows of a task."""
    shape, _ = sequence_rows(data, spec.reads)
    ids = PuzzleIds.of(())
    network: Network = (
        MODELS.get(spec.kind).builder().for_rows(spec, shape, ids, generator=torch.Generator().manual_seed(seed))
    )
    meta = {"data": {"kind": data.kind}, "stage": "learn", "steps": 7}
    save_bundle(folder, Bundle({NETWORK: network}, ids, meta=meta))
    return Artifact(f"gl1:{folder.name}", "checkpoint", folder, {})


def evaluate(root: Path, data: SequenceSpec, members: list[Artifact], stop: Any = None, **fields: Any) -> Any:
    context = stage_context(root, stop)
    folder = root / "data"
    folder.mkdir(exist_ok=True)
    save_sequences(folder, data.model_dump(mode="json"))
    names = [member.path.name for member in members]
    spec = EvaluateStage.model_validate({"with": names[0], "ensemble": tuple(names[1:]), "data": "rows", **fields})
    written = spec.model_dump(mode="json", by_alias=True)
    node = StageNode(name="judge", kind="evaluate", version=1, produces="evaluation", spec=written)
    inputs = {"with": members[0], **{f"ensemble.{i}": one for i, one in enumerate(members[1:])}}
    EvaluateRows().run(node, {**inputs, "data": Artifact("gl1:rows", "sequences", folder, {})}, context)
    context.ledger.close()
    return json.loads((root / "out" / "report.json").read_text())


def partly(network: ActRnn, rows: Rows, steps: Any = None, halting: Any = None, same: Any = None) -> Answers:
    """Answers that are right but for every fifth place."""
    assert rows.labels is not None
    places = torch.arange(rows.labels.shape[1])
    tokens = torch.where((places + rows.labels.sum(dim=1, keepdim=True)) % 5 == 0, 0, rows.labels)
    made = torch.ones(len(tokens), dtype=torch.int32)
    return Answers(tokens, torch.zeros(len(tokens)), made, len(tokens))


def test_counts_equal_those_of_a_plain_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ActRnn, "answer", partly)
    report = evaluate(tmp_path, SUMS, [checkpoint(tmp_path / "rnn", SUMS)], limit=70, batch_size=16)
    rows = vector_rows(SUMS, 0, 70, "test")
    wrong = (np.arange(9) + rows.labels.astype(np.int64).sum(axis=1, keepdims=True)) % 5 == 0
    scored, right = rows.labels != 0, (rows.labels != 0) & ~wrong
    asked = scored.any(axis=1)
    assert asked.sum() == report["num_scored"] < report["num_sequences"] == 70
    assert report["accuracy_place"] == report["accuracy"] == pytest.approx(right.sum() / scored.sum())
    steps = scored.reshape(70, 3, 3).any(axis=2)
    whole = (scored == right).reshape(70, 3, 3).all(axis=2) & steps
    assert report["accuracy_step"] == pytest.approx(whole.sum() / steps.sum())
    exact = (scored == right).all(axis=1)[asked].mean()
    assert 0 < exact < report["accuracy_step"] < report["accuracy_place"] < 1
    assert report["accuracy_sequence"] == pytest.approx(exact)
    assert report["accuracy_sequence_interval"] == pytest.approx(wilson(exact, int(asked.sum())))
    table = report["by_difficulty"]
    assert [row["difficulty"] for row in table] == [1, 2, 3]
    assert [row["rows"] for row in table] == np.bincount(rows.lengths, minlength=4)[1:].tolist()
    assert table[0]["accuracy_sequence"] is None
    ledger = Ledger(Workspace(tmp_path / "home"))
    found = ledger.rows("select num_rows, num_places_right from difficulties order by difficulty")
    assert [row["num_rows"] for row in found] == [row["rows"] for row in table]
    assert sum(row["num_places_right"] for row in found) == right.sum()
    named = {row["name"]: row["value"] for row in ledger.rows("select name, value from metrics where stage = 'judge'")}
    names = "accuracy_place accuracy_sequence accuracy_step act_steps steps steps_p50 steps_p90"
    assert set(names.split()) <= set(named)
    assert named["exact"] == named["accuracy_sequence"] == pytest.approx(exact)


@pytest.mark.parametrize("data", [SUMS, LogicData(steps=4, gates=2), ParityData(bits=9, layout="sequence"), CopyData()])
def test_a_network_that_answers_every_row_scores_one(
    data: SequenceSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def known(network: ActRnn, rows: Rows, steps: Any = None, halting: Any = None, same: Any = None) -> Answers:
        assert rows.labels is not None
        made = torch.arange(1, len(rows.labels) + 1, dtype=torch.int32)
        natural = torch.full((len(rows.labels),), 0.75)
        guess = torch.where(rows.labels == 0, 1, rows.labels)  # what is said where nothing is asked does not count
        return Answers(guess, torch.zeros(len(guess)), made, int(made.sum()), None, made / 2, natural)

    monkeypatch.setattr(ActRnn, "answer", known)
    report = evaluate(tmp_path, data, [checkpoint(tmp_path / "rnn", data)], limit=20)
    assert [report[f"accuracy{name}"] for name in ("", "_place", "_step", "_sequence")] == [1.0] * 4
    assert (report["act_steps"], report["act_steps_p50"]) == (5.25, 5.25)
    assert report["act_steps_p90"] == pytest.approx(np.quantile(np.arange(1, 21) / 2, 0.9))
    assert (report["halt_natural"], report["halt_forced"]) == (0.75, 0.25)


def test_rows_of_other_lengths_are_answered_and_those_of_another_form_refused(tmp_path: Path) -> None:
    data = ParityData(bits=6, width=12)
    member = checkpoint(tmp_path / "rnn", data)
    report = evaluate(tmp_path, ParityData(bits=12, min_bits=10, width=12), [member], limit=30)
    assert [row["difficulty"] for row in report["by_difficulty"]] == [10, 11, 12]
    sequence = checkpoint(tmp_path / "long", LogicData(steps=3, gates=2))
    report = evaluate(tmp_path / "b", LogicData(steps=30, gates=2), [sequence], limit=8)
    assert report["num_sequences"] == 8
    with pytest.raises(ModelError, match="vectors of 7, not vectors of 12"):
        evaluate(tmp_path / "c", ParityData(bits=7), [member], limit=8)
    with pytest.raises(ModelError, match="ask for 4 a cell or time step, not 3"):
        evaluate(tmp_path / "d", AdditionData(numbers=11, digits=2), [checkpoint(tmp_path / "sums", SUMS)], limit=8)
    with pytest.raises(ModelError, match="trained on addition data, wanted parity"):
        evaluate(tmp_path / "e", data, [checkpoint(tmp_path / "other", SUMS)], limit=8)
    tokens = checkpoint(tmp_path / "trm", CopyData(length=4), TRM)
    with pytest.raises(ModelError, match="they have 7 tokens, not 5, and a trm runs on one length only"):
        evaluate(tmp_path / "f", CopyData(length=6), [tokens], limit=8)


def test_fixed_steps_of_a_network_of_tokens_are_all_made(tmp_path: Path) -> None:
    data = CopyData(length=4)
    member = checkpoint(tmp_path / "trm", data, TRM)
    report = evaluate(tmp_path, data, [member], limit=12, halt="fixed", act_steps=5)
    assert report["act_steps"] == report["act_steps_p90"] == 5
    assert report["evaluated"]["halt"] == "fixed"
    assert (
        report["accuracy_place"] == evaluate(tmp_path / "none", data, [member], limit=12, act_steps=5)["accuracy_place"]
    )


def test_most_members_decide(tmp_path: Path) -> None:
    data = LogicData(steps=3, gates=1)
    members = [checkpoint(tmp_path / name, data, seed=seed) for seed, name in enumerate(("one", "two", "three"))]
    report = evaluate(tmp_path, data, [members[0], members[1], members[1]], limit=40)
    alone = evaluate(tmp_path / "alone", data, [members[1]], limit=40)
    assert report["accuracy_sequence"] == alone["accuracy_sequence"]
    assert [one["exact"] for one in report["members"]][1:] == [alone["accuracy_sequence"]] * 2
    assert len(report["evaluated"]["ensemble"]) == 3


def test_a_stop_interrupts_and_lines_show_ranges_of_difficulty(tmp_path: Path) -> None:
    data = ParityData(bits=20)
    member = checkpoint(tmp_path / "rnn", data)
    with pytest.raises(StageInterrupted, match="at row 16 of 64"):
        evaluate(tmp_path / "stopped", data, [member], StopAfter(1), limit=64, batch_size=16)
    report = evaluate(tmp_path, data, [member], limit=200)
    lines = list(sequence_lines("judge", report, lambda made: "checkpoint X"))
    assert lines[0] == "judge  parity, 200 rows of the test stream, checkpoint X"
    ranges = [line.split(":")[0].split()[-1] for line in lines[3:]]
    assert ranges == ["1-3", "4-6", "7-9", "10-12", "13-15", "16-18", "19-20"]


def test_rows_that_ask_for_nothing_have_no_share() -> None:
    tally = SequenceTally(2)
    tokens = torch.ones(3, 4, dtype=torch.uint8)
    made = Answers(tokens, torch.zeros(3), torch.ones(3, dtype=torch.int32), 3)
    tally.add(torch.zeros(3, 4, dtype=torch.uint8), np.ones(3, dtype=np.int32), made)
    assert tally.num_scored == 0
    assert tally.figures() == {"act_steps": 1.0, "act_steps_p50": 1.0, "act_steps_p90": 1.0}


def test_a_validation_counts_no_row_that_asks_for_nothing() -> None:
    rows = vector_rows(SUMS, 0, 40, "validation")
    asked = (rows.labels != 0).any(axis=1)
    assert 0 < asked.sum() < 40
    network = cast(Any, SimpleNamespace(device=torch.device("cpu"), spec=RNN))
    wrong = Answers(torch.zeros(40, 9, dtype=torch.uint8), torch.zeros(40), torch.full((40,), 3), 120)
    network.answer = lambda given, steps: wrong
    batch = ValidationRows(rows.inputs, rows.labels, rows.valid)
    validator = RowValidator(lambda first, end: batch, 40, "addition rows", Validation(split="validation"))
    figures = validator.figures([validator.answer(network, 0)])
    assert (figures["exact"], figures["cell_accuracy"], figures["act_steps"]) == (0, 0, 3)
    nothing = ValidationRows(rows.inputs, np.zeros_like(rows.labels), rows.valid)
    validator = RowValidator(lambda first, end: nothing, 40, "addition rows", Validation(split="validation"))
    with pytest.raises(StageError, match="none of 40 addition rows asks for anything"):
        validator.figures([validator.answer(network, 0)])
