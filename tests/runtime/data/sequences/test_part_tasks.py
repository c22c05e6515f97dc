"""Tasks for parts of the engine: answers against an independent search, splits, refusals, lines."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gridloom.runtime.data.sequences.part_tasks import part_line
from gridloom.runtime.data.sequences.tokens import token_layout, token_rows
from gridloom.specs.part_tasks import GraphSearchData, PartTask, RecallData, StarGraphData

MARK, FIRST = 1, 2


def edges_of(row: list[int]) -> tuple[dict[int, list[int]], list[int]]:
    end = row.index(MARK)
    found: dict[int, list[int]] = defaultdict(list)
    for a, b in zip(row[:end:2], row[1:end:2], strict=True):
        found[a].append(b)
    return found, [token for token in row[end + 1 :] if token]


def depth(edges: dict[int, list[int]], root: int, goal: int) -> int | None:
    level, seen = [root], {root}
    for distance in range(len(edges) + 1):
        if goal in level:
            return distance
        level = [b for a in level for b in edges.get(a, ()) if b not in seen]
        seen |= set(level)
    return None


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(2, 6), st.booleans(), st.integers(0, 1000))
def test_a_path_of_a_star_follows_its_edges_to_the_goal(degree: int, path: int, backwards: bool, seed: int) -> None:
    spec = StarGraphData(degree=degree, path=path, nodes=30, backwards=backwards, seed=seed)
    made = token_rows(spec, 0, 20)
    for question, answer in zip(made.inputs.tolist(), made.labels.tolist(), strict=True):
        edges, (centre, goal) = edges_of(question)
        steps = [token for token in answer if token]
        steps = steps[::-1] if backwards else steps
        assert (steps[0], steps[-1], len(steps)) == (centre, goal, path)
        assert all(b in edges[a] for a, b in pairwise(steps))
        assert len(edges[centre]) == degree
        assert all(len(edges[node]) == 1 for node in steps[1:-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 1000))
def test_one_candidate_is_reached_in_the_hops_of_the_row(low: int, more: int, seed: int) -> None:
    spec = GraphSearchData(nodes=2 * (low + more + 1) + 3, hops=low + more, min_hops=low, seed=seed)
    made = token_rows(spec, 0, 20)
    for question, answer, hops in zip(made.inputs.tolist(), made.labels.tolist(), made.lengths.tolist(), strict=True):
        edges, (root, *candidates) = edges_of(question)
        assert answer[0] in candidates
        assert depth(edges, root, answer[0]) == hops
        (other,) = [c for c in candidates if c != answer[0]]
        assert depth(edges, root, other) is None
        assert low <= hops <= low + more
        assert not edges.get(answer[0])
        assert not edges.get(other)


def test_the_answer_of_a_search_is_either_candidate_equally_often() -> None:
    made = token_rows(GraphSearchData(), 0, 2000)
    first = sum(edges_of(row)[1][1] == answer[0] for row, answer in zip(made.inputs.tolist(), made.labels, strict=True))
    assert 900 < first < 1100


@pytest.mark.parametrize("key", [3, 5])
def test_recall_asks_in_the_test_for_keys_that_training_only_shows(key: int) -> None:
    spec = RecallData(keys=40, asked=30, values=5, key=key)
    train, test = (token_rows(spec, 0, 4000, split) for split in ("train", "test"))
    shows = train.inputs[:, -1] != MARK
    keys = [row.tobytes() for row in train.inputs[:, :-1]]
    table = {key: int(value) for key, value, shown in zip(keys, train.labels[:, 0], shows, strict=True) if shown}
    assert len(table) == 40
    asked = {key for key, shown in zip(keys, shows, strict=True) if not shown}
    assert len(asked) == 30
    assert (train.inputs[shows, -1] == train.labels[shows, 0]).all()
    assert (test.inputs[:, -1] == MARK).all()
    assert train.inputs.shape == (4000, key + 1)
    tested = {row.tobytes() for row in test.inputs[:, :-1]}
    assert len(tested) == 10
    assert not tested & asked
    for row, value in zip(test.inputs, test.labels[:, 0], strict=True):
        assert table[row[:-1].tobytes()] == value


@pytest.mark.parametrize("spec", [RecallData(), StarGraphData(), GraphSearchData()])
def test_rows_fit_their_layout_and_repeat(spec: PartTask) -> None:
    layout = token_layout(spec)
    assert layout is not None
    made, again, other = token_rows(spec, 3, 8), token_rows(spec, 3, 8), token_rows(spec, 4, 8)
    assert made.inputs.shape == made.labels.shape == (8, layout.num_cells)
    assert max(made.inputs.max(), made.labels.max()) < layout.vocabulary
    assert (made.inputs == again.inputs).all()
    assert (made.inputs != other.inputs).any()


def test_lines_show_edges_and_answers() -> None:
    question = np.array([5, 9, 9, 4, MARK, 5, 4, 0], dtype=np.uint8)
    assert part_line(StarGraphData(), question, np.array([5, 9, 4, 0])) == "3>7 7>2 ? 3 2 -> 3 7 2"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: RecallData(keys=4, asked=4), "leaves none"),
        (lambda: RecallData(keys=40, asked=4, key=1), "1 symbols make 16 keys, not 40"),
        (lambda: StarGraphData(degree=9, path=9), "need 73 names"),
        (lambda: GraphSearchData(nodes=8), "need 10 nodes"),
        (lambda: GraphSearchData(min_hops=5), "min_hops 5 is above hops 4"),
    ],
)
def test_values_that_do_not_go_together_are_refused(made: object, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        made()  # type: ignore[operator]
