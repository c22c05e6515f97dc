"""The train stage: learns, publishes a bundle, resumes bit for bit after SIGKILL, stops when asked, explains NaN."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import train_support
from progress_support import Bar
from train_support import (
    MODEL,
    STAGE,
    StopAfter,
    dataset_artifact,
    stage_context,
    toy_dataset,
    train_node,
)

from gridloom.compiler.facts import short_key
from gridloom.errors import ModelError, StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.canonical import task_key
from gridloom.runtime.data.arc.content_keys import content_key
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.arc.tokens import encode
from gridloom.runtime.data.tasks import Pair, fitting_canvas, tasks_digest
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training import loop
from gridloom.runtime.training import train as train_module
from gridloom.runtime.training.depth import depth_at
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.material import load_material
from gridloom.runtime.training.state import load_latest, saved_steps
from gridloom.runtime.training.train import END, Job, Train, better, run_operations
from gridloom.specs.stages import AdamAtan2, AdamW, DepthPhase, KeepBest, Muon, TrainStage
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SUPPORT = Path(train_support.__file__)


def metrics(root: Path, run_id: str = "run") -> dict[tuple[int, str], float]:
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics where run_id = ?", [run_id])
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


def train(root: Path, **changes: Any) -> dict[tuple[int, str], float]:
    context = stage_context(root, changes.pop("stop", None))
    model, dataset = changes.pop("model", MODEL), changes.pop("dataset", None)
    node = train_node(STAGE.model_copy(update=changes), model)
    Train().run(node, {"data": dataset_artifact(root, dataset)}, context)
    context.ledger.close()
    return metrics(root)


def test_training_fits_two_tasks_and_publishes_what_inference_needs(tmp_path: Path) -> None:
    stage = {
        "steps": 200,
        "batch_size": 8,
        "optimizer": AdamAtan2(lr=1e-3),
        "ema": 0.9,
        "log_every": 20,
        "checkpoint_every": 100,
        "warmup_steps": 10,
    }
    context = stage_context(tmp_path)
    model = MODEL.model_copy(update={"hidden_size": 64, "halt_max_steps": 2})
    data = dataset_artifact(tmp_path, toy_dataset(copies=0))
    Train().run(train_node(STAGE.model_copy(update=stage), model), {"data": data}, context)
    context.ledger.close()
    logged = metrics(tmp_path)
    assert logged[200, "loss"] < 0.3 * logged[20, "loss"]
    assert logged[200, "exact_match"] > 0.9
    bundle = load_bundle(tmp_path / "out")
    flip = toy_dataset().task("flip")
    inputs = torch.stack([torch.from_numpy(encode(pair.input, 4)) for pair in flip.demos])
    ids = torch.full((3,), bundle.puzzle_ids.index["flip|||t0|||0123456789"])
    answers = torch.stack([torch.from_numpy(encode(pair.output, 4)) for pair in flip.demos])
    scored = answers != 0
    assert torch.equal(trace(bundle.network, inputs, ids).tokens[scored], answers[scored])
    assert bundle.meta["data"]["version"] == "toy 1"
    assert context.notes["steps_per_s"] > 0


def test_bundle_holds_the_average_and_the_raw_weights(tmp_path: Path) -> None:
    train(tmp_path)
    used, raw = (load_bundle(tmp_path / "out", weights=w).network.state_dict() for w in ("use", "raw"))
    assert not torch.equal(used["lm_head.weight"], raw["lm_head.weight"])
    assert torch.equal(used["puzzle_emb.weights"], raw["puzzle_emb.weights"])
    assert used["puzzle_emb.weights"].any()


def test_a_bundle_that_only_runs_is_rounded_and_leaves_the_raw_weights_out(tmp_path: Path) -> None:
    train(tmp_path, model=MODEL.model_copy(update={"precision": "bf16"}))
    used, run = (load_bundle(tmp_path / "out", weights=w) for w in ("use", "run"))
    assert used.raw is not None
    assert run.raw is None
    assert not torch.equal(used.network.lm_head.weight, used.network.lm_head.weight.bfloat16().float())
    assert torch.equal(run.network.lm_head.weight.float(), used.network.lm_head.weight.bfloat16().float())


def test_without_average_the_raw_weights_are_used(tmp_path: Path) -> None:
    train(tmp_path, ema=0.0)
    assert not (tmp_path / "out" / "trm.raw.safetensors").exists()


@pytest.mark.parametrize("optimizer", [AdamAtan2(lr=1e-3), AdamW(lr=1e-3), Muon(lr=1e-3)])
def test_interrupted_run_resumes_with_equal_losses(tmp_path: Path, optimizer: Any) -> None:
    whole = train(tmp_path / "a", optimizer=optimizer)
    with pytest.raises(StageInterrupted, match=r"stopped by SIGTERM at step 6 of 12, saved"):
        train(tmp_path / "b", optimizer=optimizer, stop=StopAfter(5))
    assert saved_steps(tmp_path / "b" / "work") == [4, 6]
    assert not (tmp_path / "b" / "out" / "bundle.json").exists()
    resumed = train(tmp_path / "b", optimizer=optimizer)
    assert resumed == whole
    a, b = (load_bundle(tmp_path / x / "out", weights="raw").network.state_dict() for x in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_killed_process_resumes_with_equal_losses(tmp_path: Path) -> None:
    whole = train(tmp_path / "a")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, str(SUPPORT), str(tmp_path / "b"), "12", "0.3", "killed"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        for _ in range(7):
            assert process.stdout.readline() == "step\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert saved_steps(tmp_path / "b" / "work") == [4]
    subprocess.run([*command[:4], "0", "again"], check=True, env=environment, stdout=subprocess.DEVNULL)
    before, after = metrics(tmp_path / "b", "killed"), metrics(tmp_path / "b", "again")
    assert min(step for step, _ in after) == 5
    assert {**before, **after} == whole


def test_nan_names_step_parameter_checkpoint_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.ActTrainer.step

    def poisoned(self: loop.ActTrainer, batch: Any, spent: float = 0.0) -> None:
        if self.num_steps == 6:
            with torch.no_grad():
                self.model.L_level.layers[0].mlp.down_proj.weight[0, 0] = float("nan")  # type: ignore[union-attr, operator, index]
        real(self, batch, spent)

    monkeypatch.setattr(loop.ActTrainer, "step", poisoned)
    with pytest.raises(StageError) as caught:
        train(tmp_path)
    message = str(caught.value)
    assert "stopped at step 7 of 12: loss became NaN" in message
    assert "first bad parameter" in message
    assert "last good checkpoint: step 4, kept. Lower optimizer.lr (now 0.001) or set clip_norm: 1.0," in message
    assert "which trains anew; run again unchanged, it resumes at 4." in message
    monkeypatch.undo()
    train(tmp_path)
    assert (tmp_path / "out" / "bundle.json").exists()


def test_nan_names_the_batch_and_the_tasks_of_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loop.ActTrainer.step

    def poisoned(self: loop.ActTrainer, batch: Any, *more: Any) -> None:
        if self.num_steps == 2:
            with torch.no_grad():
                self.model.puzzle_emb.task_weights[2] = float("nan")  # type: ignore[index]
        real(self, batch, *more)

    monkeypatch.setattr(loop.ActTrainer, "step", poisoned)
    with pytest.raises(StageError, match=r"loss became NaN .*, in batch 3, (\d rows|row \d) of it \(flip\)"):
        train(tmp_path)


def test_so_many_states_are_kept_as_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StageInterrupted):
        train(tmp_path, checkpoint_every=1, keep_last=3, stop=StopAfter(6))
    assert saved_steps(tmp_path / "work") == [5, 6, 7]


def test_the_weights_after_the_best_stretch_are_published(tmp_path: Path) -> None:
    changes = {"keep_best": KeepBest(metric="exact_match", every=3)}
    logged = train(tmp_path / "whole", **changes)
    assert {value for (_, name), value in logged.items() if name == "exact_match"} == {0.0}
    best = 3  # the first of equals
    bundle = load_bundle(tmp_path / "whole" / "out")
    assert bundle.meta["steps"] == best
    assert saved_steps(tmp_path / "whole" / "work") == sorted({best, 9, 12})
    with pytest.raises(StageInterrupted):
        train(tmp_path / "parts", **changes, stop=StopAfter(7))
    train(tmp_path / "parts", **changes)
    again = load_bundle(tmp_path / "parts" / "out")
    assert again.meta["steps"] == best
    states = bundle.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("loss", [2.0, 1.0, 1.5, 1.0], [2, 1.0]),
        ("cell_accuracy", [0.2, 0.5, 0.1, 0.6], [4, 0.6]),
    ],
)
def test_losses_are_better_when_lower_and_shares_when_higher(metric: Any, values: list[float], best: Any) -> None:
    found = None
    for step, value in enumerate(values, start=1):
        figures = {metric: value}
        trainer: Any = SimpleNamespace(
            num_steps=step, stretch_means=lambda figures=figures: figures, figure_names=(metric,)
        )
        found = better(found, KeepBest(metric=metric, every=1), trainer)
    assert found == best


def test_figures_of_rows_are_absent_where_no_row_has_halted(tmp_path: Path) -> None:
    logged = train(tmp_path, steps=6, log_every=1)
    of_rows = ("exact_match", "cell_accuracy", "q_halt_accuracy", "act_steps")
    steps = {name: {step for step, logged_name in logged if logged_name == name} for name in ("loss", *of_rows)}
    assert steps["loss"] == set(range(1, 7))
    # rows begin together and none halts in its first step; a row that halted ran at least one step
    assert all(1 not in steps[name] and steps[name] for name in of_rows)
    assert all(value >= 1 for (_, name), value in logged.items() if name == "act_steps")


def test_steps_in_which_no_row_halted_are_not_compared(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(num_steps=1, stretch_means=dict, figure_names=("loss", "exact_match"))
    assert better(None, KeepBest(every=1), trainer) is None
    assert better([3, 0.0], KeepBest(every=1), trainer) == [3, 0.0]
    with pytest.raises(StageError, match="cell_accuracy, which a trm does not report"):
        better(None, KeepBest(metric="cell_accuracy"), SimpleNamespace(**vars(trainer), full=MODEL))  # type: ignore[arg-type]


@pytest.mark.parametrize(("chosen_at", "rate"), [(None, 4e-4), (8, 4e-4), (2, 8e-4), (32, 2e-4)])
def test_the_rate_grows_with_the_root_of_the_batch_size(chosen_at: int | None, rate: float) -> None:
    stage = STAGE.model_copy(update={"lr_batch_size": chosen_at, "optimizer": AdamAtan2(lr=4e-4), "warmup_steps": 0})
    dataset = toy_dataset()
    sampler = Sampler(dataset, 0)
    trainer = ActTrainer(TRM(MODEL, dataset.canvas, len(sampler.views.names)), stage, seed=0)
    trainer.step(sampler.batch(0, stage.batch_size))
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_continuing_from_a_checkpoint_keeps_weights_and_matches_rows_by_name(tmp_path: Path) -> None:
    train(tmp_path / "a")
    before = load_bundle(tmp_path / "a" / "out", weights="raw")
    context = stage_context(tmp_path / "b")
    dataset = toy_dataset(copies=5)
    node = train_node(STAGE.model_copy(update={"steps": 1, "model": "first", "warmup_steps": 1000}))
    checkpoint = Artifact("gl1:first", "checkpoint", tmp_path / "a" / "out", {})
    Train().run(node, {"data": dataset_artifact(tmp_path / "b", dataset), "model": checkpoint}, context)
    after = load_bundle(tmp_path / "b" / "out", weights="raw")
    assert torch.allclose(after.network.lm_head.weight, before.network.lm_head.weight, atol=1e-4)
    name = "flip|||t0|||0123456789"
    rows = [b.network.puzzle_emb.weights[b.puzzle_ids.index[name]] for b in (before, after)]
    assert torch.allclose(rows[0], rows[1], atol=1e-3)
    assert any("4 of 13 puzzle ids are new" in line for line in context.progress.lines)  # type: ignore[attr-defined]


def test_accumulated_parts_give_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    # Without exploration no random numbers are drawn per part, so both runs see the same rows.
    model = MODEL.model_copy(update={"halt_exploration": 0.0})
    losses = []
    for name, accumulate in (("a", 1), ("b", 4)):
        context = stage_context(tmp_path / name)
        stage = STAGE.model_copy(update={"accumulate": accumulate, "steps": 5})
        Train().run(train_node(stage, model), {"data": dataset_artifact(tmp_path / name)}, context)
        context.ledger.close()
        losses.append([metrics(tmp_path / name)[step, "loss"] for step in range(1, 6)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_accumulate_must_divide_the_batch(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="accumulate 3 does not divide batch_size 8"):
        train(tmp_path, accumulate=3)


def test_checkpoint_of_another_canvas_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "a")
    small = toy_dataset()
    other = type(small)(small.tasks, 5, small.digest, small.augment, small.version)
    checkpoint = Artifact("gl1:first", "checkpoint", tmp_path / "a" / "out", {})
    with pytest.raises(Exception, match="canvas is 4, wanted 5"):
        Train().run(
            train_node(),
            {"data": dataset_artifact(tmp_path / "b", other), "model": checkpoint},
            stage_context(tmp_path / "b"),
        )


def test_views_are_learnt_without_a_row_an_id_and_resume_exactly(tmp_path: Path) -> None:
    model = MODEL.model_copy(
        update={"puzzle_embedding": "task_view", "puzzle_embedding_len": 11, "positions": "rope_2d"}
    )
    whole = train(tmp_path / "a", model=model)
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", model=model, stop=StopAfter(5))
    assert train(tmp_path / "b", model=model) == whole
    trm = load_bundle(tmp_path / "a" / "out").network
    assert trm.puzzle_emb.weights.numel() == 0
    assert float(trm.puzzle_emb.task_weights[1:].abs().min()) > 0
    assert whole[12, "loss"] < whole[1, "loss"]


def test_depth_grows_by_phases_and_the_bundle_has_full_depth(tmp_path: Path) -> None:
    depth = (DepthPhase(share=0.5, act_steps=1), DepthPhase(share=0.25, act_steps=2, H_cycles=1))
    model = MODEL.model_copy(update={"halt_max_steps": 3, "halt_exploration": 0.0})
    assert [depth_at(step / 12, model, depth).halt_max_steps for step in (0, 5, 6, 8, 9, 11)] == [1, 1, 2, 2, 3, 3]
    assert [depth_at(step / 12, model, depth).H_cycles for step in (0, 6, 9)] == [2, 1, 2]
    whole = train(tmp_path / "a", model=model, depth=depth)
    assert {whole[step, "act_steps"] for step in range(1, 7)} == {1.0}
    assert whole[8, "act_steps"] == 2.0
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", model=model, depth=depth, stop=StopAfter(7))
    assert train(tmp_path / "b", model=model, depth=depth) == whole
    assert load_bundle(tmp_path / "a" / "out").network.spec == model


def test_first_phase_takes_new_samples_at_every_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    material = load_material(dataset_artifact(tmp_path), 0)
    net = material.network(MODEL, torch.Generator().manual_seed(0))
    trainer = ActTrainer(net, STAGE.model_copy(update={"depth": (DepthPhase(share=0.5),)}), seed=0)
    for step in range(3):
        batch = material.batch(step, 8)
        trainer.step(batch)
        (carry,) = trainer.carries.values()
        assert bool(carry.halted.all())
        assert torch.equal(carry.puzzle_ids, torch.from_numpy(batch.puzzle_ids).long())


def bar_of(context: StageContext) -> Bar:
    (bar,) = context.progress.bars  # type: ignore[attr-defined]
    return bar


def test_budget_ends_the_training_and_a_second_sitting_gets_what_is_left(tmp_path: Path) -> None:
    context = stage_context(tmp_path, StopAfter(3))
    node = train_node(
        STAGE.model_copy(update={"steps": 100_000, "budget": "2s", "lr_min_ratio": 0.0, "checkpoint_every": 1})
    )
    with pytest.raises(StageInterrupted):
        Train().run(node, {"data": dataset_artifact(tmp_path)}, context)
    spent = load_latest(tmp_path / "work", key=node.key, say=print)
    assert spent is not None
    assert 0 < spent.values["spent_s"] < 2
    assert bar_of(context).done == pytest.approx(spent.values["spent_s"])
    context = stage_context(tmp_path)
    Train().run(node, {"data": dataset_artifact(tmp_path)}, context)
    assert bar_of(context).done >= 2 - 1e-9, "the bar lacks the time of checkpoints, which the budget counts"
    made = load_bundle(tmp_path / "out").meta["steps"]
    assert 4 < made < 100_000
    assert context.notes["steps"] == made


@pytest.mark.parametrize(("accepted", "steps"), [((True, True), 1), ((True, False), 12)])
def test_tasks_that_a_solve_stage_accepted_need_no_training(
    tmp_path: Path, accepted: Any, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step makes the checkpoint that later stages read; one task that is open is reason enough to train. Rates
    depend on the number of steps, so that every rank must train by the same."""
    prepared: list[TrainStage] = []
    prepare = train_module.prepare

    def noted(job: Job, spec: TrainStage, *others: Any) -> Any:
        prepared.append(spec)
        return prepare(job, spec, *others)

    monkeypatch.setattr(train_module, "prepare", noted)
    picks = {f"t{i}": {"accepted": one, "tests": []} for i, one in enumerate(accepted)}
    store = ArtifactStore(Workspace(tmp_path / "home"))
    with store.writing("gl1:solved") as out:
        (out / "picks.json").write_text(json.dumps({"tasks": picks}))
        attempts = store.publish(out, key="gl1:solved", type="attempts", kind="solve", producer={}, inputs={})
    context = stage_context(tmp_path)
    node = train_node(STAGE.model_copy(update={"unless_accepted": "search", "budget": "1h"}))
    inputs = {"data": dataset_artifact(tmp_path), "unless_accepted": attempts}
    Train().run(node, inputs, context)
    assert load_bundle(tmp_path / "out").meta["steps"] == steps
    other = SimpleNamespace(size=2, rank=1, device=torch.device, receive=lambda: (END, 0.0))
    run_operations(Job(node, inputs, "cpu", tmp_path / "other"), other)  # type: ignore[arg-type]
    assert [spec.steps for spec in prepared] == [steps, steps]
    assert prepared[0] == prepared[1]


