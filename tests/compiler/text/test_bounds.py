"""Bounds of the compiler: variables, aliases, extends and sweeps that stand for more than fits, files that are none."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from compiler_support import FACTS, SPEC

from gridloom.compiler.compile import compile_spec, compile_text
from gridloom.compiler.render import render, to_json
from gridloom.compiler.session import MAX_PROBLEMS
from gridloom.diagnostics import Diagnostic
from gridloom.errors import SpecError

HEAD = SPEC.replace("vars: {steps: 500}", "vars:\n  steps: 500")


def problems(text: str, *overrides: str) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of a spec, after both of their forms were written."""
    try:
        found = compile_text(text, overrides=overrides, facts=FACTS).warnings
    except SpecError as error:
        found = error.diagnostics
    assert not found or (render(found) and to_json(found))
    return found


def with_vars(*lines: str) -> str:
    """Return the sample with further variables."""
    return HEAD.replace("  steps: 500\n", "  steps: 500\n" + "".join(f"  {line}\n" for line in lines))


def doubled(count: int, first: str, use: str) -> str:
    """Return a spec with `count` variables, each made of the one before it by `use`, which holds @ for its name."""
    return with_vars(f"v0: {first}", *(f"v{i}: {use.replace('@', f'${{vars.v{i - 1}}}')}" for i in range(1, count)))


@pytest.mark.parametrize(
    "text",
    [
        doubled(28, "aaaaaaaaaaaaaaaa", "'@@'"),
        doubled(28, "''", "'@@'") + 'description: "${vars.v27}"\n',
        doubled(14, "[1, 1, 1, 1, 1, 1, 1, 1]", "['@', '@', '@', '@', '@', '@', '@', '@']"),
        doubled(14, "{a: 1}", "{a: '@', b: '@', c: '@', d: '@', e: '@', f: '@', g: '@', h: '@'}"),
        doubled(300, "1", "'@'"),
        with_vars("v299: 1", *(f"v{i}: '${{vars.v{i + 1}}}'" for i in range(299))),
        doubled(20, "[[[[1]]]]", "[[[['@']]]]"),
        with_vars("v19: 1", *(f"v{i}: [[[['${{vars.v{i + 1}}}']]]]" for i in range(19))),
        with_vars(f"long: {'x' * 500_000}", "many: [" + ", ".join(["'${vars.long}'"] * 20_000) + "]"),
        with_vars(f"long: &long {'x' * 500_000}", "many: [" + ", ".join(["*long"] * 50_000) + "]"),
        with_vars(f"long: &long {{{'k' * 900}: 1}}", "many: [" + ", ".join(["*long"] * 90_000) + "]"),
    ],
    ids=["text", "empty", "list", "mapping", "chain", "backwards", "deep", "deep backwards", "uses", "aliases", "keys"],
)
def test_what_a_few_lines_stand_for_is_bounded(text: str) -> None:
    found = problems(text)
    codes = {d.code for d in found}
    assert codes <= {"GL011", "GL038"}
    if "description" not in text:  # nothing is as long as nothing doubled, whatever led to it
        assert len(found) == 1


def test_a_chain_of_variables_has_one_limit_in_either_order() -> None:
    def chain(count: int, *, backwards: bool) -> str:
        lines = [f"c{i}: '${{vars.c{i - 1}}}'" if i else "c0: 7" for i in range(count)]
        return with_vars(*(reversed(lines) if backwards else lines))

    for backwards in (False, True):
        assert problems(chain(40, backwards=backwards)) == ()
        assert [d.code for d in problems(chain(41, backwards=backwards))] == ["GL038"]


def test_variables_within_the_bounds_are_written_out() -> None:
    text = doubled(10, "ab", "'@@'") + 'description: "${vars.v9}"\n'
    compiled = compile_text(text, facts=FACTS)
    assert compiled.spec.description == "ab" * 512
    written = with_vars("id: 00576224", "lr: 1e-4") + 'description: "${vars.id} ${vars.lr}"\n'
    assert compile_text(written, facts=FACTS).spec.description == "00576224 1e-4"


