"""docs/tour.ipynb: its cells run anew in a fresh kernel and give output of the same kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tour.ipynb"


def kinds(cells: list[Any]) -> list[list[str]]:
    """Kinds of data of the outputs of each cell of code; streams by their name."""
    return [
        sorted({kind for one in cell["outputs"] for kind in one.get("data", {one.get("name", "error"): ""})})
        for cell in cells
        if cell["cell_type"] == "code"
    ]


def test_the_notebook_has_its_output_and_no_machine_in_it() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    found = kinds(json.loads(text)["cells"])
    assert [outputs for outputs in found if "error" in outputs] == []
    assert sum("text/html" in outputs for outputs in found) >= 4
    assert sum("image/svg+xml" in outputs for outputs in found) == 2
    for trace in ("/tmp/", "/home/", "/root/", "/work/"):
        assert trace not in text


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    recorded = nbformat.read(NOTEBOOK, as_version=4)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert kinds(notebook.cells) == kinds(recorded.cells)
