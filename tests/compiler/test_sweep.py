"""Sweeps: combinations, stable ids, stages shared between variants."""

from __future__ import annotations

import pytest
from compiler_support import SPEC

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.compiler.graph import RunGraph
from gridloom.errors import SpecError


def swept(facts: StaticFacts, axes: str, text: str = SPEC) -> RunGraph:
    return compile_text(f"{text}sweep: {{{axes}}}\n", facts=facts).graph


def names(graph: RunGraph) -> list[str]:
    return [node.name for node in graph.nodes]


def test_sweep_numbers_what_it_reaches_and_keeps_the_rest_once(facts: StaticFacts) -> None:
    graph = swept(facts, "stages.solve.solver.views: [2, 4]")
    assert names(graph) == [
        "arc1",
        "arc1.answers",
        "pretrain",
        "joint",
        "solve@1",
        "score@1",
        "solve@2",
        "score@2",
    ]
    assert graph.node("solve@2").spec["solver"]["views"] == 4
    assert graph.node("score@2").inputs["attempts"] == "solve@2"
    assert [v.values for v in graph.variants] == [{"stages.solve.solver.views": 2}, {"stages.solve.solver.views": 4}]
    assert graph.variants[1].nodes["joint"] == "joint"


@pytest.mark.parametrize(
    ("axes", "longer"),
    [
        ("vars.steps: [10, 20]", "vars.steps: [10, 20, 30]"),
        ("vars.steps: [10, 20], stages.joint.steps: [1]", "vars.steps: [10, 20, 30], stages.joint.steps: [1, 2]"),
        ("vars.steps: [10]", "vars.steps: [10, 11]"),
        (
            "models.trm.layers: [1, 2], stages.solve.solver.views: [2, 4]",
            "models.trm.layers: [1, 2, 3], stages.solve.solver.views: [2, 4, 8]",
        ),
    ],
)
def test_extending_a_sweep_renames_and_rekeys_nothing(facts: StaticFacts, axes: str, longer: str) -> None:
    before = {node.name: node.key for node in swept(facts, axes).nodes}
    after = {node.name: node.key for node in swept(facts, longer).nodes}
    assert before.items() < after.items()


def test_variant_has_the_keys_of_the_spec_it_stands_for(facts: StaticFacts) -> None:
    graph = swept(facts, "vars.steps: [10, 20], models.trm.layers: [1, 3]")
    for variant in graph.variants:
        overrides = [f"{path}={value}" for path, value in variant.values.items()]
        alone = compile_text(SPEC, overrides=overrides, facts=facts).graph
        assert {n.name: n.key for n in alone.nodes} == {
            base: graph.node(name).key for base, name in variant.nodes.items()
        }


def test_swept_seed_reaches_stages_but_not_datasets(facts: StaticFacts) -> None:
    graph = swept(facts, "seed: [1, 2]")
    assert names(graph)[:4] == ["arc1", "arc1.answers", "pretrain@1", "joint@1"]


def test_swept_operational_field_runs_once(facts: StaticFacts) -> None:
    graph = swept(facts, "stages.pretrain.log_every: [1, 2]")
    assert [n for n in names(graph) if n.startswith("pretrain")] == ["pretrain@1"]
    assert graph.variants[1].nodes["pretrain"] == "pretrain@1"


def test_problem_of_one_value_names_its_place_on_the_axis(facts: StaticFacts) -> None:
    with pytest.raises(SpecError) as caught:
        swept(facts, "models.trm.num_heads: [4, 5, -1]")
    assert [(d.code, d.span.column if d.span else 0, d.notes[-1]) for d in caught.value.diagnostics] == [
        ("GL106", 38, "in sweep models.trm.num_heads[2]"),
        ("GL301", 35, "in sweep models.trm.num_heads[1]"),
    ]


def test_a_sweep_of_five_hundred_values_gives_each_its_own_stages(facts: StaticFacts) -> None:
    values = ", ".join(str(n) for n in range(1, 501))
    graph = swept(facts, f"vars.steps: [{values}]")
    assert len(graph.nodes) == 2002
    assert len({node.key for node in graph.nodes}) == 2002


def test_a_node_knows_the_swept_values_that_reach_it(facts: StaticFacts) -> None:
    graph = swept(facts, "vars.steps: [10, 20], stages.solve.solver.views: [2, 4], seed: [3]")
    assert graph.swept("solve@2.1.1") == {"vars.steps": 20, "stages.solve.solver.views": 2}
    assert graph.swept("pretrain@1.1") == {"vars.steps": 10}
    assert graph.swept("arc1") == graph.swept("unknown") == {}
    assert compile_text(SPEC, facts=facts).graph.swept("solve") == {}
