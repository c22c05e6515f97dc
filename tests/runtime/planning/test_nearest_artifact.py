"""The nearest earlier artifact, and what is told of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.compiler.compile import compile_text
from gridloom.compiler.diff import diff_values
from gridloom.compiler.facts import DataFacts, StaticFacts
from gridloom.compiler.fingerprint import key_inputs, node_inputs
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.planning.nearest_artifact import EarlierArtifacts, changes_since, spec_path
from gridloom.runtime.planning.plan import make_plan
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace

SPEC = """\
gridloom: 1
name: rates
data:
  sudokus: {kind: sudoku, size: 4, train: 12, test: 6}
models:
  trm: {kind: trm, hidden_size: 8, num_heads: 1, layers: 1, mixing: mlp, positions: none, precision: fp32}
stages:
  learn: {kind: train, model: trm, data: sudokus, steps: 2}
  judge: {kind: evaluate, with: learn, data: sudokus}
"""


def facts(digest: str = "some") -> StaticFacts:
    """Facts of the sudokus under another digest."""
    known = DataFacts(
        digest=digest,
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
    return StaticFacts({"sudoku": known}, {})


class Published(ArtifactStore):
    """A store that has the artifacts of some graphs, the later ones newer; nothing lies on disk."""

    def __init__(self, *graphs: RunGraph, with_spec: bool = True) -> None:
        super().__init__(Workspace(Path("nowhere")))
        self.artifacts = {}
        for age, graph in enumerate(graphs):
            keys = {node.name: node.key for node in graph.nodes}
            for node in graph.nodes:
                producer = {
                    "stage": node.name,
                    "kind": node.kind,
                    "run_id": f"run {age}",
                    "key_inputs": node_inputs(node, keys),
                    **({"spec": node.spec} if with_spec else {}),
                }
                manifest = {"created_at": float(age), "producer": producer}
                self.artifacts[node.key] = Artifact(node.key, node.produces, Path(), manifest)

    def all(self) -> list[Artifact]:
        return [*self.artifacts.values()]

    def find(self, key: str) -> Artifact | None:
        return self.artifacts.get(key)


def compiled(*overrides: str, text: str = SPEC, digest: str = "some") -> Any:
    return compile_text(text, "rates.yaml", overrides, facts=facts(digest))


def why(store: ArtifactStore, spec: Any) -> dict[str, str]:
    return {stage.node.name: stage.why for stage in make_plan(spec.graph, store, spec.place).stages if stage.why}


def test_a_stage_is_compared_with_the_nearest_artifact_and_not_with_the_newest() -> None:
    near, far = compiled("seed=1"), compiled("seed=9", "models.trm.layers=4", "stages.learn.steps=7")
    after = compiled("seed=1", text=SPEC.replace("steps: 2", "steps: 3"))
    told = why(Published(near.graph, far.graph), after)
    assert told == {"learn": "steps: 2 -> 3 (rates.yaml:8:58)", "judge": "learn changes"}


def test_of_equally_near_artifacts_the_newest_is_taken() -> None:
    store = Published(compiled("stages.learn.steps=5").graph, compiled("stages.learn.steps=6").graph)
    assert why(store, compiled("stages.learn.steps=7"))["learn"] == "steps: 6 -> 7 (--set stages.learn.steps=7)"


def test_a_models_field_is_placed_in_the_models_section() -> None:
    told = why(Published(compiled().graph), compiled(text=SPEC.replace("layers: 1", "layers: 2")))
    assert told["learn"] == "model.layers: 1 -> 2 (rates.yaml:6:58)"


def test_other_content_is_told_by_the_fields_that_lead_to_it_or_by_its_digest() -> None:
    after = compiled(text=SPEC.replace("train: 12", "train: 13"), digest="other")
    assert why(Published(compiled().graph), after)["sudokus"] == "train: 12 -> 13 (rates.yaml:4:43)"
    assert why(Published(compiled().graph, with_spec=False), after)["sudokus"] == "facts.digest: 'some' -> 'other'"
    assert why(Published(compiled().graph), compiled(digest="x"))["sudokus"] == "facts.digest: 'some' -> 'x'"


def test_a_stage_that_only_reads_another_cached_artifact_says_so() -> None:
    two = SPEC.replace("judge:", "longer: {kind: train, model: trm, data: sudokus, steps: 3}\n  judge:")
    before, after = compiled(text=two), compiled(text=two.replace("with: learn", "with: longer"))
    assert why(Published(before.graph), after) == {"judge": "reads another artifact as with"}


def test_a_stage_of_a_name_that_never_ran_is_new_to_the_plan_but_has_a_nearest_of_its_kind() -> None:
    after = compiled(text=SPEC.replace("learn", "other"))
    node = after.graph.node("other").model_copy(update={"seed": 5, "key": "gl1:new"})
    store = Published(compiled().graph)
    graph = after.graph.model_copy(update={"nodes": (after.graph.nodes[0], node)})
    assert make_plan(graph, store).stages[1].why == "never run"
    nearest = EarlierArtifacts(store).nearest(node, key_inputs(graph, node))
    assert nearest is not None
    assert (nearest.stage, nearest.run_id) == ("learn", "run 0")
    assert [str(c) for c in changes_since(nearest, node, key_inputs(graph, node), after.place)] == ["seed: 0 -> 5"]


VALUES = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 2) | st.none(), max_size=4)


@given(st.lists(VALUES, min_size=1, max_size=6), VALUES)
def test_the_nearest_has_the_fewest_differing_fields_of_all(earlier: Sequence[dict[str, Any]], wanted: Any) -> None:
    store = Published()
    for i, one in enumerate(earlier):
        producer = {"stage": "learn", "kind": "train", "run_id": "r", "key_inputs": {"seed": 1, "parameters": one}}
        manifest = {"created_at": float(i), "producer": producer}
        store.artifacts[f"gl1:{i}"] = Artifact(f"gl1:{i}", "checkpoint", Path(), manifest)
    node = StageNode(name="learn", kind="train", version=1, produces="checkpoint", spec={})
    nearest = EarlierArtifacts(store).nearest(node, {"seed": 2, "parameters": wanted})
    assert nearest is not None

    def distance(inputs: dict[str, Any]) -> int:
        return len(list(diff_values(inputs or {}, wanted or {})))

    fewest = min(map(distance, earlier))
    newest = max(i for i, one in enumerate(earlier) if distance(one) == fewest)
    assert nearest.key == f"gl1:{newest}"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("steps", ("stages", "learn", "steps")),
        ("optimizer.lr", ("stages", "learn", "optimizer", "lr")),
        ("model.layers", ("models", "trm", "layers")),
        ("model", ("stages", "learn", "model")),
        ("seed", ("seed",)),
        ("facts.digest", None),
        ("version", None),
        ("inputs.data", None),
        ("steps.of", None),
    ],
)
def test_fields_of_a_key_are_found_in_the_spec(field: str, path: Any) -> None:
    assert spec_path(compiled().graph.node("learn"), field) == path


def test_each_of_a_thousand_stages_finds_its_nearest_among_a_thousand() -> None:
    """Not timed here; comparing each pair field by field would take most of a minute."""
    first, later = (
        compiled(text=f"{SPEC}sweep: {{seed: {seeds}, models.trm.layers: {list(range(1, 21))}}}\n")
        for seeds in ([*range(25)], [*range(25, 50)])
    )
    told = why(Published(first.graph), later)
    assert len(told) == 1000
    assert told["learn@1.3"] == "seed: 24 -> 25 (rates.yaml:10:16)"
