"""What a spec takes back with null, extends outside of its folder, and need not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridloom.compiler.compile import compile_spec
from gridloom.compiler.facts import StaticFacts
from gridloom.compiler.graph import RunGraph
from gridloom.errors import SpecError
from gridloom.runtime.planning.facts import LocalFacts

PAIR = '{"input": [[%d]], "output": [[2]]}'
TASK = f'{{"train": [{PAIR % 1}, {PAIR % 3}], "test": [{PAIR % 4}]}}'
SEARCH = "gridloom: 1\nextends: solve-search\nname: own\n"


def test_null_takes_back_sections_blocks_and_fields_of_every_base(tmp_path: Path, facts: StaticFacts) -> None:
    (tmp_path / "base.yaml").write_text("gridloom: 1\nextends: quickstart\nname: base\nwalltime: 2h\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "child.yaml").write_text(
        "gridloom: 1\nextends: ../base.yaml\nname: child\nwalltime: null\nmodels: null\n"
        "data: {arc1: {augment: null}}\n"
        "stages:\n  {joint: null, score: null,\n"
        "   solve: {with: trunk, solver: {reason: null, verifier: {leave_one_out: null}}}}\n"
    )
    spec = compile_spec(inner / "child.yaml", ["data.arc1.canvas=7"], facts=LocalFacts()).spec
    assert spec.walltime is None
    assert spec.models == {}
    assert list(spec.stages) == ["trunk", "solve"]
    assert spec.data["arc1"].augment.copies == 0  # type: ignore[attr-defined]
    assert "reason" not in spec.stages["solve"].solver.model_fields_set  # type: ignore[attr-defined]


@pytest.mark.parametrize("named", ["absolute", "above", "beside"])
def test_a_spec_extends_one_wherever_it_is_named(tmp_path: Path, named: str) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    base = {"above": tmp_path / "base.yaml", "beside": tmp_path / "b" / "base.yaml"}.get(
        named, tmp_path / "a" / "x.yaml"
    )
    base.write_text("gridloom: 1\nextends: sudoku4\nname: base\nseed: 7\n")
    path = {"above": "../base.yaml", "beside": "../b/base.yaml"}.get(named, str(base))
    (tmp_path / "a" / "child.yaml").write_text(f"gridloom: 1\nextends: {path}\nname: child\n")
    assert compile_spec(tmp_path / "a" / "child.yaml", facts=LocalFacts()).spec.seed == 7


def test_a_source_with_one_subset_needs_no_names(tmp_path: Path) -> None:
    mine, own = tmp_path / "mine", tmp_path / "own.yaml"
    mine.mkdir()
    (mine / "aaaa0001.json").write_text(TASK)

    def compiled(subsets: str, holdout: str) -> RunGraph:
        own.write_text(SEARCH + f"data: {{arc1: {{source: ./mine, subsets: {subsets}, holdout: {holdout}}}}}\n")
        return compile_spec(own, facts=LocalFacts()).graph

    assert compiled("null", "null") == compiled("[tasks]", "[tasks]")
    with pytest.raises(SpecError, match="GL330 'arc1' holds no answer out"):
        compiled("null", "[]")
    (mine / "aaaa0001.json").unlink()
    for name in ("one", "two"):
        (mine / name).mkdir()
        (mine / name / f"{name}.json").write_text(TASK)
    with pytest.raises(SpecError, match=r"GL321 ./mine has no subset"):
        compiled("null", "null")