def test_embeddings_move_first_and_alone(tmp_path: Path) -> None:
    train(tmp_path / "a", steps=6, embeddings_first=0.5, warmup_steps=0, checkpoint_every=3, ema=0.0)
    fresh = load_material(dataset_artifact(tmp_path / "a"), 3)
    start = fresh.network(MODEL, torch.Generator().manual_seed(3)).state_dict()
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", steps=6, embeddings_first=0.5, warmup_steps=0, ema=0.0, stop=StopAfter(2))
    half = load_latest(tmp_path / "b" / "work", key="gl1:train", say=print)
    assert half is not None
    assert half.step == 3
    for name, tensor in start.items():
        kept = torch.equal(half.tensors[f"model.{name}"], tensor)
        assert kept is not (name in ("puzzle_emb.weights", "puzzle_emb.task_weights")), name
    done = load_bundle(tmp_path / "a" / "out").network
    assert not torch.equal(done.lm_head.weight, start["lm_head.weight"])
    assert all(p.requires_grad for p in done.parameters())


def test_trunk_with_square_positions_goes_on_on_another_canvas(tmp_path: Path) -> None:
    model = MODEL.model_copy(
        update={"puzzle_embedding": "task_view", "puzzle_embedding_len": 11, "positions": "rope_2d"}
    )
    train(tmp_path / "a", model=model)
    larger = replace(toy_dataset(), canvas=6)
    node = train_node(STAGE.model_copy(update={"model": "first"}), model)
    checkpoint = Artifact("gl1:first", "checkpoint", tmp_path / "a" / "out", {})
    context = stage_context(tmp_path / "b")
    Train().run(node, {"data": dataset_artifact(tmp_path / "b", larger), "model": checkpoint}, context)
    after = load_bundle(tmp_path / "b" / "out").network
    assert (after.canvas, after.num_cells) == (6, 36)
    context.ledger.close()
    learnt, anew = metrics(tmp_path / "b"), train(tmp_path / "c", model=model)
    assert learnt[1, "loss"] < anew[1, "loss"]


