"""The starter spec compiles and points editors at the schema."""

from __future__ import annotations

import pytest

from gridloom.compiler.compile import compile_text
from gridloom.compiler.facts import StaticFacts
from gridloom.errors import GridloomError
from gridloom.runtime.planning.starter import init_text


def test_starter_compiles_without_warnings(facts: StaticFacts) -> None:
    text = init_text("my-first")
    done = compile_text(text, facts=facts)
    assert done.spec.name == "my-first"
    assert done.warnings == ()
    assert text.startswith("# yaml-language-server: $schema=")


def test_starter_compiles_with_its_sweep_taken_in(facts: StaticFacts) -> None:
    head, _, sweep = init_text("swept").partition("# sweep:\n")
    text = head + "sweep:\n" + sweep.replace("#", "")
    assert len(compile_text(text, facts=facts).graph.variants) == 4


@pytest.mark.parametrize("name", ["", "1a", "a b", "../x", "a" * 65])
def test_name_that_no_spec_can_have_is_refused(name: str) -> None:
    with pytest.raises(GridloomError, match="cannot name a spec"):
        init_text(name)
