"""A joint step: the loss as specified, gradient where it belongs, rows that leave, memory flat in attempts."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from joint_support import BACK, BRIDGE, STAGE, gradients, grid, trainer_for
from tiny_language_model import state_bound, tiny_llama
from train_support import toy_dataset

from gridloom.errors import StageError
from gridloom.runtime.data.arc.prompts import LATENT, EarlierAttempt
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.language.spec import Lora
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.losses import row_losses
from gridloom.runtime.training.joint.batches import JointBatches
from gridloom.runtime.training.joint.loop import JointTrainer, compare
from gridloom.runtime.training.joint.metrics import METRICS, JointTotals
from gridloom.runtime.training.joint.reader import JointReader
from gridloom.specs.stages import Curriculum

Mode = Literal["carry", "injection", "cross_attention"]
MODES = ("carry", "injection")


def one_step(trainer: JointTrainer) -> dict[str, float]:
    trainer.step(trainer.sampler.batch(trainer.num_steps, trainer.spec.batch_size))
    return trainer.since_report.take()


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "carry"},
        {"mode": "injection"},
        {"mode": "cross_attention"},
        {"mode": "carry", "variational": True},
        {"mode": "injection", "projection": "linear"},
    ],
)
def test_gradient_reaches_trm_and_both_adapters_and_no_frozen_weight(changes: dict[str, Any]) -> None:
    llama = tiny_llama()
    before = {name: p.detach().clone() for name, p in llama.model.named_parameters()}
    trainer = trainer_for(llama, BRIDGE.model_copy(update=changes))
    silent = {name for name, largest in gradients(trainer).items() if largest == 0}
    # a bias under a softmax over positions or keys moves nothing
    assert all(name.endswith(("score.bias", "key.bias")) for name in silent)
    assert all(p.grad is None for p in llama.model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in llama.model.named_parameters())


@pytest.mark.parametrize("mode", ["carry", "injection", "cross_attention"])
@pytest.mark.parametrize("attempts", [1, 2])
def test_gradient_reaches_the_additions_of_a_language_model_and_nothing_else_of_it(mode: Mode, attempts: int) -> None:
    llama = tiny_llama(lora=Lora(rank=2, targets=("q_proj", "v_proj", "down_proj")))
    before = {name: p.detach().clone() for name, p in llama.model.named_parameters()}
    bridge = BRIDGE.model_copy(update={"mode": mode})
    trainer = trainer_for(llama, bridge, attempts=attempts, with_back=attempts > 1)
    assert llama.lora is not None
    before |= {name: p.detach().clone() for name, p in llama.model.named_parameters() if "lora_" in name}
    seen = gradients(trainer)
    additions = {name: largest for name, largest in seen.items() if name.startswith("lora.")}
    assert len(additions) == 2 * 3 * 2
    assert all(largest > 0 for largest in additions.values())
    assert all(name.endswith(("score.bias", "key.bias")) for name, largest in seen.items() if largest == 0)
    for name, p in llama.model.named_parameters():
        assert torch.equal(p, before[name]) == ("lora_" not in name), name
        assert "lora_" in name or p.grad is None


def test_a_learning_language_model_reads_what_the_frozen_one_reads_in_one_forward() -> None:
    """Its states are those of the whole prompts, whatever was kept before it moved on."""
    trainer = trainer_for(tiny_llama(lora=Lora(rank=2)))
    reader, keys = trainer.reader, [(0, 0), (1, 1)]
    passes: list[int] = []
    forward = reader.llama.forward

    def counted(embeds: torch.Tensor, *rest: Any) -> torch.Tensor:
        passes.append(len(embeds))
        return forward(embeds, *rest)

    reader.llama.forward = counted  # type: ignore[method-assign]
    hidden = reader.first(keys).hidden
    assert passes == [2]
    want = reader.llama.encode([reader.prompt(key).text for key in keys])
    torch.testing.assert_close(hidden, want, atol=state_bound(), rtol=0)
    assert hidden.requires_grad
    one_step(trainer)
    assert not torch.allclose(reader.first(keys).hidden, hidden, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_with_one_attempt_nothing_is_fed_back(mode: Mode) -> None:
    trainer = trainer_for(tiny_llama(), BRIDGE.model_copy(update={"mode": mode}), attempts=1)
    seen = gradients(trainer)
    assert all(largest == 0 for name, largest in seen.items() if name.startswith("latent_to_text"))
    assert all(largest > 0 for name, largest in seen.items() if name.startswith("text_to_latent"))


@pytest.mark.parametrize("mode", MODES)
def test_loss_is_the_mean_over_active_rows_act_steps_and_attempts(mode: Mode) -> None:
    trainer = trainer_for(tiny_llama(), BRIDGE.model_copy(update={"mode": mode}), with_back=False, embedding_lr=0.0)
    batch = trainer.sampler.batch(0, 3)
    inputs, labels = torch.from_numpy(batch.inputs), torch.from_numpy(batch.labels)
    ids = torch.from_numpy(batch.puzzle_ids)
    keys = list(zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True))
    rows = trainer._rows(batch)
    parts = []
    for attempt in (1, 2):
        texts = [trainer.reader.prompt(key, row.history).text for key, row in zip(keys, rows, strict=True)]
        injection = trainer.bridge(trainer.reader.llama.encode(texts), trainer.network)
        carry = trainer.network.initial_carry(3)
        for step in range(trainer.act_steps):
            with torch.no_grad():
                carry, output = trainer.network.act_step(
                    carry, inputs, ids, injection if step == 0 or mode == "injection" else None
                )
                losses = row_losses(trainer.network, output, labels)
                parts.append(float((losses.lm + 0.5 * losses.q_halt).mean()))
        tokens = trainer.network.predict(carry.z_H).argmax(dim=-1).to(torch.uint8).numpy()
        for i, (row, proposed) in enumerate(zip(rows, trainer._grids(batch, range(3), tokens), strict=True)):
            assert not compare(proposed, row.target)[0]
            view = trainer.sampler.views.view(int(batch.puzzle_ids[i]) - 1)
            row.history.append(
                trainer._earlier_attempt(row, attempt, None if proposed is None else view.inverse(proposed), "")
            )
    means = one_step(trainer)
    assert means["loss"] == pytest.approx(np.mean(parts), rel=1e-4)
    assert (means["avg_attempts"], means["exact_match"]) == (2.0, 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_equals_that_of_the_whole_attempt_at_once(mode: Mode) -> None:
    """Back-propagating each ACT step by itself gathers the same gradient in the adapter as one backward over all."""
    trainer = trainer_for(tiny_llama(), BRIDGE.model_copy(update={"mode": mode}), attempts=1, clip_norm=None)
    batch = trainer.sampler.batch(0, 3)
    keys = list(zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True))
    injection = trainer.bridge(trainer.reader.first(keys).hidden, trainer.network)
    carry, total = trainer.network.initial_carry(3), torch.zeros(())
    labels = torch.from_numpy(batch.labels)
    for step in range(trainer.act_steps):
        carry, output = trainer.network.act_step(
            carry,
            torch.from_numpy(batch.inputs),
            torch.from_numpy(batch.puzzle_ids),
            injection,
            grad_all_rounds=mode == "carry" and step == 0,
        )
        total = total + row_losses(trainer.network, output, labels).total() / (3 * trainer.act_steps)
    want = torch.autograd.grad(total, list(trainer.bridge.parameters()))
    outcome = trainer._attempt(
        trainer.reader.first(keys), torch.from_numpy(batch.inputs), torch.from_numpy(batch.puzzle_ids), labels, 1
    )
    for have, gradient in zip(trainer.bridge.parameters(), want, strict=True):
        torch.testing.assert_close(have.grad, gradient, rtol=1e-4, atol=1e-7)
    assert outcome.loss == pytest.approx(float(total.detach()), rel=1e-5)


def test_solved_rows_leave_and_the_mean_is_over_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_for(tiny_llama(), attempts=3)
    asked: list[int] = []
    judge = trainer._judge

    def solve_first_row(rows: Any, active: list[int], *rest: Any) -> Any:
        asked.append(len(active))
        shown = judge(rows, active, *rest)
        rows[0].solved = True
        return shown

    monkeypatch.setattr(trainer, "_judge", solve_first_row)
    means = one_step(trainer)
    assert asked == [3, 2, 2]
    assert means["avg_attempts"] == pytest.approx((1 + 3 + 3) / 3)
    assert means["oracle_exact_match"] == pytest.approx(1 / 3)
    assert means["exact_match"] == 0.0


def test_memory_does_not_grow_with_attempts() -> None:
    """Counts bytes of activations that autograd holds at once, by attempts."""

    def peak(attempts: int) -> int:
        llama = tiny_llama()
        trainer = trainer_for(llama, attempts=attempts)
        live = high = 0

        def pack(tensor: torch.Tensor) -> Any:
            nonlocal live, high
            size = tensor.untyped_storage().nbytes()
            held = _Held(tensor)
            live += size
            high = max(high, live)

            def drop() -> None:
                nonlocal live
                live -= size

            weakref.finalize(held, drop)
            return held

        gc.collect()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
            one_step(trainer)
        return high

    # prompts grow with the records of earlier attempts, up to the budget for the history: five fill the budget
    assert peak(9) < 1.1 * peak(5)


class _Held:
    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_prefix_of_an_attempt_changes_the_next_state() -> None:
    trainer = trainer_for(tiny_llama())
    keys = [(0, 0), (1, 1)]
    history = [[EarlierAttempt(1, "no")]] * 2
    one, other = (trainer.reader.retry(keys, history, torch.randn(2, 2, 32)).hidden for _ in range(2))
    assert float((one - other).abs().max()) > 1e-2
    logits = []
    for hidden in (one, other):
        made = trainer.bridge(hidden, trainer.network)
        inputs = torch.zeros(2, 16, dtype=torch.uint8)
        logits.append(trace(trainer.network, inputs, torch.tensor([1, 2]), Injection(made.z_H, made.z_L)).carry.z_H)
    assert not torch.allclose(logits[0], logits[1], atol=1e-4)


def test_prompts_show_other_training_pairs_and_never_a_check_pair() -> None:
    check = Pair(grid("99", "99"), grid("88", "88"))
    seen = [Pair(grid(f"{i}1"), grid(f"1{i}")) for i in (2, 3, 4)]
    task = Task("t", "s", (seen[0], check, *seen[1:]), (grid("77"),), check=(1,))
    dataset = toy_dataset()
    dataset = type(dataset)((task,), 4, "d", dataset.augment, "v")
    reader = JointReader(tiny_llama(), dataset, STAGE, latent=True)
    text = reader.prompt((0, 1)).text
    assert "Input:\n2 1\nOutput:\n1 2" in text
    assert "Test input:\n3 1" in text
    assert "1 3" not in text
    assert "9" not in text
    assert "8" not in text
    assert "7 7" not in text
    assert text.count(LATENT) == 1


@pytest.mark.parametrize(("feedback", "told"), [("blind", "not accepted"), ("oracle", "cells are wrong")])
def test_only_oracle_feedback_speaks_of_the_answer(feedback: str, told: str) -> None:
    trainer = trainer_for(tiny_llama(), feedback=feedback)
    row = trainer._rows(trainer.sampler.batch(0, 1))[0]
    answer = trainer.reader.dataset.tasks[row.key[0]].train_pairs[row.key[1]].output
    wrong = answer.copy()
    wrong[0, 0] = (wrong[0, 0] + 1) % 10
    said = trainer._earlier_attempt(row, 1, wrong, "")
    assert told in said.feedback
    assert np.array_equal(said.grid, wrong)
    size = trainer._earlier_attempt(row, 1, wrong[:2], "").feedback
    assert ("3x3" in size) == (feedback == "oracle")


def test_grids_are_cropped_at_their_offset_and_shown_in_the_identity_view() -> None:
    dataset = toy_dataset()
    augment = dataset.augment.model_copy(update={"translate": True, "copies": 7})
    dataset = type(dataset)(dataset.tasks, 6, dataset.digest, augment, "v")
    sampler = Sampler(dataset, 0)
    trainer = trainer_for(tiny_llama())
    trainer.sampler = sampler
    trainer.network.rows = RowShape(6)
    batch = sampler.batch(0, 24)
    assert batch.offsets.any()
    for i, row in enumerate(trainer._rows(batch)):
        view = sampler.views.view(int(batch.puzzle_ids[i]) - 1)
        pair = dataset.tasks[row.key[0]].train_pairs[row.key[1]]
        assert np.array_equal(view.inverse(row.target), pair.output)


def test_first_states_serve_every_view_and_equal_the_models_own() -> None:
    trainer = trainer_for(tiny_llama())
    states = trainer.reader.first([(0, 1), (0, 1), (1, 0)]).hidden
    assert torch.equal(states[0], states[1])
    want = trainer.reader.llama.encode([trainer.reader.prompt((1, 0)).text])[0].detach()
    torch.testing.assert_close(states[2], want, atol=state_bound(), rtol=0)


def test_generated_tokens_are_counted_and_read_by_states_of_new_tokens() -> None:
    trainer = trainer_for(tiny_llama(state="mean_new"), max_new_tokens=5, attempts=2)
    reading = trainer.reader.first([(0, 0)])
    means = one_step(trainer)
    assert 0 < reading.num_new[0] <= 5
    assert 0 < means["avg_reasoning_length"] <= 5
    plain = trainer_for(tiny_llama(), attempts=2)
    assert not torch.allclose(plain.reader.first([(0, 0)]).hidden, reading.hidden, atol=1e-3)
    assert one_step(plain)["avg_reasoning_length"] == 0


def test_decoder_is_trained_to_give_back_the_state() -> None:
    back = BACK.model_copy(update={"variational": True})
    bridge = BRIDGE.model_copy(update={"variational": True})
    trainer = trainer_for(tiny_llama(), bridge, attempts=1, back=back)
    seen = gradients(trainer)
    assert all(largest > 0 for name, largest in seen.items() if not name.endswith("score.bias"))
    plain = trainer_for(tiny_llama(), bridge, attempts=1)
    assert all(largest == 0 for name, largest in gradients(plain).items() if name.startswith("latent_to_text"))


def test_loss_on_colours_alone_ignores_the_border() -> None:
    colours, scored = (trainer_for(tiny_llama(), attempts=1, targets=t) for t in ("colours", "scored"))
    for trainer in (colours, scored):
        with torch.no_grad():
            trainer.network.lm_head.weight[1] = 0
    assert one_step(colours)["loss"] != pytest.approx(one_step(scored)["loss"], rel=1e-3)


def test_curriculum_draws_small_grids_first_and_all_in_the_end() -> None:
    sizes = {"small": 2, "middle": 4, "large": 6}
    tasks = tuple(
        Task(
            name,
            "s",
            tuple(Pair(np.full((side, side), i, np.uint8), np.full((side, side), i, np.uint8)) for i in range(3)),
            (grid("1"),),
        )
        for name, side in sizes.items()
    )
    dataset = toy_dataset()
    dataset = type(dataset)(tasks, 7, "d", dataset.augment, "v")
    spec = STAGE.model_copy(update={"batch_size": 2, "steps": 60, "curriculum": Curriculum(first_side=2, steps=40)})
    batches = JointBatches(Sampler(dataset, 0), spec)
    drawn = [[list(sizes.values())[t] for t in batches.batch(step).task_index] for step in range(60)]
    assert all(side == 2 for sides in drawn[:8] for side in sides)
    assert max(side for sides in drawn[16:24] for side in sides) == 4
    assert {side for sides in drawn[40:] for side in sides} == {2, 4, 6}
    assert np.array_equal(batches.batch(5).inputs, JointBatches(Sampler(dataset, 0), spec).batch(5).inputs)
    first = JointBatches(Sampler(dataset, 0), spec.model_copy(update={"steps": 8})).pairs(0)
    assert {task for task, _ in first} == {0}
    assert set(batches.pairs(0)) == {(task, pair) for task in range(3) for pair in range(3)}


@dataclass
class Figures:
    first: tuple[bool, bool, float] | None
    solved: bool
    attempts: int
    trm_steps: int
    new_tokens: int


def test_logged_figures_are_the_means_over_rows_and_attempts_not_over_batches() -> None:
    totals = JointTotals()
    totals.add([Figures((True, True, 1.0), True, 1, 3, 5), Figures((False, True, 0.5), False, 4, 20, 0)], 2.0, 0.5)
    totals.add([Figures((False, False, 0.0), True, 2, 7, 9)], 1.0, 1.5)
    kept = JointTotals(totals.values)
    want = {
        "loss": 1.5,
        "exact_match": 1 / 3,
        "shape_match": 2 / 3,
        "cell_accuracy": 0.5,
        "oracle_exact_match": 2 / 3,
        "avg_attempts": 7 / 3,
        "avg_trm_steps": 30 / 7,
        "avg_reasoning_length": 2.0,
        "grad_norm": 1.0,
    }
    assert totals.take() == pytest.approx(want)
    assert kept.take() == pytest.approx(want)
    assert not any(totals.values.values())


def test_metrics_have_their_names_and_steps_count_to_the_halt() -> None:
    trainer = trainer_for(tiny_llama())
    with torch.no_grad():
        trainer.network.q_head.bias[0] = 5.0
    means = one_step(trainer)
    assert set(means) == set(METRICS)
    assert means["avg_trm_steps"] == 1.0
    assert means["grad_norm"] > 0


def test_clipping_bounds_the_step_and_a_nan_is_named() -> None:
    trainer = trainer_for(tiny_llama(), clip_norm=1e-6)
    with torch.no_grad():
        trainer.network.lm_head.weight *= 100
    assert one_step(trainer)["grad_norm"] > 1e-3
    with torch.no_grad():
        trainer.bridge.compress.weight[0, 0] = float("nan")
    with pytest.raises(StageError, match=r"stopped at step 2 of 6: loss became NaN \(first bad parameter"):
        one_step(trainer)


@pytest.mark.parametrize(
    ("proposed", "want"),
    [
        (None, (False, False, 0.0)),
        (grid("12"), (False, False, 0.0)),
        (grid("12", "30"), (False, True, 0.75)),
        (grid("12", "34"), (True, True, 1.0)),
    ],
)
def test_comparison_with_a_target(proposed: Any, want: tuple[bool, bool, float]) -> None:
    assert compare(proposed, grid("12", "34")) == want
