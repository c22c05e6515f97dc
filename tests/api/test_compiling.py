"""Specs compiled from Python: every form gives the same graph, and problems are data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from api_support import SUDOKUS, tags_of

import gridloom

BROKEN = """\
gridloom: 1
name: broken
data:
  sudokus: {kind: sudoku, size: 4, train: 12, test: 6}
stages:
  fit: {kind: trian, data: sudokus}
  judge: {kind: evaluate, with: fitt, data: sudokus}
"""


def test_a_recipe_a_path_a_text_and_a_dict_give_graphs(tmp_path: Path) -> None:
    text = yaml.safe_dump(SUDOKUS)
    path = tmp_path / "four.yaml"
    path.write_text(text)
    keys = {gridloom.compile(spec).graph.key for spec in (SUDOKUS, text, path, str(path))}
    assert len(keys) == 1
    recipe = gridloom.compile("quickstart")
    assert recipe.ok
    assert [node.name for node in recipe.graph.nodes][-1] == "score"


def test_values_that_are_set_have_their_types() -> None:
    changed = gridloom.compile(SUDOKUS, set={"stages.learn.steps": 10, "stages.learn.optimizer.lr": 2e-4, "name": "on"})
    learn = changed.graph.node("learn").spec
    assert (learn["steps"], learn["optimizer"]["lr"], changed.graph.name) == (10, 2e-4, "on")
    assert [node.name for node in gridloom.compile(changed, set={"stages.judge": None}).graph.nodes] == [
        "sudokus",
        "learn",
    ]


def test_problems_are_data_and_the_graph_raises() -> None:
    wrong = gridloom.compile(BROKEN)
    assert not wrong.ok
    first = wrong.problems[0]
    assert (first.code, first.severity, first.path, first.line, first.column) == (
        "GL104",
        "error",
        "<text>.yaml",
        6,
        15,
    )
    assert "trian" in first.message
    assert first.hint == "did you mean 'train'?"
    with pytest.raises(gridloom.SpecError) as raised:
        _ = wrong.graph
    assert raised.value.diagnostics == wrong.diagnostics
    for call in (wrong.raise_for_problems, wrong.plan, lambda: gridloom.compile(BROKEN, check=True)):
        with pytest.raises(gridloom.SpecError, match="GL104"):
            call()


def test_a_problem_of_a_set_value_names_it() -> None:
    (problem,) = gridloom.compile("quickstart", set={"stages.joint.stepz": 3}).problems
    assert (problem.code, problem.path) == ("GL041", "--set stages.joint.stepz=3")


def test_what_does_not_exist_is_a_problem_too(tmp_path: Path) -> None:
    assert [p.code for p in gridloom.compile("quickstrat").problems] == ["GL030"]
    assert [p.code for p in gridloom.compile(tmp_path / "none.yaml").problems] == ["GL001"]
    assert [p.code for p in gridloom.compile({}).problems][:1] != []


def test_relative_paths_of_a_text_start_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(SUDOKUS))
    over: dict[str, Any] = {"extends": "./base.yaml", "stages": {"learn": {"steps": 3}}}
    assert gridloom.compile(over, base=tmp_path).graph.node("learn").spec["steps"] == 3
    (problem,) = gridloom.compile(over, base=tmp_path / "elsewhere").problems
    assert problem.code == "GL031"


def test_a_value_without_a_form_is_an_error_with_its_path() -> None:
    with pytest.raises(gridloom.GridloomError, match=r"stages\.learn\.steps: a spec has no form for object"):
        gridloom.compile("quickstart", set={"stages.learn.steps": object()})


def test_a_plan_has_states_reasons_and_estimates(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = gridloom.compile(SUDOKUS).plan(tmp_path / "home", device="cpu", walltime="90m")
    assert [(stage.stage, stage.kind, stage.state, stage.why) for stage in plan.stages] == [
        ("sudokus", "sudoku", "run", "never run"),
        ("learn", "train", "run", "never run"),
        ("judge", "evaluate", "run", "never run"),
    ]
    assert plan.num_to_run == 3
    assert plan.walltime_s == 5400.0
    cost = plan.stages[1].cost
    assert cost is not None
    assert cost.num_steps == 2
    assert plan.to_data()["stages"][1]["cost"]["num_steps"] == 2
    assert not (tmp_path / "home").exists()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(gridloom.GridloomError, match="walltime: 'soon' is not a duration"):
        gridloom.compile(SUDOKUS).plan(tmp_path, walltime="soon")


def test_a_spec_draws_its_stages_and_problems_escaped() -> None:
    good = gridloom.compile({**SUDOKUS, "name": "four"})
    assert tags_of(good._repr_html_()).count("tr") == 4
    assert repr(good) == f"<Compiled four: 3 stages, {good.graph.key}>"
    script = "<script>alert(1)</script>"
    bad = gridloom.compile({**SUDOKUS, "name": script, "stages": {"fit": {"kind": script}}})
    html = bad._repr_html_()
    assert not bad.ok
    assert "script" not in tags_of(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert f"unknown stage kind '{script}'" in str(bad)
