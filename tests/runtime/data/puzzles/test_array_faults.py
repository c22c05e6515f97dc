"""Array folders with faults: one message that names the file and the remedy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from puzzle_support import SUDOKUS

from gridloom.errors import DataError
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, read_source


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sudokus of 4x4 as arrays."""
    folder = tmp_path_factory.mktemp("arrays") / "set"
    folder.mkdir()
    build_puzzles(SUDOKUS, folder, folder)
    return folder


def beyond(table: Any) -> Any:
    changed = table.copy()
    changed[3, 2] = 6
    return changed


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("inputs", lambda table: table.astype(np.float32), "2 dimensions of float32, not 2 of integers"),
        ("labels", lambda table: table.reshape(-1), "1 dimensions of uint8, not 2 of integers"),
        ("labels", lambda table: table[:-1], r"labels are \(39, 16\), not \(40, 16\)"),
        ("inputs", lambda table: table[:, :-1], r"inputs are \(40, 15\), not \(40, 16\)"),
        ("labels", beyond, "labels row 3, position 2: token 6 of a vocabulary of 6"),
        ("puzzle_indices", lambda table: table[:-1], "puzzle_indices do not divide the 40 rows below it"),
    ],
)
def test_a_fault_names_its_file_and_a_remedy(good: Path, tmp_path: Path, field: str, change: Any, message: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(good, folder)
    file = folder / "train" / f"all__{field}.npy"
    np.save(file, change(np.load(file)))
    with pytest.raises(DataError, match=message) as error:
        read_source(SUDOKUS, folder)
    assert str(file) in error.value.message
    assert "rebuild the folder" in str(error.value.remedy)
