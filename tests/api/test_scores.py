"""Scores of solve stages as scripts hold them."""

from __future__ import annotations

from pathlib import Path

import pytest
from api_support import tags_of
from view_support import fill

import gridloom
from gridloom.stores.workspace import Workspace


def test_scores_have_intervals_and_draw_themselves(tmp_path: Path) -> None:
    ledger = gridloom.workspace(fill(Workspace(tmp_path / "gridloom")).root)
    table = ledger.scores()
    assert [score.run_id for score in table] == ["run-2", "run-1"]
    (one,) = ledger.scores("run-1")
    assert (one.pass2, one.tasks, one.scored_tasks, one.solved_tasks) == (0.5, 3, 3, 1)
    assert one.pass2_interval is not None
    assert one.pass2_interval[0] < 0.5 < one.pass2_interval[1]
    assert "50.0% [" in table._repr_html_()
    assert tags_of(table._repr_html_())[:2] == ["div", "table"]
    assert repr(table) == "<ScoreTable of 2 solve stages>"
    assert len(table) == 2
    with pytest.raises(gridloom.GridloomError, match="unknown run 'nowhere'"):
        ledger.scores("nowhere")
