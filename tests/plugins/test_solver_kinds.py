"""A package of somebody else brings a policy, a verifier and a proposer: all are compiled, run and replayed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toy_package import BROKEN, BROKEN_MODULES, SOLVER, python

NAMED = "{policy: toy_patient, proposer: toy_mirror, verifier: {toy_reversed: 2}}"
COMPILE = """
import json, sys
from compiler_support import FACTS, SPEC
from gridloom.compiler.compile import compile_text
from gridloom.errors import SpecError

def compiled(solver, sets, with_):
    text = SPEC.replace("with: joint, data: arc1", f"with: {with_}, data: arc1, solver: {solver}")
    try:
        return compile_text(text, overrides=sets, facts=FACTS).graph.node("solve")
    except SpecError as error:
        return [[d.code, d.message, d.hint] for d in error.diagnostics]

found = [compiled(*case) for case in json.loads(sys.argv[1])]
print(json.dumps([f if isinstance(f, list) else {"key": f.key, **f.spec["solver"]} for f in found]))
print(json.dumps([m for m in ("torch", "toy.policies", "toy.verifiers", "toy.proposers") if m in sys.modules]))
"""
"""Compiles the sample spec with each (solver block, --set arguments, `with`)."""


def compiled(site: Path | None, *cases: tuple[str, list[str], str]) -> tuple[list[Any], list[str]]:
    """Return, for each case, the solver block of the graph with the key, or the diagnostics; and what was imported."""
    answer, imported = python(site, "-c", COMPILE, json.dumps(cases)).splitlines()
    return json.loads(answer), json.loads(imported)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy package, of which two more kinds are broken, and one bears a forbidden name."""
    oracle = {"gridloom.verifiers": {"oracle": "toy.verifiers:reversed_input"}}
    return SOLVER.with_more(BROKEN, BROKEN_MODULES).with_more(oracle).install(tmp_path_factory.mktemp("site"))


def test_names_of_other_packages_compile_and_are_in_the_key(site: Path) -> None:
    weight = "stages.solve.solver.verifier.toy_reversed"
    cases = [
        ("{}", [], "joint"),
        ("{proposer: auto}", [], "joint"),
        (NAMED, [], "joint"),
        (NAMED, [f"{weight}=3"], "joint"),
        ("{policy: toy_patient, proposer: toy_mirror}", [f"{weight}=2"], "joint"),
        ("{verifier: {toy_gone: 1}}", [], "joint"),
    ]
    (plain, auto, named, heavier, from_set, gone), imported = compiled(site, *cases)
    assert auto == plain
    assert "proposer" not in plain
    assert (named["policy"], named["proposer"]) == ("toy_patient", "toy_mirror")
    assert named["verifier"]["toy_reversed"] == 2.0
    assert from_set == named, "--set writes out the other weights of the block"
    assert heavier["verifier"]["toy_reversed"] == 3.0
    assert len({block["key"] for block in (plain, named, heavier, gone)}) == 4
    assert imported == [], "policies and verifiers are known by name alone, and a proposer by its kind"
    (without, *_), _ = compiled(None, *cases[:1])
    assert without == plain, "a package that no spec names changes nothing"


@pytest.mark.parametrize(
    ("solver", "code", "message", "hint"),
    [
        ("{policy: toy_patien}", "GL107", "must be 'fixed', 'escalate', 'bandit' or 'toy_patient'", "'toy_patient'?"),
        ("{policy: bandt}", "GL107", "must be 'fixed'", "'bandit'?"),
        ("{proposer: toy_miror}", "GL107", "must be 'auto', 'trm', 'text', 'search', 'toy_mirror'", "'toy_mirror'?"),
        ("{verifier: {toy_reversd: 1}}", "GL101", "unknown key 'toy_reversd' in 'verifier'", "'toy_reversed'?"),
        ("{toy_reversed: 1}", "GL101", "unknown key 'toy_reversed' in 'solver'", "'verifier.toy_reversed'?"),
        ("{verifier: {toy_reversed: heavy}}", "GL102", "'toy_reversed' must be a number at least 0", ""),
        ("{verifier: {toy_reversed: -1}}", "GL106", "'toy_reversed' must be a number at least 0, not -1", ""),
        ("{verifier: {oracle: 1}}", "GL403", "an oracle reads the held-out outputs", ""),
        ("{proposer: toy_number}", "GL111", "'toy_number' of package toy (toy.numbers:NUMBER) is a int", ""),
    ],
)
def test_mistakes_are_refused(site: Path, solver: str, code: str, message: str, hint: str) -> None:
    (said,), _ = compiled(site, (solver, [], "joint"))
    ((found, text, remedy),) = said
    assert found == code
    assert message in text
    assert hint in remedy