@pytest.mark.parametrize(
    "sweep",
    [
        "{" + ", ".join(f"vars.v{i}: [1]" for i in range(3000)) + "}",
        "{seed: [" + ", ".join(map(str, range(5000))) + "]}",
        "{" + ", ".join(f"vars.v{i}: [1, 2, 3, 4, 5]" for i in range(60)) + "}",
        "{seed: [" + ", ".join(map(str, range(64))) + "], vars.steps: [" + ", ".join(map(str, range(64))) + "]}",
    ],
    ids=["axes", "values", "product", "large tree"],
)
def test_sweeps_are_bounded(sweep: str) -> None:
    text = with_vars(*(f"v{i}: 0" for i in range(60)), "big: [" + "1, " * 1000 + "1]") + f"sweep: {sweep}\n"
    assert {d.code for d in problems(text)} & {"GL011", "GL052"}


def test_a_spec_with_a_problem_in_every_line_stops_the_compiler() -> None:
    text = SPEC + "".join(f"unknown{i}: 1\n" for i in range(5000))
    found = problems(text)
    assert len(found) == MAX_PROBLEMS
    assert "there may be more" in render(found)
    on_one_line = "{" + ", ".join(f"unknown{i}: 1" for i in range(5000)) + "}"
    assert len(to_json(problems(on_one_line))) < 3_000_000


@pytest.mark.parametrize("number", ["9" * 299, "9" * 500, "-" + "9" * 299, "1e308", "0x" + "f" * 200, "1e39", ".inf"])
@pytest.mark.parametrize("field", ["seed", "walltime", "stages.joint.batch_size", "models.trm.expansion", "vars.steps"])
def test_numbers_that_nothing_can_mean_are_refused_as_written(field: str, number: str) -> None:
    found = problems(SPEC, f"{field}={number}")
    assert found
    assert all(d.code in ("GL102", "GL106") and d.span is not None and d.span.source.startswith("--set") for d in found)
    shown = number if len(number) <= 60 else number[:57]
    assert all(shown in d.message for d in found)


def test_a_long_chain_of_files_is_refused(tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / f"f{i}.yaml").write_text(f"extends: ./f{i + 1}.yaml\n")
    (tmp_path / "f400.yaml").write_text(SPEC)
    with pytest.raises(SpecError) as caught:
        compile_spec(tmp_path / "f0.yaml", facts=FACTS)
    assert [d.code for d in caught.value.diagnostics] == ["GL033"]
    assert compile_spec(tmp_path / "f390.yaml", facts=FACTS).spec.name == "sample"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a\\0b.yaml", "GL031"),
        ("./" + "a" * 300 + ".yaml", "GL031"),
        ("./" + "a/" * 3000 + ".yaml", "GL031"),
        ("~nosuchuser/x.yaml", "GL031"),
        ("./pipe.yaml", "GL002"),
        ("./folder.yaml", "GL002"),
        ("/dev/zero", "GL002"),
        ("./locked.yaml", "GL031"),
    ],
)
def test_what_extends_cannot_open_is_reported(tmp_path: Path, name: str, code: str) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "locked.yaml").symlink_to("locked.yaml")
    (tmp_path / "spec.yaml").write_text(f'gridloom: 1\nname: a\nextends: "{name}"\n')
    with pytest.raises(SpecError) as caught:
        compile_spec(tmp_path / "spec.yaml", facts=FACTS)
    assert [d.code for d in caught.value.diagnostics] == [code]
    assert "\0" not in render(caught.value.diagnostics)


