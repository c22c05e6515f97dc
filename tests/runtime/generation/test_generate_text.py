"""Text from a network: windows, seeds, cache, stop texts, whole characters; sampling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_support import TEXT, engine
from hypothesis import given
from hypothesis import strategies as st

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.generation.sampling import choose, nucleus
from gridloom.runtime.generation.text import Generated, Sampling, TextModel

GREEDY = Sampling(30, temperature=0.0)


@pytest.fixture(scope="module")
def model(text_checkpoint: Path) -> TextModel:
    return TextModel.load(text_checkpoint)


def test_a_trained_network_goes_on_with_its_text(model: TextModel) -> None:
    start = TEXT[:20]
    made = model.generate(start, GREEDY)
    right = sum(a == b for a, b in zip(made.text, TEXT[20:], strict=False))
    assert right >= 25, made.text
    assert made.act_steps == 2
    assert made.stopped == "length"


@pytest.mark.parametrize("length", [0, 4, 15, 16, 17, 40])
def test_prompts_of_any_length_give_the_same_text_with_and_without_cache(model: TextModel, length: int) -> None:
    sampling = Sampling(20, temperature=0.9, top_p=0.7, seed=length)
    anew = Sampling(20, temperature=0.9, top_p=0.7, seed=length, cache=False)
    cached, plain = (model.generate(TEXT[:length], one) for one in (sampling, anew))
    assert cached.tokens == plain.tokens
    assert len(cached.tokens) >= 8
    assert cached.cache_bytes > 0
    assert plain.cache_bytes == 0


def test_a_seed_gives_the_same_text_and_another_seed_another(model: TextModel) -> None:
    texts = [model.generate("The", Sampling(30, 1.5, 1.0, seed)).tokens for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_longer_text_begins_with_the_shorter_one(model: TextModel) -> None:
    assert model.generate("The", Sampling(40, 0.0)).tokens.startswith(model.generate("The", Sampling(10, 0.0)).tokens)


def test_text_ends_before_a_stop_text(model: TextModel) -> None:
    whole = model.generate(TEXT[:20], GREEDY).text
    stop = whole[7:10]
    found = Generated()
    pieces = list(model.stream(TEXT[:20], GREEDY, found, (stop,)))
    assert "".join(pieces) == whole[: whole.index(stop)] == found.text
    assert found.stopped == "text"


def test_pieces_of_a_stream_are_whole_characters(model: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = "aé漢z".encode()
    monkeypatch.setattr(model, "_tokens", lambda *_: iter(raw))
    assert [piece for piece in model.stream("", GREEDY) if piece] == ["a", "é", "漢", "z"]


def test_halting_lowers_the_steps_of_a_token(text_checkpoint: Path) -> None:
    model = TextModel.load(text_checkpoint)
    with torch.no_grad():
        model.network.q_head.bias[0] = 50.0
    assert model.generate("The", Sampling(3, 0.0, halt=True)).act_steps == 1
    assert model.generate("The", Sampling(3, 0.0)).act_steps == 2


def test_an_answering_network_refuses_a_question_that_is_too_long(model: TextModel) -> None:
    answering = TextModel(model.network, "label")
    with pytest.raises(ModelError, match=r"17 bytes.*at most 16"):
        answering.generate("a" * 17, GREEDY)
    assert answering.generate("a" * 16, GREEDY).tokens


def test_a_network_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    save_bundle(tmp_path / "grid", Bundle({NETWORK: engine()}, PuzzleIds.of(()), meta={"data": {"kind": "sudoku"}}))
    with pytest.raises(ModelError, match="without a decoder") as problem:
        TextModel.load(tmp_path / "grid")
    assert "decoder: {}" in str(problem.value.remedy)


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ModelError, match="top_p is 0"):
        Sampling(top_p=0.0)
    with pytest.raises(ModelError, match="temperature is -1"):
        Sampling(temperature=-1.0)


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=20), st.floats(0.1, 3), st.floats(0.05, 1))
def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p(scores: list[float], heat: float, top_p: float) -> None:
    log_p = torch.tensor(scores).log_softmax(dim=-1)
    p = (log_p.double() / heat).softmax(dim=-1)
    kept = nucleus(log_p, heat, top_p) > 0
    assert float(p[kept].sum()) >= top_p - 1e-9
    least = p[kept].argmin()
    assert float(p[kept].sum() - p[kept][least]) < top_p
    assert p[kept].min() >= p[~kept].max() if bool((~kept).any()) else True


def test_draws_follow_the_distribution() -> None:
    log_p = torch.tensor([0.5, 0.3, 0.2]).log()
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor([choose(log_p, 1.0, 1.0, generator) for _ in range(2000)]), minlength=3)
    assert torch.allclose(counts / 2000, torch.tensor([0.5, 0.3, 0.2]), atol=0.04)
    assert {choose(log_p, 1.0, 0.4, generator) for _ in range(50)} == {0}
