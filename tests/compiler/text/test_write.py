"""Specs and overrides given as data: what is written is read back with its types."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.compiler.facts import StaticFacts
from gridloom.compiler.session import Session
from gridloom.compiler.text.load import load, parse_value
from gridloom.compiler.text.tree import Mapping, Node, Scalar, Sequence
from gridloom.compiler.text.write import override_text, spec_text, value_text
from gridloom.errors import GridloomError


def plain(node: Node | None) -> Any:
    """The data of a tree."""
    match node:
        case Mapping(entries):
            return {key: plain(entry.value) for key, entry in entries.items()}
        case Sequence(items):
            return [plain(item) for item in items]
        case Scalar(value):
            return value
    raise AssertionError(node)


def read(text: str) -> Any:
    session = Session(StaticFacts(), ())
    node = parse_value(text, "test", session)
    assert session.diagnostics == []
    return plain(node)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn", "Co")), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | TEXTS
KEYS = TEXTS.filter(lambda text: text != "<<")  # the language refuses merge keys, quoted ones too
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_a_value_is_read_back_as_it_was_given(value: Any) -> None:
    found = read(value_text(value))
    assert found == value
    assert type(found) is type(value)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_spec_is_read_back_as_it_was_given(spec: dict[str, Any]) -> None:
    session = Session(StaticFacts(), ())
    assert plain(load(spec_text(spec), "test", session)) == spec
    assert session.diagnostics == []


@pytest.mark.parametrize("text", ["true", "1e-3", "null", "", "60s", "~", "0x1f", "- a", "a: b", "# no", "é", "a\tb\n"])
def test_text_stays_text(text: str) -> None:
    assert read(value_text(text)) == text


def test_what_stands_for_a_number_or_a_text_is_written_as_one() -> None:
    assert read(value_text((np.int64(3), np.float32(0.5), Path("a/b")))) == [3, 0.5, "a/b"]
    assert math.isnan(read(value_text(float("nan"))))
    assert read(value_text([math.inf, -math.inf])) == [math.inf, -math.inf]


def test_an_override_is_what_a_person_would_type() -> None:
    assert override_text("stages.adapt.budget", "60s") == "stages.adapt.budget=60s"
    assert override_text("stages.adapt.steps", 10) == "stages.adapt.steps=10"
    assert override_text("stages.score", None) == "stages.score=null"
    assert override_text("name", "10") == 'name="10"'


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"stages": {"a": {"b": [1, object()]}}}, "stages.a.b.1: a spec has no form for object"),
        ({"stages": {"a": {3: 1}}}, "stages.a: the key 3 is int, not text"),
        ({4: 1}, "the spec: the key 4 is int"),
    ],
)
def test_a_value_without_a_form_is_named_with_its_path(spec: dict[Any, Any], message: str) -> None:
    with pytest.raises(GridloomError, match=message.replace(".", r"\.")):
        spec_text(spec)


def test_an_empty_spec_is_a_mapping() -> None:
    assert spec_text({}) == "{}\n"
