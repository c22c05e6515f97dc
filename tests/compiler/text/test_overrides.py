"""Overrides that nothing reads, and nulls that restore what a base or an earlier value replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
from compiler_support import FACTS, SPEC

from gridloom.compiler.compile import Compiled, compile_spec, compile_text
from gridloom.errors import SpecError

ALIASED = SPEC.replace("vars: {steps: 500}", "vars: {steps: &steps 500, more: 1, all: '${vars.more}'}")


def codes(text: str, *overrides: str) -> list[str]:
    return [d.code for d in compile_text(text, overrides=overrides, facts=FACTS).warnings]


def test_a_variable_that_nothing_reads_is_reported_where_it_is_set() -> None:
    text = ALIASED.replace('"${vars.steps}"', "*steps")
    (warning,) = compile_text(text, overrides=("vars.steps=7",), facts=FACTS).warnings
    assert warning.code == "GL043"
    assert warning.severity == "warning"
    assert warning.span is not None
    assert warning.span.text[warning.span.column - 1 : warning.span.end_column - 1] == "vars.steps"
    assert codes(ALIASED, "vars.steps=7") == []
    assert codes(ALIASED) == []


def test_a_variable_counts_as_read_through_others_and_in_any_variant() -> None:
    assert codes(ALIASED, "vars.more=7") == ["GL043"]
    through = ALIASED.replace("seed: 7", "seed: '${vars.all}'")
    assert codes(through, "vars.more=7") == []
    assert codes(through + "sweep: {stages.pretrain.steps: [5, '${vars.steps}']}\n", "vars.steps=7") == []


BASE = SPEC.replace(
    "check_demos: 1", "check_demos: 1, select: {ids: [t1], limit: 2}, augment: {copies: 5}, canvases: [12]"
)


def over(tmp_path: Path, text: str, *overrides: str) -> Compiled:
    """Compile a spec that extends one with a selection."""
    (tmp_path / "base.yaml").write_text(BASE.replace("canvases: [12]", "curriculum: {start: 0.5}"))
    (tmp_path / "spec.yaml").write_text(f"extends: ./base.yaml\n{text}")
    return compile_spec(tmp_path / "spec.yaml", overrides, facts=FACTS)


@pytest.mark.parametrize("how", ["file", "override"])
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("select", {"ids": (), "max_side": None, "limit": None, "max_demos": None}),
        ("select.ids", ()),
        ("select.limit", None),
        ("augment", {"copies": 0, "dihedral": True, "colours": True, "translate": False}),
        ("augment.copies", 0),
        ("curriculum", None),
        ("check_demos", 0),
    ],
)
def test_null_over_a_value_restores_the_default(tmp_path: Path, how: str, path: str, expected: object) -> None:
    if how == "override":
        found = over(tmp_path, "", f"data.arc1.{path}=null")
    else:
        block = "null"
        for part in reversed(path.split(".")):
            block = f"{{{part}: {block}}}"
        found = over(tmp_path, f"data: {{arc1: {block}}}\n")
    value = found.spec.data["arc1"].model_dump()
    for part in path.split("."):
        value = value[part]
    assert value == expected


def test_null_stays_null_where_the_field_takes_it(tmp_path: Path) -> None:
    assert (
        over(tmp_path, "stages: {joint: {clip_norm: 2.0}}\n", "stages.joint.clip_norm=null")
        .spec.stages["joint"]
        .model_dump()["clip_norm"]
        is None
    )


@pytest.mark.parametrize("value", ["[" * 100, "{a", "\udced", "{a: 1, a: 2}", "!!str 5"])
def test_a_value_that_is_no_yaml_is_reported_once_where_it_is_given_twice(value: str) -> None:
    def problems(*overrides: str) -> list[tuple[str, str]]:
        with pytest.raises(SpecError) as caught:
            compile_text(SPEC, overrides=overrides, facts=FACTS)
        return [(d.code, d.message) for d in caught.value.diagnostics]

    once = problems(f"seed={value}")
    assert once
    assert problems(f"seed={value}", f"seed={value}") == once


@pytest.mark.parametrize(
    ("character", "message"),
    [
        ("\udced", "byte 0xed is not UTF-8"),
        ("\ud800", "character U+D800 is not allowed in YAML"),
        ("\x00", "character U+0000 is not allowed in YAML"),
    ],
)
def test_text_that_cannot_be_encoded_is_a_message_at_its_place(character: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_text(SPEC, overrides=(f"name=ab{character}",), facts=FACTS)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("GL042", f"the value is not YAML: {message}")
    assert found.span is not None
    assert found.span.text[found.span.column - 1] == character[-1]
    with pytest.raises(SpecError) as caught:
        compile_text(SPEC + f"description: ab{character}\n", facts=FACTS)
    assert [d.message for d in caught.value.diagnostics] == [message]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("stages.solve.with", "GL103", "a solve stage 'solve' needs 'with'"),
        ("stages.pretrain.model", "GL103", "a train stage 'pretrain' needs 'model'"),
        ("stages.score.attempts", "GL103", "a score stage 'score' needs 'attempts'"),
        ("name", "GL103", "the spec needs 'name'"),
        ("stages", "GL103", "the spec needs 'stages'"),
        ("data.arc1.subsets.0", "GL102", "item 1 of 'subsets' must be text, not null"),
    ],
)
def test_a_null_over_what_has_no_default_is_an_error_and_removes_no_entry(path: str, code: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_text(SPEC, overrides=(f"{path}=null",), facts=FACTS)
    assert [(d.code, d.message) for d in caught.value.diagnostics] == [(code, message)]


@pytest.mark.parametrize("sweep", ["", "sweep:\n", "sweep: {}\n", "sweep: {seed: [1, 2]}\n"])
@pytest.mark.parametrize("axis", ["vars.steps", "seed.1"])
def test_a_null_for_an_axis_that_is_not_there_is_an_axis_without_values(sweep: str, axis: str) -> None:
    with pytest.raises(SpecError) as caught:
        compile_text(SPEC + sweep, overrides=(f"sweep.{axis}=null",), facts=FACTS)
    assert [(d.code, d.message) for d in caught.value.diagnostics] == [
        ("GL050", f"the axis '{axis}' needs a list of values")
    ]
