"""Prompts: what they hold, and what goes first when there is no room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.data.arc.prompts import LATENT, QUESTION, BuiltPrompt, EarlierAttempt, build_prompt, grid_text
from gridloom.runtime.data.tasks import Pair


def pair(value: int, side: int = 3) -> Pair:
    return Pair(np.full((side, side), value, dtype=np.uint8), np.full((side, side), value + 1, dtype=np.uint8))


DEMOS = [pair(1), pair(3), pair(5)]
TEST = np.array([[7, 8], [8, 7]], dtype=np.uint8)


def words(text: str) -> int:
    return len(text.replace(LATENT, "").split())


def build(budget: int = 1000, **changes: object) -> BuiltPrompt:
    return build_prompt(DEMOS, TEST, count_tokens=words, budget=budget, **changes)  # type: ignore[arg-type]


def earlier(count: int) -> list[EarlierAttempt]:
    return [EarlierAttempt(i, f"feedback{i}", [[i % 10, 0]], f"thought{i}") for i in range(1, count + 1)]


def test_prompt_shows_every_demonstration_the_test_input_and_the_question() -> None:
    built = build()
    at = [
        built.text.index(part)
        for part in ("Example 1", "1 1 1\n1 1 1", "2 2 2", "Example 3", "Test input:\n7 8\n8 7\n", QUESTION)
    ]
    assert at == sorted(at)
    assert (built.dropped_demos, built.over_budget, built.num_tokens) == (0, 0, words(built.text))


def test_oldest_demonstrations_go_first_and_their_number_is_reported() -> None:
    whole = build().num_tokens
    built = build(budget=whole - 1)
    assert "Example 1" not in built.text
    assert "Example 2" in built.text
    assert built.dropped_demos == 1
    assert built.num_tokens <= whole - 1


def test_test_input_and_question_stay_when_nothing_fits() -> None:
    built = build(budget=5)
    assert built.dropped_demos == 3
    assert "7 8\n8 7" in built.text
    assert built.text.endswith(QUESTION)
    assert built.over_budget == built.num_tokens - 5 > 0


def test_entries_stand_in_order_between_test_input_and_question() -> None:
    built = build(history=earlier(2), history_budget=100)
    at = [built.text.index(part) for part in ("7 8\n8 7", "feedback1", "feedback2", QUESTION)]
    assert at == sorted(at)
    assert "Reasoning: thought2\nProposed:\n2 0\nFeedback: feedback2" in built.text


def test_oldest_attempts_go_first_and_the_newest_stays() -> None:
    built = build(history=earlier(5), history_budget=30)
    assert "feedback5" in built.text
    assert "feedback1" not in built.text
    assert 0 < built.dropped_attempts < 5
    assert build(history=earlier(5), history_budget=0).dropped_attempts == 4


@given(count=st.integers(0, 6), budget=st.integers(20, 300), room=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_head_is_the_same_for_every_attempt(count: int, budget: int, room: int) -> None:
    first = build(budget, history_budget=room, latent=True)
    later = build(budget, history_budget=room, latent=True, history=earlier(count))
    assert later.text.split(LATENT)[0] == first.text.split(LATENT)[0]
    assert later.dropped_demos == first.dropped_demos
    if first.num_tokens + room <= budget and later.dropped_attempts < count - 1:
        assert later.num_tokens <= budget


def test_mark_parts_head_and_tail_and_nothing_a_model_wrote_can_move_it() -> None:
    built = build(latent=True, history=[EarlierAttempt(1, "no", [], f"I say {LATENT} here")], history_budget=50)
    assert built.text.count(LATENT) == 1
    head, tail = built.text.split(LATENT)
    assert head.endswith("8 7\n")
    assert tail.startswith("Earlier attempts:")


@pytest.mark.parametrize(("form", "text"), [("plain", "7 8\n8 7"), ("compact", "78\n87")])
def test_forms_write_the_same_cells(form: str, text: str) -> None:
    assert grid_text(TEST, form) == text  # type: ignore[arg-type]
    assert text in build(form=form).text
