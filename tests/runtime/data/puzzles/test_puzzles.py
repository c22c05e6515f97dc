"""Mazes and sudokus: every generated one is right and distinct, draws keep it right, and bad sources are named."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.puzzles import maze_kernels, sudoku_kernels
from gridloom.runtime.data.puzzles.generate import generate_mazes, generate_sudokus
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, load_puzzles, puzzles_digest
from gridloom.runtime.data.puzzles.sampler import PuzzleSampler
from gridloom.runtime.data.puzzles.sudoku_keys import sudoku_keys
from gridloom.runtime.data.puzzles.tables import box_of
from gridloom.runtime.data.stages import BuildPuzzles
from gridloom.runtime.data.tasks import apply_dihedral
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.stage import StageContext
from gridloom.specs.puzzles import MazeData, SudokuData

MAZES = MazeData(size=11, train=30, test=10, min_length=12, min_branches=2, loops=0.4, seed=5)
SUDOKUS = SudokuData(train=6, test=2, max_clues=25, seed=5)
Tokens = NDArray[np.uint8]


def shortest_paths(maze: Tokens) -> tuple[int, int]:
    """Length and number of the shortest ways from S to G, by plain breadth-first search."""
    size = len(maze)
    start = tuple(int(i) for i in np.argwhere(maze == 3)[0])
    goal = tuple(int(i) for i in np.argwhere(maze == 4)[0])
    distance, ways = {start: 0}, {start: 1}
    queue = deque([start])
    while queue:
        r, c = queue.popleft()
        for there in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
            if not (0 <= there[0] < size and 0 <= there[1] < size) or maze[there] == 1:
                continue
            if there not in distance:
                distance[there], ways[there] = distance[(r, c)] + 1, 0
                queue.append(there)
            if distance[there] == distance[(r, c)] + 1:
                ways[there] += ways[(r, c)]
    return distance[goal], ways[goal]


@settings(max_examples=15)
@given(st.integers(7, 16), st.integers(0, 2**31 - 1), st.floats(0, 1))
def test_mazes_have_one_shortest_path_and_the_label_marks_it(size: int, seed: int, loops: float) -> None:
    spec = MazeData(size=size, train=4, test=2, min_length=6, loops=loops, seed=seed)
    for inputs, labels in generate_mazes(spec).values():
        for maze, label in zip(inputs.reshape(-1, size, size), labels.reshape(-1, size, size), strict=True):
            length, ways = shortest_paths(maze)
            assert ways == 1
            assert length >= 6
            assert (label == 5).sum() == length - 1
            assert np.array_equal(np.where(label == 5, 2, label), maze)
            assert shortest_paths(np.where((label == 2), 1, label)) == (length, 1)
            assert (np.concatenate([maze[0], maze[-1], maze[:, 0], maze[:, -1]]) == 1).all()


def test_mazes_meet_length_and_branches() -> None:
    (inputs, labels), _ = generate_mazes(MAZES).values()
    for maze, label in zip(inputs.reshape(-1, 11, 11), labels.reshape(-1, 11, 11), strict=True):
        assert shortest_paths(maze)[0] >= 12
        on_path = np.argwhere((label == 5) | (label == 3))
        exits = [
            sum(maze[r + dr, c + dc] != 1 for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))) - (label[r, c] == 5)
            for r, c in on_path
        ]
        assert sum(number > 1 for number in exits) >= 2


def test_no_test_maze_is_a_training_maze_turned() -> None:
    tables = generate_mazes(MazeData(size=7, train=300, test=100))
    seen: set[bytes] = set()
    for inputs, _ in tables.values():
        for maze in inputs.reshape(-1, 7, 7):
            forms = {apply_dihedral(maze, dihedral).tobytes() for dihedral in range(8)}
            assert not (forms & seen)
            seen |= forms


@pytest.mark.parametrize("size", [4, 6, 9])
def test_sudokus_have_one_solution_and_no_clue_to_spare(size: int) -> None:
    tables = generate_sudokus(SudokuData(size=size, train=5, test=3, seed=size))
    boxes = box_of(size)
    seen = set()
    for inputs, labels in tables.values():
        puzzles, answers = inputs - 1, labels - 1
        assert sudoku_kernels.count_solutions(puzzles, size, *boxes).tolist() == [1] * len(puzzles)
        for puzzle, answer in zip(puzzles, answers, strict=True):
            seen.add(puzzle.tobytes())
            valid(answer.reshape(size, size), boxes)
            assert (answer[puzzle > 0] == puzzle[puzzle > 0]).all()
            for clue in np.flatnonzero(puzzle):
                without = puzzle.copy()
                without[clue] = 0
                assert sudoku_kernels.count_solutions(without[None], size, *boxes)[0] == 2
    assert len(seen) == 8


def valid(answer: Tokens, boxes: tuple[int, int]) -> None:
    """Fail unless rows, columns and boxes each hold every digit."""
    size = len(answer)
    digits = list(range(1, size + 1))
    for i in range(size):
        top, left = i // boxes[0] * boxes[0], i % boxes[0] * boxes[1]
        assert sorted(answer[i].tolist()) == sorted(answer[:, i].tolist()) == digits
        assert sorted(answer[top : top + boxes[0], left : left + boxes[1]].reshape(-1).tolist()) == digits


def exchanged(board: Tokens, key: int, size: int) -> Tokens:
    """A board (0 for blank) with digits, rows, columns, bands, stacks and sides exchanged as a key says."""
    out = np.zeros_like(board)
    sudoku_kernels.shuffle_board(board + np.uint8(1), out, np.uint64(key), size, *box_of(size))
    return out - np.uint8(1)


def keys_of(inputs: Tokens, labels: Tokens, size: int) -> list[int]:
    return cast(list[int], sudoku_keys(inputs - 1, labels - 1, size, *box_of(size)).tolist())


@settings(max_examples=40)
@given(st.sampled_from([4, 6, 9]), st.integers(0, 2**20), st.integers(1, 2**62))
def test_sudoku_keys_survive_every_exchange_and_see_every_clue(size: int, seed: int, key: int) -> None:
    (inputs, labels), _ = generate_sudokus(SudokuData(size=size, train=1, test=0, seed=seed)).values()
    puzzle, answer = inputs[0] - 1, labels[0] - 1
    here, there = (
        keys_of(a[None] + 1, b[None] + 1, size)
        for a, b in ((puzzle, answer), (exchanged(puzzle, key, size), exchanged(answer, key, size)))
    )
    assert here == there
    without = puzzle.copy()
    without[np.flatnonzero(puzzle)[0]] = 0
    assert keys_of(without[None] + 1, labels, size) != here


def smallest_form(puzzle: Tokens) -> bytes:
    """The canonical form of a 4x4 sudoku by trying all 128 exchanges of cells, digits numbered by first sight."""
    forms = []
    pairs = [(a, b) for a in ((0, 1), (1, 0)) for b in ((2, 3), (3, 2))]
    orders = [order for a, b in pairs for order in ((*a, *b), (*b, *a))]
    board = puzzle.reshape(4, 4)
    for grid in (board, board.T):
        for rows in orders:
            for columns in orders:
                cells = grid[np.ix_(rows, columns)].reshape(-1).tolist()
                seen: dict[int, int] = {0: 0}
                forms.append(bytes(seen.setdefault(digit, len(seen)) for digit in cells))
    return min(forms)


def test_sudoku_keys_of_4x4_tell_exactly_the_36_classes_apart() -> None:
    (inputs, labels), _ = generate_sudokus(SudokuData(size=4, train=500, test=0)).values()
    pairs = set(zip(keys_of(inputs, labels, 4), map(smallest_form, inputs - 1), strict=True))
    assert len(pairs) == len({key for key, _ in pairs}) == len({form for _, form in pairs}) == 36


@pytest.mark.parametrize("size", [4, 6])
def test_no_test_sudoku_is_a_training_sudoku_exchanged(size: int) -> None:
    tables = generate_sudokus(SudokuData(size=size, train=200, test=80))
    train, test = (set(keys_of(*tables[split], size)) for split in ("train", "test"))
    assert not train & test
    if size == 4:
        forms = [{smallest_form(row - 1) for row in tables[split][0]} for split in ("train", "test")]
        assert not forms[0] & forms[1]
        assert len(test) >= 7
    assert len({row.tobytes() for split in ("train", "test") for row in tables[split][0]}) == 280


@pytest.mark.parametrize(("apart", "meets"), [("symmetry", False), ("cells", True)])
def test_shuffled_training_rows_are_never_test_sudokus(tmp_path: Path, apart: Any, meets: bool) -> None:
    build_puzzles(SudokuData(size=4, train=200, test=200, apart=apart), Path(), tmp_path)
    puzzles = load_puzzles(tmp_path)
    drawn = {row.tobytes() for row in PuzzleSampler(puzzles, seed=0).batch(0, 5000).inputs}
    met = drawn & {row.tobytes() for row in np.asarray(puzzles.splits["test"].inputs)}
    assert bool(met) == meets


def test_sets_kept_apart_by_cells_are_those_of_before() -> None:
    """Their digest is older than the field `apart`; recipes and artifacts go on as they were."""
    digest = puzzles_digest(SudokuData(size=4, train=20000, test=1000, apart="cells"), Path())
    assert digest == "21e8caf6effb9c8908ed32fb7f5c3d21c9468fb76c7a3beefe18d2b60fa4aeaf"
    assert digest != puzzles_digest(SudokuData(size=4, train=20000, test=1000), Path())


def test_sudokus_meet_clues_and_guesses() -> None:
    spec = SudokuData(train=4, test=1, max_clues=24, min_guesses=2, seed=1)
    puzzles = generate_sudokus(spec)["train"][0] - 1
    assert ((puzzles > 0).sum(axis=1) <= 24).all()
    assert all(sudoku_kernels.count_guesses(puzzle, 9, 3, 3) >= 2 for puzzle in puzzles)


@given(spare=st.integers(0, 70), size=st.sampled_from((4, 6, 9)))
@settings(max_examples=15, deadline=None)
def test_spare_clues_are_given_back_to_the_same_sudokus(spare: int, size: Literal[4, 6, 9]) -> None:
    spec = SudokuData(size=size, train=1, test=0, apart="cells", seed=3)
    (bare, solved), (easier, answers) = (
        generate_sudokus(spec.model_copy(update={"spare_clues": number}))["train"] for number in (0, spare)
    )
    assert np.array_equal(solved, answers)
    assert ((easier == bare) | (bare == 1)).all()
    assert ((easier == answers) | (easier == 1)).all()
    assert (easier > 1).sum() == min((bare > 1).sum() + spare, size * size)


def test_known_boards_are_counted_and_rated_right() -> None:
    """17 clues, one solution, from the published list; singles solve it. An empty board has many, a broken one none."""
    known = "000000010400000000020000000000050407008000300001090000300400200050100000000806000"
    board = np.array([int(c) for c in known], dtype=np.uint8)
    broken = board.copy()
    broken[8] = 1
    counts = sudoku_kernels.count_solutions(np.stack([board, np.zeros_like(board), broken]), 9, 3, 3)
    assert counts.tolist() == [1, 2, 0]
    assert sudoku_kernels.count_guesses(broken, 9, 3, 3) == -1
    hardest = "800000000003600000070090200050007000000045700000100030001000068008500010090000400"
    assert sudoku_kernels.count_guesses(np.array([int(c) for c in hardest], dtype=np.uint8), 9, 3, 3) > 5


def test_generators_repeat_by_seed() -> None:
    for one, two, other in (
        (generate_mazes(MAZES), generate_mazes(MAZES), generate_mazes(MAZES.model_copy(update={"seed": 6}))),
        (
            generate_sudokus(SUDOKUS),
            generate_sudokus(SUDOKUS),
            generate_sudokus(SUDOKUS.model_copy(update={"seed": 6})),
        ),
    ):
        assert np.array_equal(one["train"][0], two["train"][0])
        assert not np.array_equal(one["train"][0], other["train"][0])


@pytest.mark.parametrize(
    "spec",
    [
        MazeData(size=5, train=50, test=0),
        MazeData(size=9, train=1, test=0, min_length=90),
        SudokuData(size=4, max_clues=3),
    ],
)
def test_impossible_conditions_end_with_a_message(spec: MazeData | SudokuData, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"only [\d,]+ of [\d,]+ \w+ puzzles of size \d found") as caught:
        build_puzzles(spec, Path(), tmp_path)
    assert caught.value.remedy


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for spec in (MAZES, SUDOKUS):
        found[spec.kind] = tmp_path_factory.mktemp(spec.kind)
        node = StageNode(
            name="p",
            kind=spec.kind,
            version=1,
            produces="puzzles",
            spec=spec.model_dump(mode="json"),
            facts={"digest": LocalFacts().data(spec, ".").digest},
        )
        context = SimpleNamespace(out=found[spec.kind], base=Path(), notes={})
        BuildPuzzles().run(node, {}, cast(StageContext, context))
    return found


@pytest.mark.parametrize("kind", ["maze", "sudoku"])
def test_drawn_rows_are_right_puzzles_and_do_not_depend_on_the_cut(built: dict[str, Path], kind: str) -> None:
    puzzles = load_puzzles(built[kind])
    sampler = PuzzleSampler(puzzles, seed=2)
    batch = sampler.batch(0, 200)
    if kind == "maze":
        assert not maze_kernels.judge_mazes(batch.inputs, batch.labels, puzzles.size)[:, 0].any()
    else:
        faults = sudoku_kernels.judge_sudokus(batch.inputs - 1, batch.labels - 1, 9, 3, 3)
        assert not faults.any()
        assert sudoku_kernels.count_solutions(batch.inputs - 1, 9, 3, 3).tolist() == [1] * 200
    assert len({row.tobytes() for row in batch.inputs}) > sampler.epoch_rows
    parts = [PuzzleSampler(puzzles, seed=2).batch(step, 40) for step in range(5)]
    assert np.array_equal(np.concatenate([part.inputs for part in parts]), batch.inputs)
    first = sampler.rows(np.arange(sampler.epoch_rows))
    assert sorted(first.task_index.tolist()) == list(range(sampler.epoch_rows))


@settings(max_examples=25)
@given(
    st.sampled_from(["maze", "sudoku"]),
    st.integers(0, 2**63 - 1),
    st.lists(st.integers(0, 500), min_size=1, max_size=8),
)
def test_a_drawn_row_depends_on_seed_and_number_alone(
    built: dict[str, Path], kind: str, seed: int, numbers: list[int]
) -> None:
    puzzles = load_puzzles(built[kind])
    together = PuzzleSampler(puzzles, seed).rows(np.array(numbers))
    for place, number in enumerate(numbers):
        alone = PuzzleSampler(puzzles, seed).rows(np.array([number]))
        assert np.array_equal(together.inputs[place], alone.inputs[0])
        assert np.array_equal(together.labels[place], alone.labels[0])


@pytest.mark.parametrize("kind", ["maze", "sudoku"])
def test_artifact_reads_back_as_a_source(built: dict[str, Path], tmp_path: Path, kind: str) -> None:
    spec: MazeData | SudokuData = (
        MazeData(source=str(built[kind])) if kind == "maze" else SudokuData(source=str(built[kind]))
    )
    build_puzzles(spec, Path(), tmp_path / "again")
    for name in ("train/all__inputs.npy", "train/all__labels.npy", "test/all__inputs.npy", "train/dataset.json"):
        assert (tmp_path / "again" / name).read_bytes() == (built[kind] / name).read_bytes()
    facts = LocalFacts().data(spec, ".")
    assert (facts.num_tasks, facts.canvas) == ((30, 11) if kind == "maze" else (6, 9))


CSV = "source,question,answer,rating\n"


def test_csv_files_are_read_with_their_spaces(tmp_path: Path) -> None:
    rows = ["S #", "# #", " G#"], ["So#", "#o#", " G#"]
    question, answer = ("".join(lines) for lines in rows)
    (tmp_path / "train.csv").write_text(CSV + f"x,{question},{answer},0\n")
    build_puzzles(MazeData(source="."), tmp_path, tmp_path / "good")
    (tmp_path / "train.csv").write_text(CSV + f"x,{question},{question},0\n")
    with pytest.raises(DataError, match="puzzle 1 of 1: no shortest path"):
        build_puzzles(MazeData(source="."), tmp_path, tmp_path / "bad")
    assert load_puzzles(tmp_path / "good").splits["train"].inputs.tolist() == [[3, 2, 1, 1, 2, 1, 2, 4, 1]]


def edit(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        np.save(folder / name, change(np.load(folder / name)))

    return apply


def set_cell(value: int) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        table[1, 0] = value
        return table

    return change


@pytest.mark.parametrize(
    ("kind", "damage", "said"),
    [
        ("maze", edit("train/all__inputs.npy", set_cell(9)), "inputs row 1, position 0: token 9 of a vocabulary of 6"),
        ("maze", edit("train/all__labels.npy", set_cell(2)), "puzzle 2 of 30: the answer differs beside the path"),
        ("maze", edit("train/all__inputs.npy", set_cell(3)), "puzzle 2 of 30: not one S and one G"),
        ("sudoku", edit("train/all__labels.npy", set_cell(1)), "puzzle 2 of 6: the answer is not a valid sudoku"),
        ("sudoku", edit("train/all__inputs.npy", lambda a: a[:-1]), r"labels are \(6, 81\), not \(5, 81\)"),
    ],
)
def test_bad_sources_are_named(
    built: dict[str, Path], tmp_path: Path, kind: str, damage: Callable[[Path], None], said: str
) -> None:
    source = tmp_path / "source"
    for path in built[kind].rglob("*"):
        if path.is_file():
            (source / path.relative_to(built[kind])).parent.mkdir(parents=True, exist_ok=True)
            (source / path.relative_to(built[kind])).write_bytes(path.read_bytes())
    damage(source)
    spec: MazeData | SudokuData = MazeData(source="source") if kind == "maze" else SudokuData(source="source")
    with pytest.raises(DataError, match=said):
        build_puzzles(spec, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x,1234,1234\n", "train.csv:2: not source,question,answer,rating"),
        ("x,123,123,0\n", "train.csv:2: not source"),
        ("x,12x4,1234,0\n", "train.csv:2: character 3 is 'x'"),
        ("", "no puzzles"),
        ("NO HEADER", "train.csv:1: a puzzle where the header source,question,answer,rating should be"),
        ("x,....,1234,0\nx," + "." * 16 + "," + "1" * 16 + ",0\n", "train.csv:3: 16 cells, others have 4"),
    ],
)
def test_bad_csv_lines_are_named(tmp_path: Path, line: str, said: str) -> None:
    solved = "1234341221434321"
    content = CSV + line if line != "NO HEADER" else f"x,{solved},{solved},0\nx,{solved},{solved},0\n"
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        build_puzzles(SudokuData(source="."), tmp_path, tmp_path / "out")