def test_canvases_are_learnt_side_by_side_and_resume_exactly(tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"positions": "rope_2d"})
    small = toy_dataset()
    wide = tuple(np.tile(pair.input, (1, 2)) for pair in small.tasks[0].demos)
    tasks = (*small.tasks, replace(small.tasks[0], task_id="wide", demos=tuple(Pair(g, g) for g in wide)))
    dataset = replace(small, tasks=tasks, canvas=7, canvases=(4,), digest=tasks_digest(tasks))
    whole = train(tmp_path / "a", model=model, dataset=dataset)
    with pytest.raises(StageInterrupted):
        train(tmp_path / "b", model=model, dataset=dataset, stop=StopAfter(5))
    state = load_latest(tmp_path / "b" / "work", key="gl1:train", say=print)
    assert state is not None
    assert {name.split(".")[1] for name in state.tensors if name.startswith("carry.")} == {"16", "49"}
    assert train(tmp_path / "b", model=model, dataset=dataset) == whole
    trm = load_bundle(tmp_path / "a" / "out").network
    assert trm.sides == (4, 7)
    for task, side in ((tasks[0], 4), (tasks[2], 7)):
        assert fitting_canvas(task, trm.sides) == side
        tokens = torch.from_numpy(encode(task.demos[0].input, side))[None]
        assert trace(trm, tokens, torch.tensor([1])).tokens.shape == (1, side**2)


