"""Memory bank: empty and filled, read and write policy, gradients, checkpoint, and use by a network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from engine_support import engine, rows_for, spec_of, training
from torch.profiler import ProfilerActivity, profile

from gridloom.runtime.models.engine.memory import MemoryBank, position_signs, row_hash
from gridloom.runtime.models.steps import Rows


def bank(**fields: object) -> MemoryBank:
    return MemoryBank(spec_of(memory={"heads": 4, **fields}), torch.Generator().manual_seed(0))


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


def fill(memory: MemoryBank, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = vectors(count), vectors(count, 1)
    memory.write(keys, values, torch.arange(1, count + 1), torch.ones(count, dtype=torch.bool))
    return keys, values


def test_an_empty_bank_gives_exactly_zero() -> None:
    assert torch.equal(bank().read(vectors(3), torch.zeros(3)).term, torch.zeros(3, 32))
    with_bank, without = engine(memory={"heads": 4}).eval(), engine().eval()
    rows = rows_for(without)
    assert torch.equal(with_bank.answer(rows).tokens, without.answer(rows).tokens)
    assert torch.equal(with_bank.trace(rows).carry.z_H, without.trace(rows).carry.z_H)


def test_an_untrained_bank_finds_the_entry_of_a_noisy_address() -> None:
    """A selection that misses gives no gradient towards the entry that was missed, so it has to hit from the start."""
    memory = bank(capacity=128).eval()
    keys, _ = fill(memory, 100)
    noisy = keys + 0.05 * vectors(100, 7)
    found = memory.read(noisy, torch.zeros(100))
    best = found.entries.gather(1, found.weights.argmax(dim=1, keepdim=True)).squeeze(1)
    assert (best == torch.arange(100)).float().mean() >= 0.99


@pytest.mark.parametrize("width", [32, 64])
def test_an_untrained_bank_compares_addresses_as_they_are(width: int) -> None:
    memory = MemoryBank(spec_of(hidden_size=width, memory={"heads": 4}), torch.Generator().manual_seed(1))
    one, other = torch.randn(2, 50, width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        projected = F.cosine_similarity(memory.W_q(one), memory.W_k(other))
    assert torch.allclose(projected, F.cosine_similarity(one, other), atol=1e-4)


def test_a_read_is_the_gated_sum_of_the_nearest_values() -> None:
    memory = bank(capacity=8, read=3).eval()
    keys, values = fill(memory, 5)
    question = vectors(1, 3)
    found = memory.read(question, torch.zeros(1))
    scale = question.square().mean().add(1e-5).rsqrt()
    query = (question * scale) @ memory.W_q.weight.T
    address = keys.half().float() @ memory.W_k.weight.T
    nearest = F.cosine_similarity(query, address).topk(3).indices
    assert set(nearest.tolist()) == set(found.entries[0].tolist())
    heads = []
    for head in range(4):
        part = slice(8 * head, 8 * head + 8)
        scores = F.cosine_similarity(query[:, part], address[nearest][:, part]) / memory.log_tau.exp()
        heads.append(scores.softmax(dim=0) @ values.half().float()[nearest][:, part])
    read = torch.cat(heads) @ memory.W_o.weight.T
    gate = torch.sigmoid(memory.W_g(torch.cat((query[0], read))))
    assert torch.allclose(found.term[0], gate * read, atol=1e-4)


def test_gradients_reach_the_projections_and_the_gate() -> None:
    memory = bank(capacity=8).eval()
    fill(memory, 5)
    memory.read(vectors(3, 4), torch.zeros(3)).term.square().sum().backward()
    for name, parameter in memory.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_full_bank_overwrites_the_least_recently_read_entry() -> None:
    memory = bank(capacity=8, read=1, dropout=0.0).train()
    with torch.no_grad():
        memory.W_q.weight.copy_(torch.eye(32))
        memory.W_k.weight.copy_(torch.eye(32))
    keys, _ = fill(memory, 8)
    assert memory.fill == 1
    memory.read(keys[:3], torch.zeros(3))
    memory.read(keys[4:], torch.zeros(4))
    memory.write(vectors(1, 9), vectors(1, 9), torch.tensor([99]), torch.tensor([True]))
    assert memory.source.tolist() == [1, 2, 3, 99, 5, 6, 7, 8]


def test_a_similar_address_merges_and_free_entries_come_first() -> None:
    memory = bank(capacity=4)
    keys, values = fill(memory, 2)
    memory.write(keys[:1] * 1.01, values[:1] + 2, torch.tensor([7]), torch.tensor([True]))
    assert memory.valid.tolist() == [True, True, False, False]
    assert memory.hits.tolist() == [1, 0, 0, 0]
    assert torch.allclose(memory.values[0].float(), values[0] + 1, atol=1e-2)
    memory.write(vectors(1, 5), vectors(1, 6), torch.tensor([8]), torch.tensor([True]))
    assert memory.source.tolist() == [7, 2, 8, 0]


def test_rows_of_one_batch_that_are_alike_take_one_entry() -> None:
    memory = bank(capacity=4)
    key = vectors(1).expand(3, -1)
    memory.write(key, key, torch.tensor([1, 2, 3]), torch.tensor([True, False, True]))
    assert memory.valid.sum() == 1
    assert memory.source[0] == 3


def test_training_does_not_read_what_was_written_from_a_row_of_the_batch() -> None:
    memory = bank(capacity=4, dropout=0.0).train()
    keys, _ = fill(memory, 2)
    found = memory.read(keys, torch.tensor([1, 50]))
    used = [found.entries[row][found.weights[row] > 0].tolist() for row in range(2)]
    assert used == [[1], [1]]
    memory.eval()
    found = memory.read(keys, torch.tensor([1, 50]))
    assert all((found.weights[row] > 0).sum() == 2 for row in range(2))


def test_the_store_survives_saving() -> None:
    memory = bank(capacity=8).eval()
    fill(memory, 5)
    other = bank(capacity=8).eval()
    other.load_state_dict(memory.state_dict())
    assert torch.equal(other.read(vectors(3, 3), torch.zeros(3)).term, memory.read(vectors(3, 3), torch.zeros(3)).term)


def test_projected_addresses_follow_weights_and_store() -> None:
    memory = bank(capacity=8).eval()
    fill(memory, 5)
    question = vectors(1, 3)
    before = memory.read(question, torch.zeros(1)).entries
    with torch.no_grad():
        memory.W_k.weight.neg_()
    flipped = memory.read(question, torch.zeros(1)).entries
    assert before.tolist()[0][:5] == flipped.tolist()[0][:5][::-1]


def test_hashes_and_signs_depend_on_the_order_of_tokens() -> None:
    rows = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1], [1, 2, 3, 4], [0, 0, 0, 0]], dtype=torch.uint8)
    hashes = row_hash(rows).tolist()
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == 3
    signs = position_signs(4, 32)
    assert set(signs.flatten().tolist()) == {-1, 1}
    one, other = vectors(4), vectors(4).flip(0)
    assert F.cosine_similarity((one * signs).mean(dim=0), (other * signs).mean(dim=0), dim=0) < 0.9


def test_solved_rows_are_written_and_change_later_answers() -> None:
    network = engine(memory={"heads": 4, "capacity": 16, "dropout": 0.0}, halt_max_steps=1)
    rows = rows_for(network, 4)
    solved = Rows(rows.inputs, rows.puzzle_ids, torch.full_like(rows.inputs, 3))
    for _, _, losses in training(network, solved, 30, lr=1e-2):
        exact = losses.correct
    assert exact.all()
    assert network.memory is not None
    assert network.memory.valid.sum() == 4
    network.eval()
    full = network.trace(rows).carry.z_H
    network.memory.valid.zero_()
    assert not torch.allclose(network.trace(rows).carry.z_H, full, atol=1e-4)


def test_unsolved_rows_are_not_written() -> None:
    network = engine(memory={"heads": 4}, halt_max_steps=1)
    for _ in training(network, rows_for(network), 2):
        pass
    assert network.memory is not None
    assert network.memory.valid.sum() == 0


def test_what_a_row_has_lost_can_be_recalled() -> None:
    """Each key has a value that no rule gives, and that training showed under another question: associative recall."""
    width, count = 32, 24
    generator = torch.Generator().manual_seed(0)
    memory = bank(capacity=64, dropout=0.0)
    head = torch.nn.Linear(width, 8)
    optimizer = torch.optim.AdamW([*memory.parameters(), *head.parameters()], 1e-2)
    codes = torch.randn(8, width, generator=generator)
    for _ in range(60):
        keys, classes = (
            torch.randn(count, width, generator=generator),
            torch.randint(0, 8, (count,), generator=generator),
        )
        for name in ("valid", "last_used", "hits"):
            getattr(memory, name).zero_()
        memory.write(keys, codes[classes], torch.arange(count) + 1, torch.ones(count, dtype=torch.bool))
        loss = F.cross_entropy(head(memory.eval().read(keys, torch.zeros(count)).term), classes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        right = (head(memory.read(keys, torch.zeros(count)).term).argmax(dim=1) == classes).float().mean()
        memory.valid.zero_()
        without = (head(memory.read(keys, torch.zeros(count)).term).argmax(dim=1) == classes).float().mean()
    assert right > 0.95
    assert without < 0.4


def test_a_read_of_a_large_bank_at_width_1024_allocates_little_above_the_store() -> None:
    capacity, width, batch = 16_384, 1024, 32
    memory = MemoryBank(spec_of(hidden_size=width, memory={"heads": 16, "capacity": capacity}), None).eval()
    memory.valid.fill_(True)
    question, source = torch.randn(batch, width), torch.zeros(batch)
    with torch.no_grad():
        memory.keys.copy_(torch.randn(capacity, width))
        memory.read(question, source)  # what torch itself allocates at a first call is not the bank's
        memory._projected = None
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            memory.read(question, source)
    in_use = peak = 0
    for event in sorted(recorded.events(), key=lambda event: event.time_range.start):
        in_use += event.self_cpu_memory_usage
        peak = max(peak, in_use)
    assert 4 * capacity * width < peak < 100e6
