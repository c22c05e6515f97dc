"""Rules of cells: what features measure, which rules are learnt from small tasks, and their texts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.rules.conditions import make_table
from gridloom.solvers.rules.descriptions import FEATURES, OF_PARTS, describe, family_of, page
from gridloom.solvers.rules.features import features_of, is_colour, joined_features, names_of_features
from gridloom.solvers.rules.language import RuleError, parse_rule
from gridloom.solvers.rules.learning import BASES, MOST_COST, NOTHING, Learner, RuleSet, count, pack
from gridloom.solvers.search.found import Budget
from gridloom.solvers.search.programs import ProgramError, parse_program
from gridloom.solvers.search.running import run_program
from gridloom.solvers.search.search import search

PAGE = (Path(__file__).parents[3] / "docs" / "rules.md").read_text(encoding="utf-8")
SMALL = Budget(depth=10, states=2000, pieces=1000, megabytes=32)


def grid(text: str) -> Grid:
    """Return a grid of rows that are separated by spaces."""
    return np.array([[int(cell) for cell in row] for row in text.split()], dtype=np.uint8)


def task_of(*pairs: tuple[str, str], tests: tuple[str, ...]) -> Task:
    """Return a task of grids as text."""
    return Task("made", "made", tuple(Pair(grid(a), grid(b)) for a, b in pairs), tuple(grid(test) for test in tests))


COPIED_SHAPES = task_of(
    ("50000 55000 00050 00055 55500", "30000 33000 00030 00033 55500"),
    ("05550 00000 05000 05500 00000", "05550 00000 05000 05500 00000"),
    ("55055 00000 55000 00000 50505", "33033 00000 33000 00000 30303"),
    tests=("55500 00000 55055 05005 00000",),
)
"""Shapes that stand in the grid more than once turn from 5 to 3."""


def drawn_pairs() -> Task:
    """Return a task of noise, in which cells of colour 1 left of colour 2 turn 3: every demonstration shows it."""
    grids = np.random.default_rng(7).integers(0, 3, size=(4, 7, 8)).astype(np.uint8)
    outputs = grids.copy()
    outputs[:, :, :-1][(grids[:, :, :-1] == 1) & (grids[:, :, 1:] == 2)] = 3
    return Task("drawn", "drawn", tuple(map(Pair, grids[:3], outputs[:3])), (grids[3],))


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("part4 cells", "550 050 003", "332 332 331"),
        ("ray right", "0050 2000", "55:: ::::"),
        ("between 0", "5050", ":5::"),
        ("enclosed", "0555 0505 0555", "0000 0010 0000"),
        ("around", "0555 0505 0555", "5::: 5:5: 5:::"),
        ("object mirror_across", "0000 0250 0200", ":::: :52: :02:"),
        ("part8 copies", "5005 0000 5500", "2002 0000 1100"),
        ("row_filled", "505 000", "222 000"),
    ],
)
def test_a_feature_measures_what_its_name_says(name: str, before: str, after: str) -> None:
    """Values of a feature at every cell; ':' is the colour of what is not there."""
    expected = [[10 if value == ":" else int(value) for value in row] for row in after.split()]
    assert features_of(grid(before))[name].tolist() == expected


def test_rules_explain_what_no_layers_do() -> None:
    """A condition on the number of alike shapes answers, and its text gives the same grids again."""
    best = search(COPIED_SHAPES, SMALL).found[0]
    assert best.fits_all
    assert best.program.rules
    assert np.array_equal(best.grids[0], grid("55500 00000 33033 03003 00000"))
    again = run_program(str(best.program), COPIED_SHAPES)
    assert all(again.fits)
    assert np.array_equal(again.tests[0], best.grids[0])


@pytest.mark.parametrize("rule", ["3: part4 holes >= 1 & own = 5", "ray up_left: all", "[input > crop]: row != -1"])
def test_a_rule_is_read_and_written_alike(rule: str) -> None:
    """Text of rules is canonical."""
    text = f"rows 3\ncolumns 3\non: input\nrule {rule}\n"
    assert str(parse_program(text)) == text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("on: input\nrule 3: nonsense = 1", "line 4 .*no feature is named 'nonsense'"),
        ("on: input\nrule 3: own = x", "line 4 .*compares with a number, not with 'x'"),
        ("on: input\nrule 3", "line 4 .*'rule COLOUR: CONDITION"),
        ("on: input\nrule part4 cells: all", "line 4 .*is a number, not a colour"),
        ("on: input\nrule 3: own", "line 4 .*a condition is"),
        ("on: input\nrule [input > nothing]: all", "line 4 .*no function is named 'nothing'"),
        ("rule 3: all", "no line 'on:'"),
        ("on: input\nlayer all: input", "lines 'layer' and 'rule', each in place of the other"),
        ("on: input\nlookup: input", "lines 'lookup:' and 'rule', each in place of the other"),
        ("on: input\nrule 3: all\nlayer shape: input", "lines 'layer' and 'rule'"),
        ("lookup: input\nlayer shape: input", "lines 'layer' and 'lookup:'"),
        ("on: input", "no line 'rule'"),
        ("on: input\non: input > crop\nrule 3: all", "line 4 .*has one line 'on:'"),
        ("rows 4\nlayer all: input", "line 3 .*has one line 'rows'"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line(lines: str, message: str) -> None:
    """The message names the line and the part."""
    with pytest.raises(ProgramError, match=message):
        parse_program(f"rows 3\ncolumns 3\n{lines}\n")


def test_a_cell_without_a_rule_is_background() -> None:
    """The demonstrations show it as not set."""
    task = task_of(("50", "30"), tests=("55",))
    output = run_program("rows 1 * [input]\ncolumns 1 * [input]\non: input\nrule 3: own = 5 & column = 0\n", task)
    assert output.demos[0].tolist() == [[3, 10]]
    assert output.tests[0].tolist() == [[3, 0]]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.sampled_from((1, 2, 3, 30)), st.sampled_from((1, 2, 3, 30))),
    colours=st.integers(1, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_legal_grid_has_every_feature(shape: tuple[int, int], colours: int, seed: int) -> None:
    """Each feature is a number for every cell, and those that are colours are colours."""
    cells = np.random.default_rng(seed).integers(10 - colours, 10, size=shape).astype(np.uint8)
    features = features_of(cells)
    assert set(features) == names_of_features()
    for name, values in features.items():
        assert values.shape == shape
        assert values.dtype == np.int16
        if is_colour(name):
            assert values.min() >= 0
            assert values.max() <= 10


def test_a_rule_without_a_known_image_is_an_error() -> None:
    """The text of an image is read by the program."""

    def unknown(text: str) -> int:
        raise RuleError(text)

    with pytest.raises(RuleError, match="crop"):
        parse_rule("[crop]: all", unknown)


def test_every_feature_is_described_and_drawn() -> None:
    """docs/rules.md ends with the features, drawn anew; no description is of a feature that there is not."""
    assert all(describe(name) for name in names_of_features())
    families = {family_of(name) for name in names_of_features()}
    assert families == set(FEATURES) | {f"part {name}" for name in OF_PARTS}
    assert PAGE.endswith(page())


def test_the_program_of_the_page_runs() -> None:
    """The example does what its comment says."""
    text = PAGE.split("runs again:\n\n")[1].split("\n\n")[0]
    program = parse_program("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    task = task_of(("3", "3"), tests=("50500 00055 55000",))
    assert np.array_equal(run_program(program, task).tests[0], grid("10100 00011 11000"))


def test_rules_are_switched_off_by_the_budget() -> None:
    """Without them no program has any, and nothing agrees."""
    found = search(COPIED_SHAPES, replace(SMALL, rules=False)).found
    assert found
    assert not any(one.program.rules or one.agreed for one in found)


def test_layers_and_rules_that_answer_alike_agree() -> None:
    """The program is that of the layers."""
    task = task_of(("050 500 005", "030 300 003"), ("500 050 000", "300 030 000"), tests=("550 005 050",))
    best = search(task, SMALL).found[0]
    assert best.agreed
    assert best.program.layers
    assert np.array_equal(best.grids[0], grid("330 003 030"))


def test_rules_are_learnt_again_without_each_demonstration() -> None:
    """Two drawn demonstrations show what the third does; two of the shapes do not show which features count."""
    best = search(drawn_pairs(), SMALL).found[0]
    assert best.program.rules
    assert best.ruled == (True, True, True)
    best = search(COPIED_SHAPES, SMALL).found[0]
    assert best.program.rules
    assert not all(best.ruled)
    assert len(best.ruled) == 3


def test_rules_that_a_demonstration_alone_shows_are_not_found_again() -> None:
    """The third demonstration alone shows that 7 stays; without it all colours turn, and that one is missed."""
    draw = np.random.default_rng(11)
    grids = [draw.choice(np.array(colours, dtype=np.uint8), (5, 6)) for colours in ((0, 5, 6), (0, 5, 6), (0, 6, 7))]
    pairs = tuple(Pair(one, np.where((one == 5) | (one == 6), 3, one).astype(np.uint8)) for one in grids)
    task = Task("drawn", "drawn", pairs, (grid("070506 600700 055007"),))
    answer, third = slice(90, None), slice(60, 90)
    assert np.array_equal(learnt(task)[0].row[answer].reshape(3, 6), grid("070303 300700 033007"))
    without = learnt(task, left_out=third)[0].row
    assert np.array_equal(without[answer].reshape(3, 6), grid("030303 300300 033003"))
    assert not np.array_equal(without[third], pairs[2].output.ravel())
    assert search(task_of(("50", "30"), tests=("05",)), SMALL).found[0].ruled == ()


def test_rules_without_a_demonstration_read_nothing_of_its_output() -> None:
    """They are the same whatever the output left out is, and give the others."""
    source = np.random.default_rng(3)
    inputs = source.integers(0, 3, size=(4, 5, 5)).astype(np.uint8)
    outputs = [np.where(one == 2, 1, one).astype(np.uint8) for one in inputs[:3]]
    other = source.integers(0, 2, size=(5, 5)).astype(np.uint8)
    tests = (inputs[3],)
    for left_out in range(3):
        cells = slice(25 * left_out, 25 * left_out + 25)
        changed = [other if p == left_out else one for p, one in enumerate(outputs)]
        ones = [
            learnt(Task("drawn", "drawn", tuple(map(Pair, inputs, of)), tests), left_out=cells)
            for of in (outputs, changed)
        ]
        assert ones[0]
        assert [rules.rules for rules in ones[0]] == [rules.rules for rules in ones[1]]
        expected = np.concatenate([one.ravel() for one in outputs])
        assert np.array_equal(ones[0][0].row[:75], expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 4), cells=st.integers(1, 200))
def test_words_count_what_bits_do(seed: int, rows: int, cells: int) -> None:
    """Bits behind the last cell are clear."""
    bits = np.random.default_rng(seed).random((rows, cells)) < 0.5
    words = pack(bits)
    assert words.shape == (rows, -(-cells // 64))
    assert count(words).tolist() == bits.sum(axis=1).tolist()
    assert count(words & pack(~bits)).tolist() == [0] * rows


def test_threads_learn_the_same_rules_again() -> None:
    """Searches that run together give the programs, and the evidence, of one that runs alone."""

    def of(task: Task) -> list[tuple[str, tuple[bool, ...], tuple[bool, ...], bool]]:
        return [(str(one.program), one.again, one.ruled, one.agreed) for one in search(task, SMALL).found]

    tasks = [COPIED_SHAPES, drawn_pairs()] * 2
    alone = [of(task) for task in tasks]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(of, tasks)) == alone


def learnt(task: Task, late: Callable[[], bool] = lambda: False, left_out: slice = NOTHING) -> list[RuleSet]:
    """Return the rules that are learnt on the inputs of a task."""
    inputs = [*(pair.input for pair in task.demos), *task.tests]
    sizes = np.array([one.shape for one in inputs], dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes.prod(axis=1)))).astype(np.int64)
    target = np.concatenate([pair.output.ravel() for pair in task.demos])
    features = joined_features(np.concatenate([one.ravel() for one in inputs]), starts, sizes)
    images = np.zeros((0, int(starts[-1])), dtype=np.uint8)
    table = make_table(features, images, np.zeros(0, dtype=np.int64), len(target), np.unique(target).tolist())
    return Learner(table, target, len(target), late).run(left_out)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), colours=st.sampled_from((1, 2, 4)), side=st.sampled_from((1, 2, 4)))
def test_whatever_is_learnt_gives_every_demonstration(seed: int, colours: int, side: int) -> None:
    """Rules of noise fit too, or there are none."""
    source = np.random.default_rng(seed)
    grids = source.integers(0, colours, size=(2, 2, side, side)).astype(np.uint8)
    task = Task("drawn", "drawn", tuple(Pair(a, b) for a, b in grids), (grids[0, 1],))
    target = np.concatenate([pair.output.ravel() for pair in task.demos])
    for one in learnt(task):
        assert np.array_equal(one.row[: target.size], target)
        assert one.cost <= MOST_COST
        assert not one.rules[-1].conditions


def test_a_colour_for_two_reasons_has_two_rules() -> None:
    """No conjunction covers cells below 1 and beside 2; two rules do."""
    task = task_of(
        ("00100 00000 00000 20000 00000", "00100 00300 00000 23000 00000"),
        ("00000 01000 00000 00020 00000", "00000 01000 03000 00023 00000"),
        tests=("10000 00000 00000 00200 00000",),
    )
    best = learnt(task)[0]
    assert [rule.value for rule in best.rules].count(3) == 2
    assert np.array_equal(best.row[-25:].reshape(5, 5), grid("10000 30000 00000 00230 00000"))


def test_rules_longer_than_the_outputs_are_no_candidates() -> None:
    """Outputs of three cells together are explained by no rules of two conditions."""
    task = task_of(("500 050 005", "3"), ("500 550 005", "0"), ("005 050 500", "3"), tests=("550 050 005",))
    for one in search(task, SMALL).found:
        assert not one.program.rules or one.cost <= 3


def test_learning_ends_when_the_time_is_over() -> None:
    """A step of noise looks at eight colours and more; after the end each of the three bases asks once or twice."""
    source = np.random.default_rng(0)
    grids = source.integers(0, 10, size=(3, 2, 8, 8)).astype(np.uint8)
    task = Task("drawn", "drawn", tuple(Pair(a, b) for a, b in grids), (grids[0, 1],))
    asked: list[bool] = []

    def late() -> bool:
        asked.append(len(asked) >= 2)
        return asked[-1]

    assert learnt(task, late) == []
    assert 3 <= len(asked) <= 2 + 2 * BASES
    assert learnt(COPIED_SHAPES, lambda: True) == []
    assert learnt(COPIED_SHAPES) != []