def test_canvases_need_positions_that_know_rows_and_columns(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="canvases of 3, 4 need positions rope_2d, not rope"):
        train(tmp_path, dataset=replace(toy_dataset(), canvases=(3,)))


def test_a_bundle_tells_whose_answers_it_learnt_also_before(tmp_path: Path) -> None:
    plain = toy_dataset()
    pair = plain.tasks[0].demos[0]
    tasks = (replace(plain.tasks[0], tests=(), known=(pair,)), plain.tasks[1])
    data = dataset_artifact(tmp_path / "open", replace(plain, tasks=tasks, digest=tasks_digest(tasks)))
    context = stage_context(tmp_path / "open")
    Train().run(train_node(STAGE.model_copy(update={"steps": 1})), {"data": data}, context)
    context.ledger.close()
    facts = LocalFacts().checkpoint(str(tmp_path / "open" / "out"), ".")
    key = short_key(task_key(plain.tasks[0], demonstrations_only=True))
    assert facts.answers_of == ((key, "copy"),)
    given = Artifact("gl1:open", "checkpoint", tmp_path / "open" / "out", {})
    node = train_node(STAGE.model_copy(update={"steps": 1, "model": "open"}))
    context = stage_context(tmp_path / "more")
    Train().run(node, {"data": dataset_artifact(tmp_path / "more"), "model": given}, context)
    context.ledger.close()
    further = LocalFacts().checkpoint(str(tmp_path / "more" / "out"), ".")
    assert further.answers_of == facts.answers_of
    # the known pair is the first demonstration, which the second dataset has as such
    learnt = [content_key(task, False).pairs for task in tasks]
    assert {one.task_id: [pair.cells for pair in one.pairs] for one in facts.trained_tasks} == {
        task.task_id: [pair.cells for pair in pairs if pair.role in ("demo", "known")]
        for task, pairs in zip(tasks, learnt, strict=True)
    }
    assert {one.task_id for one in further.trained_tasks} == {task.task_id for task in tasks}
    assert {pair.cells for one in further.trained_tasks for pair in one.pairs} >= {
        pair.cells for one in facts.trained_tasks for pair in one.pairs
    }
