"""Reading grids from text: every usual writing, the choice among several grids, refusals, time on hostile text."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gridloom.runtime.data.arc import block_lists, bracketed_grids, printed_grids
from gridloom.runtime.data.arc.parsing import Shown, last_block, read_grid_text

GRID = [[0, 0, 5], [0, 5, 0], [5, 0, 0]]
ROWS = "0 0 5\n0 5 0\n5 0 0"
JSON = "[[0,0,5],[0,5,0],[5,0,0]]"
INPUT = [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
SHOWN = Shown(np.array(INPUT), (np.array([[9, 9], [9, 9]]),))


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f'{{"output": {JSON}, "why": "the rule [1] mirrors"}}',
        f'{{"any key": {JSON}}}',
        rf"\boxed{{{JSON}}}",
        r"\boxed{\begin{bmatrix} 0 & 0 & 5 \\ 0 & 5 & 0 \\ 5 & 0 & 0 \end{bmatrix}}",
        f"<think>maybe [[1,1]]\n1 2\n3 4</think>\n{JSON}",
        f"the prompt opened it\n1 2\n3 4\n</think>\n{ROWS}",
        f"<think>{ROWS}\n</think>Done.",
        f"```json\n{JSON}\n```",
        f"```\n{ROWS}\n```\n\nfrom\n1 2 3\n4 5 6",
        json.dumps(GRID, indent=2),
        json.dumps({"grid": GRID}, indent=4),
        "output = [[0,0,5],\n[0,5,0],\n[5,0,0]]",
        "((0,0,5),(0,5,0),(5,0,0))",
        "[(0,0,5),\n (0,5,0),\n (5,0,0)]",
        "array([[0, 0, 5],\n       [0, 5, 0],\n       [5, 0, 0]], dtype=uint8)",
        "np.array([[0, 0, 5], [0, 5, 0], [5, 0, 0]])",
        "[[0 0 5]\n [0 5 0]\n [5 0 0]]",
        "[[0. 0. 5.]\n [0. 5. 0.]\n [5. 0. 0.]]",
        ROWS,
        ROWS.replace(" ", ", "),
        ROWS.replace(" ", "|"),
        ROWS.replace(" ", ""),
        ROWS.replace(" ", "\t"),
        ROWS.replace("\n", "\r\n") + "\r\n",
        ROWS.replace("\n", "\n\n"),
        "Output: 0 0 5\n0 5 0\n5 0 0",
        "<answer>005\n050\n500</answer>",
        "Size: 3\n" + ROWS + "\nCount: 7",
        "Row 1: 0 0 5\nRow 2: 0 5 0\nRow 3: 5 0 0",
        "1: 0 0 5\n2: 0 5 0\n3: 5 0 0",
        "1. 0 0 5\n2. 0 5 0\n3. 5 0 0",
        "Row 1: [0, 0, 5]\nRow 2: [0, 5, 0]\nRow 3: [5, 0, 0]",
        "[0,0,5]\n[0,5,0]\n[5,0,0]",
        "[0,0,5], [0,5,0], [5,0,0]",
        "| 0 | 0 | 5 |\n|---|---|---|\n| 0 | 5 | 0 |\n| 5 | 0 | 0 |",
        "|   | 1 | 2 | 3 |\n|---|---|---|---|\n| 1 | 0 | 0 | 5 |\n| 2 | 0 | 5 | 0 |\n| 3 | 5 | 0 | 0 |",
        "| A | B | C |\n|---|---|---|\n| 0 | 0 | 5 |\n| 0 | 5 | 0 |\n| 5 | 0 | 0 |",
        '["005","050","500"]',
        '["0 0 5","0 5 0","5 0 0"]',
        '[["0","0","5"],["0","5","0"],["5","0","0"]]',
        "[[005],[050],[500]]",
        f"[{JSON}]",
        "> 0 0 5\n> 0 5 0\n> 5 0 0",
        "- 0 0 5\n- 0 5 0\n- 5 0 0",
        "`0 0 5`\n`0 5 0`\n`5 0 0`",
        "[[0,0,5], # first\n [0,5,0], // second\n [5,0,0]]",
        "[[0,0,5,],[0,5,0,],[5,0,0,],]",
        f"see [1 for it (and\n{ROWS}",
        f"as said [1; and also 2]:\n{ROWS}",
        r"The answer is $\boxed{\begin{array}{ccc}0&0&5\\0&5&0\\5&0&0\end{array}}$.",
        r"So we get \[\left[\begin{array}{c|cc} 0 & 0 & 5 \\ 0 & 5 & 0 \\ 5 & 0 & 0 \end{array}\right]\]",
        "\\[\n\\begin{bmatrix}\n0 & 0 & 5 \\\\\n0 & 5 & 0 \\\\\n5 & 0 & 0\n\\end{bmatrix}\n\\]",
        "[0 0 5; 0 5 0; 5 0 0]",
        "[0, 0, 5; 0, 5, 0; 5, 0, 0];",
        "[0 0 5;\n 0 5 0;\n 5 0 0]",
        "0;0;5\n0;5;0\n5;0;0",
        "output = [0 0 5; 0 5 0; 5 0 0]",
        "The grid is [0 0 5; 0 5 0; 5 0 0].",
        "- - 0\n  - 0\n  - 5\n- - 0\n  - 5\n  - 0\n- - 5\n  - 0\n  - 0",
        "output:\n  - - 0\n    - 0\n    - 5\n  - - 0\n    - 5\n    - 0\n  - - 5\n    - 0\n    - 0\nwhy: it mirrors",
        "```yaml\n-\n  - 0\n  - 0\n  - 5\n-\n  - 0\n  - 5\n  - 0\n-\n  - 5\n  - 0\n  - 0\n```",
    ],
)
def test_grid_is_read_in_every_usual_writing(text: str) -> None:
    reading = read_grid_text(text, SHOWN)
    assert reading.grid == GRID, reading


@pytest.mark.parametrize(
    "text",
    [
        f"{ROWS}\n\nI used\n1 2 3",
        f"{JSON}\n1 2 3",
        f"{ROWS}\n\nThe input was\n1 1 1\n2 2 2\n3 3 3",
        f"{ROWS}\n\nThe input was {INPUT}",
        f"{ROWS}\n\nas in example 1:\n9 9\n9 9",
        f"First [[1,2],[3,4]]. **Final answer:**\n```\n{ROWS}\n```\n",
        f"<answer>\n{ROWS}\n</answer> since [[1,2],[3,4]] was wrong",
    ],
)
def test_choice_among_several_grids_is_the_answer_and_is_noted(text: str) -> None:
    reading = read_grid_text(text, SHOWN)
    assert reading.grid == GRID
    assert reading.rivals == 1
    assert reading.note == "1 other grid in the text"
    recorded = reading.as_dict()
    assert (recorded["parser"], recorded["rivals"], recorded["note"]) == (2, 1, "1 other grid in the text")
    assert text[recorded["start"] : recorded["end"]].strip("[ ").startswith("0")


@pytest.mark.parametrize(
    ("text", "grid", "note"),
    [
        (str(INPUT), INPUT, "equal to the test input"),
        ("[[9,9],[9,9]]", [[9, 9], [9, 9]], "equal to a grid of the examples"),
        ("1 2\n3 4\n\n5 6\n7", [[1, 2], [3, 4]], "refused: rows of different lengths"),
        ("<think>1 2\n3 4\n</think>", [[1, 2], [3, 4]], "read from the reasoning"),
        ("Answer: 5", [[5]], ""),
        ("[[5]]", [[5]], ""),
        ("[5]", [[5]], ""),
        ("[[1,2,3]]", [[1, 2, 3]], ""),
        ("[[1],[2]]", [[1], [2]], ""),
        ("12", [[1, 2]], ""),
    ],
)
def test_grids_without_a_better_one_are_taken_with_a_note(text: str, grid: list[list[int]], note: str) -> None:
    reading = read_grid_text(text, SHOWN)
    assert (reading.grid, reading.note) == (grid, note)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[0,0],[0]]", "rows of different lengths"),
        ("0 0 5\n0 5\n5 0 0", "rows of different lengths"),
        ("[[0,10],[1,2]]", "10 is not a colour 0-9"),
        ("0 10\n1 2", "10 is not a colour 0-9"),
        ("[[0,-1],[1,2]]", "-1 is not a colour 0-9"),
        ("0 -1\n1 2", "-1 is not a colour 0-9"),
        ("[[0.5,1],[1,2]]", "0.5 is not a colour 0-9"),
        ("[[12],[34]]", "12 is not a colour 0-9"),
        ("[[0,,5],[0,5,0]]", "a cell is missing between two commas"),
        ("| 0 |  | 5 |\n| 0 | 5 | 0 |", "an empty cell"),
        ("[[0,null],[1,2]]", "a row holds something other than colours"),
        ("[[0,0,...],\n[0,5,0]]", "a row holds something other than colours"),
        ("output = [[0,0,5],\n[0,5,0]\nDone.", "words stand among the rows"),
        ("[[0,0,5],[0,5,0],[5,0", "the text ends within the grid"),
        ("[[0,0,5],\n[0,5,0],\n", "the text ends within the grid"),
        ("0 0\n0 1\n\n[[0,0,5],[0,5", "the text ends within the grid"),
        (f"{INPUT} becomes [[0,0,5],[0,5", "the text ends within the grid"),
        (f"[[1,2],[3,4]], so the final answer: {JSON[:-10]}, 7]]", "rows of different lengths"),
        (str([[0] * 31]), "more than 30 rows or columns"),
        (str([[0]] * 31), "more than 30 rows or columns"),
        ("\n".join(["0 0"] * 31), "more than 30 rows or columns"),
        ("０ １\n２ ３", "the text holds no grid"),
        ("Step 1: rotate by 90", "the text holds no grid"),
        ("10 and 11\n1 2 x", "the text holds no grid"),
        ("colours: 5", "the text holds no grid"),
        ("[[]]", "the text holds no grid"),
        (" \n", "the text is empty"),
    ],
)
def test_text_without_a_grid_is_refused_with_the_reason(text: str, why: str) -> None:
    reading = read_grid_text(text, SHOWN)
    assert (reading.grid, reading.writing, reading.note) == ([], "", why)


def test_list_of_grids_for_all_test_inputs_gives_the_asked_one() -> None:
    text = "[[[1,2],[3,4]],[[5,6],[7,8]]]"
    assert read_grid_text(text, Shown(num_tests=2, test_index=0)).grid == [[1, 2], [3, 4]]
    assert read_grid_text(text, Shown(num_tests=2, test_index=1)).grid == [[5, 6], [7, 8]]
    assert read_grid_text(text).rivals == 1


def test_text_cut_at_the_limit_of_tokens_is_noted() -> None:
    assert read_grid_text(ROWS, cut=True).note == "the text ends with the grid at the limit of tokens"
    assert read_grid_text(f"{ROWS}\nThe rule", cut=True).note == ""
    assert read_grid_text("I think", cut=True).note.endswith("the model stopped at its limit of tokens")
    assert read_grid_text(ROWS, cut=True).as_dict()["cut"] is True


Write = Callable[[list[list[int]]], str]
WRITINGS: list[Write] = [
    lambda grid: "\n".join(" ".join(map(str, row)) for row in grid),
    lambda grid: "\n".join("".join(map(str, row)) for row in grid),
    lambda grid: "\r\n".join(", ".join(map(str, row)) for row in grid),
    lambda grid: "\n".join("| " + " | ".join(map(str, row)) + " |" for row in grid),
    lambda grid: "\n".join(f"Row {number}: {' '.join(map(str, row))}" for number, row in enumerate(grid, 1)),
    lambda grid: json.dumps(grid),
    lambda grid: yaml.safe_dump(grid, default_flow_style=False),
    lambda grid: json.dumps({"answer": grid}, indent=2),
    lambda grid: str(tuple(map(tuple, grid))),
    lambda grid: repr(np.array(grid)),
    lambda grid: str(np.array(grid)),
    lambda grid: json.dumps([" ".join(map(str, row)) for row in grid]) if len(grid[0]) > 1 else json.dumps(grid),
]
AROUND: list[Callable[[str], str]] = [
    lambda text: f"I think\n\n{text}\n\nthat is it.",
    lambda text: f"```python\n{text}\n```",
    lambda text: f"<think>\n7 7\n7 7\n</think>\n\n{text}",
    lambda text: text,
]


@given(st.integers(1, 30), st.integers(1, 30), st.data(), st.sampled_from(WRITINGS), st.sampled_from(AROUND))
def test_any_grid_comes_back_from_any_writing(
    height: int, width: int, data: st.DataObject, write: Write, around: Callable[[str], str]
) -> None:
    cells = data.draw(st.binary(min_size=height * width, max_size=height * width))
    grid = (np.frombuffer(cells, dtype=np.uint8) % 10).reshape(height, width).tolist()
    assert read_grid_text(around(write(grid))).grid == grid


@given(st.text(alphabet='0123456789 \n[](),|"-:`ax.<>', max_size=200))
def test_what_is_read_from_any_text_is_a_grid_or_a_reason(text: str) -> None:
    reading = read_grid_text(text)
    if not reading.grid:
        assert reading.note
        return
    assert len({len(row) for row in reading.grid}) == 1
    assert 1 <= len(reading.grid) <= 30 >= len(reading.grid[0]) >= 1
    assert all(type(cell) is int and 0 <= cell <= 9 for row in reading.grid for cell in row)


HOSTILE = [
    *("[", "[[1,", "1", "1\n", "1\n\n", "[1],", '"1', "(", ")", "|", "\\\\", "<think>", "- ", "> ", "1 ", "1e", "1."),
    *("```\n", "- - 1\n", "- 1\n", "-\n", "*", "$", "answer ", "[[1]]answer:", "row 1", "[[1],\n", "\r", ",", "a:"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_steps_of_the_parser_grow_linearly_on_hostile_text(piece: str, steps: Callable[[str], int]) -> None:
    small, large = (steps(piece * (size // len(piece))) for size in (4_000, 16_000))
    assert large < 5 * small + 2_000


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Function that counts the lines of Python that the parser executes for a text."""
    import sys

    files = {block_lists.__file__, bracketed_grids.__file__, printed_grids.__file__}

    def count(text: str) -> int:
        number = 0

        def trace(frame: object, event: str, _: object) -> object:
            nonlocal number
            if getattr(frame, "f_code").co_filename not in files:  # noqa: B009
                return None
            number += event == "line"
            return trace

        sys.settrace(trace)  # type: ignore[arg-type]
        try:
            read_grid_text(text)
        finally:
            sys.settrace(None)
        return number

    return count


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("1 2\n3 4", [[1, 2], [3, 4]]),
        ("[[1, 2], \n [3, 4]]", [[1, 2], [3, 4]]),
        ("1 2\n3 4\n\n5 6 7\n", [[5, 6, 7]]),
        ("output = [[0,0,5],\n[0,5,0]]", [[0, 5, 0]]),
        ("[[0,0,5],[0,5,0]]", None),
        ("\n".join(["1"] * 31), None),
    ],
)
def test_parser_1_stays_as_recorded_attempts_need_it(text: str, grid: list[list[int]] | None) -> None:
    assert last_block(text) == grid
