"""Concept codebook: seeds, assignment, moving averages, straight-through gradient, dead codes, refinement, head."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from engine_support import CAPSULES, VISION, engine, rows_for, spec_of, training

from gridloom.runtime.models.engine.concepts import ConceptCodebook, plus_plus


def codebook(**fields: object) -> ConceptCodebook:
    return ConceptCodebook(spec_of(concepts={"concepts": 16, **fields}), torch.Generator().manual_seed(0))


def ready(book: ConceptCodebook, data: torch.Tensor) -> ConceptCodebook:
    book.learn(data[: len(book.waiting)], torch.Generator().manual_seed(1))
    assert book.is_ready()
    return book


def clusters(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(16, 32, generator=torch.Generator().manual_seed(5))
    labels = torch.randint(0, 16, (count,), generator=generator)
    return centres[labels] + 0.1 * torch.randn(count, 32, generator=generator), labels


def test_the_codebook_exists_once_twice_its_size_was_collected() -> None:
    book = codebook()
    data, _ = clusters(40)
    book.learn(data[:20], None)
    assert not book.is_ready()
    book.learn(data[20:], torch.Generator().manual_seed(0))
    assert book.is_ready()
    distance = (book.codes()[:, None] - data[None, :32]).abs().amax(dim=2).amin(dim=1)
    assert distance.max() < 1e-3, "codes are sketches"


def test_clusters_are_recovered() -> None:
    data, labels = clusters(512)
    book = ready(codebook(decay=0.9), data)
    for step in range(40):
        book.learn(clusters(256, seed=step)[0], None)
    ids = book.quantize(data).ids
    assert all(len(set(ids[labels == one].tolist())) == 1 for one in range(16))
    assert len(set(ids.tolist())) == 16
    assert book.quantize(data).perplexity > 0.3 * 16


def test_codes_stay_near_the_data_over_a_thousand_steps() -> None:
    generator = torch.Generator().manual_seed(0)
    data = F.normalize(torch.randn(64, 32, generator=generator), dim=-1)
    book = ready(codebook(), data)
    worst = 0.0
    for _ in range(1000):
        book.learn(F.normalize(torch.randn(16, 32, generator=generator), dim=-1), generator)
        worst = max(worst, book.codes().norm(dim=-1).max().item())
    assert worst < 2.0


def test_a_vector_gets_its_nearest_code_and_its_gradient_straight_through() -> None:
    data, _ = clusters(64)
    book = ready(codebook(), data)
    z = data[:4].clone().requires_grad_()
    found = book.quantize(z)
    assert torch.equal(found.ids, torch.cdist(z, book.codes()).argmin(dim=-1))
    assert torch.allclose(found.z_q, book.codes()[found.ids], atol=1e-5)
    found.z_q.sum().backward()
    assert torch.equal(z.grad, torch.ones_like(z))  # type: ignore[arg-type]
    z.grad = None
    found = book.quantize(z)
    assert found.loss.item() == pytest.approx(0.25 * F.mse_loss(z, book.codes()[found.ids]).item())
    found.loss.backward()
    assert z.grad is not None
    assert z.grad.abs().max() > 0
    assert not book.sums.requires_grad


def test_one_update_is_the_moving_average() -> None:
    data, _ = clusters(64)
    book = ready(codebook(decay=0.9), data)
    counts, sums = book.counts.clone(), book.sums.clone()
    ids = book.quantize(data[:10]).ids
    book.learn(data[:10], None)
    code = int(ids[0])
    mine = data[:10][ids == code]
    assert book.counts[code] == pytest.approx(0.9 * counts[code].item() + 0.1 * len(mine))
    assert torch.allclose(book.sums[code], 0.9 * sums[code] + 0.1 * mine.sum(dim=0), atol=1e-5)


def test_a_code_that_is_not_used_is_replaced_by_a_sketch() -> None:
    data, _ = clusters(64)
    book = ready(codebook(decay=0.5, dead_after=3), data)
    same = data[:1].expand(8, -1)
    for _ in range(12):
        book.learn(same, torch.Generator().manual_seed(0))
    revived = (torch.cdist(book.codes(), data[:1]) < 0.1).sum()
    assert revived > 1


def test_seeds_are_spread_over_the_data() -> None:
    data, labels = clusters(256)
    seeds = plus_plus(data, 16, torch.Generator().manual_seed(0))
    owner = labels[torch.cdist(seeds, data).argmin(dim=1)]
    assert len(set(owner.tolist())) >= 13


def test_concept_logits_are_scaled_cosines() -> None:
    book = ready(codebook(), clusters(64)[0])
    logits = book.logits(torch.randn(2, 3, 32))
    assert logits.shape == (2, 3, 16)
    assert logits.abs().max() <= 10 * (1 + 1e-5)


def test_concepts_train_with_the_network_and_change_its_answers() -> None:
    network = engine(vision=VISION, capsules=CAPSULES, concepts={"concepts": 8})
    rows = rows_for(network)
    assert network.concepts is not None
    names = [set(losses.terms) for _, _, losses in training(network, rows, 3)]
    assert [("concepts" in found, "concept_head" in found) for found in names] == [
        (False,) * 2,
        (True,) * 2,
        (True,) * 2,
    ]
    network.eval()
    with_codes = network.trace(rows).carry.z_H
    network.concepts.collected.zero_()
    assert not torch.allclose(network.trace(rows).carry.z_H, with_codes, atol=1e-3)


def test_the_codebook_changes_once_an_optimizer_step_and_never_in_evaluation() -> None:
    network = engine(vision=VISION, capsules=CAPSULES, concepts={"concepts": 8})
    rows = rows_for(network)
    for _ in training(network, rows, 3):
        pass
    assert network.concepts is not None
    sums = network.concepts.sums.clone()
    carry = network.initial_carry(6)
    network.train().optimizer_step = 2
    network.step(rows, carry, generator=torch.Generator())
    assert torch.equal(network.concepts.sums, sums), "a second micro-batch of step 2"
    network.eval().answer(rows)
    assert torch.equal(network.concepts.sums, sums)
    network.train().optimizer_step = 3
    network.step(rows, carry, generator=torch.Generator())
    assert not torch.equal(network.concepts.sums, sums)
