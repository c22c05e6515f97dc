"""The notebooks: their cells run from top to bottom, in folders that stand for Kaggle's and Colab's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gridloom

FOLDER = Path(gridloom.__file__).parents[1] / "notebooks"
TASK = {"train": [{"input": [[1, 0]], "output": [[0, 1]]}, {"input": [[2, 3]], "output": [[3, 2]]}]}


def run_cells(name: str, folder: Path, skip: str = "IPython", **environment: str) -> str:
    """Run the code cells of a notebook as one program, all but those with `skip` in them."""
    cells = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(text for text in code if skip not in text)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_kaggle_notebook_writes_a_submission_of_challenges_alone(tmp_path: Path) -> None:
    place = tmp_path / "input" / "arc-prize"
    place.mkdir(parents=True)
    (tmp_path / "working").mkdir()
    tasks = {f"aaaa000{n}": TASK | {"test": [{"input": [[4, n]]}] * n} for n in (1, 2)}
    (place / "arc-agi_test_challenges.json").write_text(json.dumps(tasks))
    out = run_cells(
        "kaggle_arc_prize.ipynb",
        tmp_path,
        KAGGLE_INPUT=str(tmp_path / "input"),
        KAGGLE_WORKING=str(tmp_path / "working"),
    )
    assert out.rstrip().endswith("2 tasks")
    answers = json.loads((tmp_path / "working" / "submission.json").read_text())
    assert answers["aaaa0002"][0]["attempt_1"] == [[2, 4]]


@pytest.mark.slow
def test_the_colab_notebook_trains_sweeps_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run_cells("colab.ipynb", tmp_path)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