@pytest.mark.parametrize("kind", ["pipe", "folder", "absent", "nul", "long", "utf16", "nulbytes"])
def test_a_spec_that_is_no_text_file_is_reported(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "spec.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "utf16":
        path.write_bytes(SPEC.encode("utf-16"))
    elif kind == "nulbytes":
        path.write_bytes(b"\0" * 100)
    given = {"nul": "a\0b.yaml", "long": "x" * 300 + ".yaml"}.get(kind, str(path))
    with pytest.raises(SpecError) as caught:
        compile_spec(given, facts=FACTS)
    codes = {"absent": "GL001", "utf16": "GL003", "nulbytes": "GL018"}
    assert [d.code for d in caught.value.diagnostics] == [codes.get(kind, "GL002")]


def test_one_rule_for_paths_of_extends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths start from the file that holds them; `..`, links, `~` and absolute paths lead where they lead."""
    for folder in ("specs/inner", "common", "home"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "common" / "base.yaml").write_text(SPEC)
    (tmp_path / "home" / "base.yaml").write_text(SPEC)
    (tmp_path / "specs" / "link.yaml").symlink_to(tmp_path / "common" / "base.yaml")
    (tmp_path / "specs" / "inner" / "one.yaml").write_text("extends: ../../common/base.yaml\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spec = tmp_path / "specs" / "spec.yaml"
    absolute = str(tmp_path / "common" / "base.yaml")
    for path in ("../common/base.yaml", "./link.yaml", "./inner/one.yaml", "~/base.yaml", absolute):
        spec.write_text(f"gridloom: 1\nname: mine\nextends: {path}\n")
        assert compile_spec(spec, facts=FACTS).spec.name == "mine", path


IDS = ["00576224", "20818e16", "13e47133", "0o17", "0x1f", "true", "null", "~", ".5", "99999999999999999999", ".inf"]


@pytest.mark.parametrize("identifier", IDS)
def test_a_task_id_that_yaml_reads_as_something_else_is_quoted_from_the_source(identifier: str) -> None:
    select = f"select: {{ids: [{identifier}]}}"
    for text, overrides in (
        (SPEC.replace("check_demos: 1", f"check_demos: 1, {select}"), ()),
        (SPEC, (f"data.arc1.select.ids=[{identifier}]",)),
        (with_vars(f"id: {identifier}").replace("check_demos: 1", 'check_demos: 1, select: {ids: ["${vars.id}"]}'), ()),
    ):
        (found,) = problems(text, *overrides)
        assert found.code == "GL102"
        assert found.message == f"item 1 of 'ids' must be text, not {identifier}"
        assert found.hint == f'quote it: "{identifier}"'


@pytest.mark.parametrize(
    "identifier", ["yes", "no", "2024-01-01", "2024-99-99", "1_000", "0b11", "1:30", "e5", "=", "0o9"]
)
def test_a_task_id_that_yaml_reads_as_text_is_taken_as_it_stands(identifier: str) -> None:
    compiled = compile_text(
        SPEC.replace("check_demos: 1", f"check_demos: 1, select: {{ids: [{identifier}]}}"), facts=FACTS
    )
    assert compiled.spec.data["arc1"].model_dump()["select"]["ids"] == (identifier,)


PIECES = (
    "${vars.steps}", "${vars.v0}", "$${", "&a ", "*a", "!!python/object:os.system ", "!!timestamp ", "2024-99-99",
    "<<: *a",
    "[" * 60, "{" * 60, "- " * 50, "? ", "\0", "\x1b[31m", "\ufeff", "\u2028", "\ud800",
    "'", '"', "|", ">", "%", "@", "`", "9" * 310, "1e999", ".inf", "null", "~", "~nosuchuser/x", "../" * 20, "a" * 300, "extends: ./spec.yaml",
    "sweep: {seed: [1, 2]}", "---\n", "...\n", "\t", ": ", "# ", "\n", "  ", ",", "]", "}",
)  # fmt: skip


def outcome(path: Path) -> object:
    """Return the key of a spec's graph, or its diagnostics after they were drawn."""
    try:
        return compile_spec(path, facts=FACTS).graph.key
    except SpecError as error:
        found = error.diagnostics
    assert render(found)
    assert to_json(found)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_mutated_specs_end_in_diagnostics_or_a_graph(seed: int, tmp_path: Path) -> None:
    """Seeded mutations of a sound spec: anything but a graph or diagnostics fails; `tests/campaign` runs many more."""
    draw = random.Random(seed)
    for _ in range(60):
        text = with_vars("v0: [1, 2]", "v1: ['${vars.v0}', x]")
        for _ in range(draw.randint(1, 4)):
            at, cut = draw.randrange(len(text)), draw.choice((0, 0, 1, 5, 40))
            piece = (
                draw.choice(PIECES) if draw.random() < 0.8 else text[(start := draw.randrange(len(text))) : start + 30]
            )
            text = text[:at] + piece + text[at + cut :]
        path = tmp_path / "spec.yaml"
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        assert outcome(path) == outcome(path)