def test_override_of_an_unknown_verifier_and_a_proposer_without_its_checkpoint_are_refused(site: Path) -> None:
    cases = [
        ("{}", ["stages.solve.solver.verifier.toy_reverse=1"], "joint"),
        ("{proposer: toy_mirror}", [], "llama"),
    ]
    (path, alone), _ = compiled(site, *cases)
    assert [row[0] for row in path] == ["GL041"]
    assert path[0][2] == "did you mean 'stages.solve.solver.verifier.toy_reversed'?"
    assert "GL316" in [row[0] for row in alone]


def test_loop_runs_records_and_replays_them(tmp_path: Path) -> None:
    site = SOLVER.install(tmp_path / "site")
    root, script = str(tmp_path / "place"), str(Path(python.__code__.co_filename).with_name("toy_solve.py"))
    attempts = json.loads(python(site, script, root, "solve"))
    assert [row["attempt_id"] for row in attempts] == [
        f"{task}.{attempt}" for task in ("aaaa0001", "bbbb0002", "cccc0003") for attempt in (1, 2)
    ]
    first, second = attempts[:2]
    assert {row["policy"] for row in attempts} == {"toy_patient"}
    assert {*first["sources"], *second["sources"]} == {"toy_mirror"}
    assert (first["verdict"], first["signals"]["toy_reversed"]) == ("rejected", 0.0)
    assert first["feedback"].endswith("the grid is not the input reversed")
    assert (second["verdict"], second["signals"]["toy_reversed"]) == ("accepted", 1.0)
    everything = {row["attempt_id"]: True for row in attempts}
    patience_lost = SOLVER.without("toy_patient").install(tmp_path / "no policy")
    assert json.loads(python(patience_lost, script, root, "replay")) == everything, "a replay plans nothing"
    blind = SOLVER.without("toy_reversed").install(tmp_path / "no verifier")
    lost = json.loads(python(blind, script, root, "replay"))
    assert lost.keys() == everything.keys()
    assert all("no installed package brings the verifier 'toy_reversed'" in error for error in lost.values())
    lost = json.loads(python(None, script, root, "replay"))
    assert all("no installed package brings the proposer 'toy_mirror'" in error for error in lost.values())


def test_plugins_lists_what_is_installed_and_why_a_kind_cannot_be_used(site: Path) -> None:
    code = "import sys; from gridloom.cli.entry import main; sys.argv = ['gridloom', *sys.argv[1:]]; main()"
    rows = {row["name"]: row for row in json.loads(python(site, "-c", code, "plugins", "--json"))}
    assert rows["toy_patient"] == {
        "group": "gridloom.policies",
        "name": "toy_patient",
        "place": "toy.policies:Patient",
        "package": "toy",
        "version": "1.0",
        "problem": "",
    }
    assert rows["toy_gone"]["problem"].endswith("ModuleNotFoundError: No module named 'toy.no_such_module'")
    assert rows["toy_number"]["problem"].endswith("is a int, and group gridloom.proposers takes a ProposerKind")
    assert [name for name, row in rows.items() if not row["problem"]] == [
        "toy_patient", "oracle", "toy_reversed", "toy_mirror",
    ]  # fmt: skip
    shown = python(site, "-c", code, "plugins")
    assert "toy_gone: kind 'toy_gone' of package toy (toy.no_such_module:verify) cannot be loaded" in shown
    assert "toy 1.0" in shown


def test_doctor_names_kinds_that_cannot_be_used(site: Path) -> None:
    code = "from gridloom.runtime.doctor.examine import _plugins; print(*_plugins(), sep='\\n')"
    findings = python(site, "-c", code).splitlines()
    assert len(findings) == 2
    assert all("what='toy', status='note'" in line and "mend or uninstall toy" in line for line in findings)
    assert python(None, "-c", code).strip() == ""
