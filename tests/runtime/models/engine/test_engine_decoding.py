"""Decoding with the key-value cache against decoding anew."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_support import BASE, CAPSULES, EVERYTHING, VISION, engine, rows_for, training

from gridloom.runtime.models.engine.decoding import Decoding
from gridloom.runtime.models.engine.network import Engine
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.steps import EVERY_STEP, Halting

LINE = RowShape(0, 10, 14)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped heads": {"num_key_value_heads": 2},
    "prefix": {"puzzle_embedding_len": 2},
    "learned positions": {"positions": "learned"},
    "no positions": {"positions": "none"},
    "planning": {"planning": {"paths": 3, "depth": 2}},
    "ungated planning": {"planning": {"gate": False}},
    "memory": {"memory": {"capacity": 8, "heads": 4}},
}
DRAWN: dict[str, dict[str, Any]] = {
    "patches": {"vision": VISION},
    "open capsules": {"vision": VISION, "capsules": {**CAPSULES, "open": "all"}},
    "everything": {name: value for name, value in EVERYTHING.items() if name != "decoder"},
}


def trained(name: str) -> Engine:
    """Return an engine with a decoder after a few steps, so that no part is at its identity."""
    drawn = name in DRAWN
    fields = {**BASE, **(DRAWN[name] if drawn else CASES[name]), "decoder": {}}
    network = engine(RowShape(4, 16, 8), **fields) if drawn else engine(LINE, **fields)
    for _ in training(network, rows_for(network), 12, lr=3e-3):
        pass
    if network.planner is not None:
        with torch.no_grad():
            network.planner.merge_norm.weight.normal_(generator=torch.Generator().manual_seed(5))
    return network.eval()


@pytest.mark.parametrize("name", [*CASES, *DRAWN])
def test_cached_logits_equal_those_computed_anew(name: str) -> None:
    network = trained(name)
    rows = rows_for(network, 3, seed=9)
    tokens = torch.randint(0, network.vocabulary, rows.inputs.shape, dtype=torch.uint8)
    cached, anew = (Decoding(network, rows, None, EVERY_STEP, cache) for cache in (True, False))
    for place in range(5):
        wanted = anew.logits(tokens, place)
        assert torch.allclose(cached.logits(tokens, place), wanted, atol=1e-4), place
        assert wanted.std() > 0.01
    assert torch.equal(cached.steps, anew.steps)


def test_decoded_answers_are_equal_token_for_token() -> None:
    network = trained("planning")
    rows = rows_for(network, 4, seed=3)
    assert torch.equal(network.decode(rows), network.decode(rows, cache=False))


def test_rows_that_halt_early_keep_the_logits_of_their_last_step() -> None:
    network = trained("plain")
    rows = rows_for(network, 4, seed=4)
    q = network.follow(rows).q_halt
    with torch.no_grad():
        # the bias halts some rows at the first step and not others
        network.q_head.bias[0] -= q[0].median()
    halting = Halting("score")
    cached, anew = (Decoding(network, rows, None, halting, cache) for cache in (True, False))
    tokens = torch.zeros_like(rows.inputs)
    assert torch.allclose(cached.logits(tokens, 0), anew.logits(tokens, 0), atol=1e-4)
    assert torch.equal(cached.steps, anew.steps)
    assert len(cached.steps.unique()) > 1


def test_a_row_decodes_alone_as_in_a_batch() -> None:
    network = trained("everything")
    rows = rows_for(network, 3, seed=6)
    tokens = torch.randint(0, 8, rows.inputs.shape, dtype=torch.uint8)
    whole, alone = (
        Decoding(network, rows, None, EVERY_STEP),
        Decoding(network, rows.part(slice(1, 2)), None, EVERY_STEP),
    )
    for place in range(3):
        assert torch.allclose(whole.logits(tokens, place)[1:2], alone.logits(tokens[1:2], place), atol=1e-4)


def test_cache_holds_an_entry_for_each_attention_call() -> None:
    network = trained("plain")
    decoding = Decoding(network, rows_for(network, 2), 2, EVERY_STEP)
    decoding.logits(torch.zeros(2, 10, dtype=torch.uint8), 0)
    assert decoding.tape is not None
    assert len(decoding.tape.entries) == 2 * 2 * 2 * 1  # ACT steps, H cycles, L_cycles + 1, layers
    assert decoding.tape.num_bytes == 8 * 2 * 2 * 20 * 32 * 4
