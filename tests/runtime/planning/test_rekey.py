"""Another key algorithm: what was made under the old one is found, chains included, and nothing is lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gridloom.cli.show.progress import Reporter
from gridloom.compiler import fingerprint
from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import DataFacts, StaticFacts
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.compiler.key_algorithms import ALGORITHMS, KeyAlgorithm, current, sha256_of_json, version_of
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.execution.stop_signal import StopFlag
from gridloom.runtime.planning.plan import make_plan
from gridloom.runtime.planning.rekey import open_store
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: chain
data:
  sudokus: {kind: sudoku, size: 4, train: 12, test: 6}
models:
  trm: {kind: trm, hidden_size: 8, num_heads: 1, layers: 1, mixing: mlp, positions: none, precision: fp32}
stages:
  learn: {kind: train, model: trm, data: sudokus, steps: 2}
  further: {kind: train, model: learn, data: sudokus, steps: 3}
  judge: {kind: evaluate, with: further, data: sudokus}
"""
NAMES = ["sudokus", "learn", "further", "judge"]
FACTS = StaticFacts(
    {
        "sudoku": DataFacts(
            digest="some",
            answers_digest="",
            num_tasks=6,
            num_held_out=6,
            max_side=4,
            canvas=4,
            vocabulary=6,
            subsets=("train", "test"),
            num_check_demos=0,
            num_demos=0,
            task_ids=(),
        )
    },
    {},
)


def blake(value: Any) -> str:
    """The hash of an algorithm 2 that is not."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=20).hexdigest()


class WritesItsName:
    """A stage that writes one file."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        (context.out / "made.txt").write_text(node.name)


def compiled(*overrides: str) -> RunGraph:
    return compile_text(SPEC, "chain.yaml", overrides, facts=FACTS).graph


def run(workspace: Workspace, *overrides: str) -> RunResult:
    plan = make_plan(compiled(*overrides), open_store(workspace))
    options = RunOptions(base=Path(), spec="chain.yaml", device="cpu")
    return execute(
        plan, workspace, options, Reporter(Console(quiet=True), False), StopFlag(), lambda kind: WritesItsName()
    )


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything was made under algorithm 1."""
    workspace = Workspace(tmp_path_factory.mktemp("first") / "gridloom")
    assert list(run(workspace).executed) == NAMES
    return workspace.root


@pytest.fixture
def made(first: Path, workspace: Workspace) -> Workspace:
    """A copy of it."""
    shutil.copytree(first, workspace.root)
    return workspace


def use(monkeypatch: pytest.MonkeyPatch, *algorithms: KeyAlgorithm) -> None:
    for algorithm in algorithms:
        monkeypatch.setitem(ALGORITHMS, algorithm.version, algorithm)


def files(workspace: Workspace) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in workspace.artifact_dir.glob("gl*/*")}


def test_keys_carry_the_version_of_the_highest_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (current().version, {version_of(node.key) for node in compiled().nodes}) == (1, {1})
    use(monkeypatch, KeyAlgorithm(2, blake))
    graph = compiled()
    assert {version_of(node.key) for node in graph.nodes} == {2}
    assert version_of(graph.key) == 2
    assert version_of("tasks") is None


def test_artifacts_of_the_old_algorithm_are_found_under_the_new_one_chains_included(
    made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(made)
    use(monkeypatch, KeyAlgorithm(2, blake))
    again = run(made)
    assert (again.executed, list(again.cached)) == ((), NAMES)
    assert files(made) == before
    assert {version_of(artifact.key) for artifact in again.artifacts.values()} == {1}


def test_what_is_new_is_made_on_top_of_relabelled_artifacts_and_a_third_algorithm_finds_both(
    made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, KeyAlgorithm(2, blake))
    assert run(made, "stages.further.steps=9").executed == ("further", "judge")
    use(monkeypatch, KeyAlgorithm(3, sha256_of_json))
    for overrides in ((), ("stages.further.steps=9",)):
        assert list(run(made, *overrides).cached) == NAMES


def test_an_algorithm_that_covers_something_else_upgrades_the_stored_inputs(
    made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upgrade(inputs: dict[str, Any]) -> dict[str, Any]:
        return {**{name: value for name, value in inputs.items() if name != "facts"}, "content": inputs["facts"]}

    plain = fingerprint.node_inputs
    monkeypatch.setattr(fingerprint, "node_inputs", lambda node, keys: upgrade(plain(node, keys)))
    use(monkeypatch, KeyAlgorithm(2, sha256_of_json, upgrade))
    assert list(run(made).cached) == NAMES


def test_a_change_of_the_spec_still_runs_what_it_alters_and_is_told_as_one_field(
    made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, KeyAlgorithm(2, blake))
    plan = make_plan(compiled("stages.further.steps=9"), open_store(made))
    assert {stage.node.name: stage.why for stage in plan.stages if stage.state == "run"} == {
        "further": "steps: 3 -> 9",
        "judge": "further changes",
    }


def edit(artifact: Path) -> None:
    manifest = artifact / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"steps": 2', '"steps": 4'))


@pytest.mark.parametrize("damage", [edit, shutil.rmtree])
def test_what_cannot_be_worked_out_is_made_anew_and_nothing_else_is_touched(
    damage: Callable[[Path], object], made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inputs in its manifest were edited, or the artifact that others were made from is gone."""
    (key,) = (node.key for node in compiled().nodes if node.name == "learn")
    damage(made.artifact_dir / key.replace(":", "-"))
    before = files(made)
    use(monkeypatch, KeyAlgorithm(2, blake))
    for overrides in ((), ("stages.learn.steps=4",)):
        plan = make_plan(compiled(*overrides), open_store(made))
        assert [stage.state for stage in plan.stages] == ["cached", "run", "run", "run"]
    assert files(made) == before


def labels(workspace: Workspace) -> Sequence[Path]:
    return sorted((workspace.artifact_dir / ".labels").iterdir())


def test_labels_are_written_once_and_a_lost_or_damaged_index_is_made_again(
    made: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, KeyAlgorithm(2, blake))
    open_store(made)
    (index,) = labels(made)
    written, stamp = index.read_bytes(), index.stat().st_mtime_ns
    open_store(made)
    assert index.stat().st_mtime_ns == stamp
    for damage in (b"{torn", b"[]", b'{"keys": 3}'):
        index.write_bytes(damage)
        open_store(made)
        assert index.read_bytes() == written
    index.unlink()
    assert list(run(made).cached) == NAMES


def test_a_workspace_without_older_artifacts_gets_no_index(made: Workspace) -> None:
    open_store(made)
    assert not (made.artifact_dir / ".labels").exists()
