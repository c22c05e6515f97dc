"""Differences as typed records."""

from __future__ import annotations

from compiler_support import SPEC
from hypothesis import given
from hypothesis import strategies as st

from gridloom.compiler.compile import compile_text
from gridloom.compiler.diff import Added, Changed, Removed, diff_graphs, diff_specs, diff_values
from gridloom.compiler.facts import StaticFacts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, JSON)
def test_nothing_differs_exactly_when_values_are_equal(a: object, b: object) -> None:
    assert not list(diff_values(a, a))
    if a != b:
        assert list(diff_values(a, b))


def test_specs_differ_by_field_with_the_place_of_the_new_value(facts: StaticFacts) -> None:
    before = compile_text(SPEC, facts=facts)
    text = SPEC.replace("hidden_size: 64", "hidden_size: 128").replace("  score: {kind: score, attempts: solve}\n", "")
    after = compile_text(text, facts=facts, overrides=["vars.steps=600"])
    changes = {c.field: c for c in diff_specs(before.spec, after.spec, dict(after.spans))}
    assert set(changes) == {"vars.steps", "models.trm.hidden_size", "stages.pretrain.steps", "stages.score"}
    steps = changes["stages.pretrain.steps"]
    assert isinstance(steps, Changed)
    assert (steps.before, steps.after, str(steps.span)) == (500, 600, "--set vars.steps=600")
    assert str(changes["models.trm.hidden_size"].span) == "spec.yaml:8:33"
    assert isinstance(changes["stages.score"], Removed)


def test_graphs_differ_by_stage_and_say_which_only_follow(facts: StaticFacts) -> None:
    before = compile_text(SPEC, facts=facts).graph
    after = compile_text(SPEC, facts=facts, overrides=["stages.pretrain.steps=7", "stages.joint.log_every=9"]).graph
    found = {change.stage: change for change in diff_graphs(before, after)}
    assert {name: change.change for name, change in found.items()} == {
        "pretrain": "changed",
        "joint": "follows",
        "solve": "follows",
        "score": "follows",
    }
    assert [str(field) for field in found["pretrain"].fields] == ["steps: 500 -> 7"]
    assert found["solve"].because == ("joint",)


def test_operational_changes_are_told_apart(facts: StaticFacts) -> None:
    before = compile_text(SPEC, facts=facts).graph
    after = compile_text(SPEC, facts=facts, overrides=["stages.joint.log_every=9"]).graph
    (only,) = diff_graphs(before, after)
    assert (only.stage, only.change) == ("joint", "operational")
    assert [str(field) for field in only.fields] == ["log_every: 1 -> 9"]


def test_added_and_removed_stages_are_named(facts: StaticFacts) -> None:
    long = compile_text(SPEC, facts=facts).graph
    short = compile_text(SPEC.replace("  score: {kind: score, attempts: solve}\n", ""), facts=facts).graph
    assert {(c.stage, c.change) for c in diff_graphs(long, short)} == {
        ("score", "removed"),
        ("arc1.answers", "removed"),
    }
    assert {(c.stage, c.change) for c in diff_graphs(short, long)} == {("score", "added"), ("arc1.answers", "added")}


def test_changes_read_as_a_person_would_write_them() -> None:
    assert str(Changed("lr", 1e-4, 3e-4)) == "lr: 0.0001 -> 0.0003"
    assert str(Added("clip_norm", None)) == "+ clip_norm: null"
    assert str(Removed("mode", "carry")) == "- mode: 'carry'"
