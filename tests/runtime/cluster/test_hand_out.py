"""Tests of the hand-out of items to workers that come and go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.cluster.hand_out import MAX_TRIES, HandOut


def test_items_go_out_one_at_a_time_in_order() -> None:
    out = HandOut("abc")
    assert [out.take(1), out.take(1), out.take(2), out.take(3), out.take(4)] == ["a", None, "b", "c", None]
    assert out.finish("a", 1)
    assert not out.is_over


def test_a_lost_worker_gives_its_items_back_first() -> None:
    out = HandOut("abcd")
    assert [out.take(1, 2), out.take(1, 2)] == ["a", "b"]
    assert out.lose(1) == []
    assert [*out.open] == ["a", "b", "c", "d"]
    assert not out.finish("a", 1), "its result counts for nothing any more"


def test_of_two_items_at_a_worker_only_the_guilty_one_is_set_aside() -> None:
    out = HandOut(["guilty", "innocent"])
    assert [out.take(1, 2), out.take(1, 2)] == ["guilty", "innocent"]
    out.lose(1)
    assert out.take(2, 2) == "guilty"
    assert out.take(2, 2) is None, "a suspect runs alone"
    out.lose(2)
    assert out.take(3, 2) == "guilty"
    assert out.lose(3) == ["guilty"]
    assert out.take(3, 2) == "innocent"
    assert out.finish("innocent", 3)
    assert (out.set_aside, out.is_over) == (["guilty"], True)


def test_what_stands_behind_a_suspect_goes_to_a_busy_worker() -> None:
    out = HandOut("abc")
    out.take(1)
    assert out.take(2, 2) == "b"
    out.lose(1)
    assert out.take(2, 2) == "c", "a is a suspect, and worker 2 is not alone"


@settings(max_examples=40)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 3),
    st.sets(st.integers(0, 11)),
    st.lists(st.tuples(st.sampled_from(["take", "finish", "crash"]), st.integers(0, 3)), max_size=200),
)
def test_every_item_is_done_or_poisonous(
    number: int, workers: int, slots: int, poison: set[int], moves: list[tuple[str, int]]
) -> None:
    """Poisonous items kill their worker when it works on them; others may die with it, and are done in the end."""
    out = HandOut(range(number))

    def step(what: str, worker: int) -> None:
        held = out.held_by(worker)
        if what == "take":
            out.take(worker, slots)
        elif held and set(held) & poison:
            out.lose(worker)
        elif held and what == "finish":
            assert out.finish(held[0], worker)

    for what, worker in moves:
        step(what, worker % workers)
        places = [*out.open, *out.held, *out.done, *out.set_aside]
        assert sorted(places) == [*range(number)], "each item is in one place"
    for _ in range(number * MAX_TRIES * 3 + 3):
        for worker in range(workers):
            step("take", worker)
            step("finish", worker)
    assert out.is_over
    assert set(out.set_aside) == {item for item in poison if item < number}
