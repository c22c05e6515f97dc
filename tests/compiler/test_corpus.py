"""Broken specs as data: each `corpus/NAME.yaml` with its diagnostics in `NAME.expected`, overrides in `NAME.args`.

A line of `.expected` is a code, the place, and what stands there. To add a case write the YAML, run
`python tests/compiler/test_corpus.py NAME`, read what it says, and keep it if it is right.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from compiler_support import FACTS

from gridloom.compiler.compile import compile_spec
from gridloom.diagnostics import Diagnostic
from gridloom.errors import SpecError

CORPUS = Path(__file__).parent / "corpus"
CASES = sorted(path.stem for path in CORPUS.glob("*.yaml"))


def said(name: str) -> tuple[Diagnostic, ...]:
    """Compile a case from its folder and return every diagnostic."""
    arguments = CORPUS / f"{name}.args"
    overrides = arguments.read_text().splitlines() if arguments.exists() else []
    before = Path.cwd()
    os.chdir(CORPUS)
    try:
        return compile_spec(f"{name}.yaml", overrides, facts=FACTS).warnings
    except SpecError as error:
        return error.diagnostics
    finally:
        os.chdir(before)


def line_of(diagnostic: Diagnostic) -> str:
    """Write a diagnostic as `.expected` holds it."""
    at = diagnostic.span
    assert at is not None
    shown = at.text[at.column - 1 : at.end_column - 1].encode("unicode_escape").decode()
    return f"{diagnostic.code} {at.source}:{at.line}:{at.column} {shown}".rstrip()


@pytest.mark.parametrize("name", CASES)
def test_broken_spec_is_told_what_and_where(name: str) -> None:
    expected = (CORPUS / f"{name}.expected").read_text().splitlines()
    assert expected
    assert [line_of(d) for d in said(name)] == expected


def test_corpus_has_the_promised_size() -> None:
    assert len(CASES) >= 80


def test_ten_megabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("gridloom: 1\n# " + "x" * 10_000_000)
    with pytest.raises(SpecError) as caught:
        compile_spec(path, facts=FACTS)
    assert [d.code for d in caught.value.diagnostics] == ["GL004"]


def test_null_without_a_base_is_to_be_left_out() -> None:
    (problem,) = said("type_null_without_base")
    assert problem.message == "'optimizer' must be a mapping, not null"
    assert problem.hint.endswith("there is none here: leave 'optimizer' out for its default")


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        (CORPUS / f"{case}.expected").write_text("".join(line_of(d) + "\n" for d in said(case)))
        print(case, *(f"  {line_of(d)}\n      {d.message}\n      {d.hint}" for d in said(case)), sep="\n")
