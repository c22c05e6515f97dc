"""Ablation: whose latents a run gets, and what a comparison of reports may claim."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import solve_support
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror_task import mirror_task
from progress_support import Reporter
from solve_support import SOLVER, Place, make_bundle, place

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.models.adapters.network import TextToLatent
from gridloom.runtime.models.adapters.spec import TextToLatentModel
from gridloom.solvers.parts.ablation import ShuffledReasoner, partners
from gridloom.solvers.parts.scripted import ScriptedReasoner
from gridloom.solvers.replay.replay import replay
from gridloom.solvers.stages.ablate import Ablate, compare, paired_interval, sign_test
from gridloom.solvers.types import Plan
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import AttemptRecord


def report(solved: set[str], number: int = 10, latents: str = "own", **meta: Any) -> dict[str, Any]:
    return {
        "num_tasks": number,
        "solved": sorted(solved),
        "cell_accuracy": 0.5,
        "solved_with": {"data_digest": "d", "split": None, "num_tasks": number, "solver": {"latents": latents}, **meta},
    }


def first_attempts(made: Place) -> dict[str, AttemptRecord]:
    return {record.task_id: record for record in made.ledger.read(AttemptRecord) if record.attempt == 1}


@given(number=st.integers(2, 30), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_partners_are_other_tasks_and_no_two_the_same(number: int, seed: int) -> None:
    tasks = [Task(f"t{i:02}", "s", (), (np.zeros((1, 1), np.uint8),)) for i in range(number)]
    paired = partners(tasks, seed)
    assert all(task_id != other.task_id for task_id, other in paired.items())
    assert {other.task_id for other in paired.values()} == set(paired)
    assert {k: v.task_id for k, v in partners(tasks[::-1], seed).items()} == {k: v.task_id for k, v in paired.items()}


def test_shuffled_asks_about_the_partner_within_its_tests() -> None:
    one, two = mirror_task("one", num_tests=2), mirror_task("two")
    asked = ScriptedReasoner()
    shuffled = ShuffledReasoner(asked, partners([one, two], 0))
    prompt = shuffled.prompt(one, Plan(attempt=1, seed=0, focus=1), [])
    assert prompt.text == "two test input 1"
    reasoning = asyncio.run(shuffled.reason(prompt, Plan(attempt=1, seed=0), None))
    assert asked.prompts == ["two test input 1"]
    assert reasoning == asyncio.run(ScriptedReasoner().reason(prompt, Plan(attempt=1, seed=0), None))


def test_zero_is_the_mean_state_of_training_and_changes_nothing_else(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bundle(with_llama: bool = True) -> Any:
        made = make_bundle(with_llama)
        made.part("text_to_latent").standardise.fit(torch.arange(32.0).reshape(2, 16))  # type: ignore[union-attr,operator]
        return made

    monkeypatch.setattr(solve_support, "make_bundle", bundle)
    found = {}
    for latents in ("own", "zero"):
        made = place(tmp_path / latents, llama, settings={**SOLVER, "latents": latents})
        made.solve()
        found[latents] = first_attempts(made)
    for task_id, own in found["own"].items():
        zero = found["zero"][task_id]
        assert (zero.plan, zero.prompt, zero.text) == (own.plan, own.prompt, own.text)
        assert np.frombuffer(zero.latent or b"", dtype=np.float16).tolist() == [8.0 + i for i in range(16)]


def test_attempt_with_a_shuffled_latent_replays_bit_equal(tmp_path: Path, llama: Path) -> None:
    made = place(tmp_path / "shuffled", llama, settings={**SOLVER, "latents": "shuffled"})
    made.solve()
    assert replay(made.workspace, "aaaa0001.1").equal


def test_ablation_without_a_llama_is_refused(tmp_path: Path) -> None:
    made = Place(tmp_path / "trm", with_llama=False, settings={**SOLVER, "latents": "shuffled"})
    with pytest.raises(StageError, match="latents: shuffled needs a checkpoint of joint_train"):
        made.solve()


def test_token_states_are_recorded_read_and_replayed_bit_equal(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bundle(with_llama: bool = True) -> Any:
        made = make_bundle(with_llama)
        spec = TextToLatentModel(
            llm="llama", trm="trm", mode="cross_attention", bottleneck=16, attention_heads=2, sequence_tokens=30
        )
        made.parts["text_to_latent"] = TextToLatent.build(spec, 16, made.network)
        with torch.no_grad():
            made.part("text_to_latent").out.weight.normal_(std=0.3)
        return made

    monkeypatch.setattr(solve_support, "make_bundle", bundle)
    made = place(tmp_path / "tokens", llama)
    made.solve()
    for record in made.ledger.read(AttemptRecord):
        assert len(record.latent or b"") == 30 * 16 * 2
    assert replay(made.workspace, "aaaa0001.2").equal


def test_difference_is_paired_and_its_interval_covers_it() -> None:
    own, other = report({"a", "b", "c", "d"}), report({"a", "e"}, latents="shuffled")
    found = compare("shuffled", own, other)
    assert (found.own, found.other, found.only_own, found.only_other) == (0.4, 0.2, 3, 1)
    assert found.difference == pytest.approx(0.2)
    assert found.interval[0] < 0.2 < found.interval[1]
    assert found.p_value == pytest.approx(2 * (1 + 4) / 16)
    assert "makes no difference that these tasks can show" in found.line()


def test_clear_help_and_clear_harm_are_told_apart() -> None:
    many = {f"t{i}" for i in range(40)}
    helped = compare("zero", report(many, 50), report(set(), 50, "zero"))
    harmed = compare("zero", report(set(), 50), report(many, 50, "zero"))
    assert helped.interval[0] > 0
    assert helped.line().endswith("helps")
    assert harmed.interval[1] < 0
    assert harmed.line().endswith("harms")


@given(plus=st.integers(0, 20), minus=st.integers(0, 20), rest=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_interval_has_a_width_narrows_with_tasks_and_turns_with_the_sides(plus: int, minus: int, rest: int) -> None:
    number = plus + minus + rest + 1
    low, high = paired_interval(plus, minus, number)
    assert -1 <= low < high <= 1
    turned = paired_interval(minus, plus, number)
    assert turned == pytest.approx((-high, -low))
    wide = paired_interval(10 * plus, 10 * minus, 10 * number)
    assert wide[1] - wide[0] < high - low


def test_equal_runs_differ_by_nothing_within_an_interval_that_few_tasks_leave_wide() -> None:
    found = compare("zero", report({"a"}), report({"a"}, latents="zero"))
    assert (found.difference, found.p_value) == (0.0, 1.0)
    assert found.interval == pytest.approx((-0.1633, 0.1633), abs=1e-3)


@pytest.mark.parametrize(("plus", "minus", "p"), [(0, 0, 1.0), (5, 0, 2 / 32), (1, 1, 1.0), (6, 1, 2 * 8 / 128)])
def test_sign_test_is_exact(plus: int, minus: int, p: float) -> None:
    assert sign_test(plus, minus) == pytest.approx(p)
    assert sign_test(minus, plus) == pytest.approx(p)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (report({"a"}, number=11, latents="shuffled"), "num_tasks is 10 with own latents, 11 with shuffled"),
        (report({"a"}, latents="shuffled", data_digest="e"), "data_digest is 'd'"),
        (report({"a"}), "given as 'shuffled' was made with latents: own"),
    ],
)
def test_reports_that_cannot_be_compared_are_refused(other: dict[str, Any], message: str) -> None:
    with pytest.raises(StageError, match=message):
        compare("shuffled", report({"a"}), other)


def test_report_of_another_kind_of_stage_is_refused(tmp_path: Path, llama: Path) -> None:
    (tmp_path / "report.json").write_text('{"evaluated": {}, "exact": 0.5}')
    inputs = {name: Artifact(f"gl1:{name}", "report", tmp_path, {}) for name in ("own", "shuffled")}
    node = StageNode(name="ablate", kind="ablate", version=1, produces="report", spec={})
    home = place(tmp_path / "home", llama)
    with LedgerWriter(home.workspace, "run") as writer, pytest.raises(StageError, match="is no score"):
        Ablate().run(node, inputs, home.context(writer, tmp_path))


def test_stage_writes_and_says_what_came_out(tmp_path: Path, llama: Path) -> None:
    inputs = {}
    for name, made in (("own", report({"a", "b"})), ("shuffled", report({"a"}, latents="shuffled"))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(made))
        inputs[name] = Artifact(f"gl1:{name}", "report", folder, {})
    home = place(tmp_path / "home", llama)
    out = tmp_path / "out"
    out.mkdir()
    node = StageNode(
        name="ablate",
        kind="ablate",
        version=1,
        produces="report",
        seed=0,
        spec={"kind": "ablate", "own": "score", "shuffled": "score_shuffled", "zero": None},
        inputs={name: name for name in inputs},
    )
    with LedgerWriter(home.workspace, "run") as writer:
        context = home.context(writer, out)
        Ablate().run(node, inputs, context)
    written = json.loads((out / "report.json").read_text())
    assert [one["latents"] for one in written["comparisons"]] == ["shuffled"]
    assert written["comparisons"][0]["difference"] == pytest.approx(0.1)
    assert context.notes["shuffled_difference"] == pytest.approx(0.1)
    assert isinstance(context.progress, Reporter)
    assert any("shuffled 10.0%" in line for line in context.progress.lines)
