"""The dataset and answers artifacts: separate, deterministic, and refused when damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from data_cases import grids, task_json
from hypothesis import given
from hypothesis import strategies as st

from gridloom.compiler.graph import StageNode
from gridloom.errors import DataError
from gridloom.runtime.data.arc.answers import load_answers
from gridloom.runtime.data.arc.dataset import load_dataset
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.files.grids import PackedGrid
from gridloom.runtime.data.files.json_files import dumps_with_grids, loads_with_packed_grids
from gridloom.runtime.data.stages import BuildAnswers, BuildDataset
from gridloom.runtime.data.tasks import Grid, tasks_digest
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.stage import StageContext
from gridloom.specs.data import ArcData, ArcSelect, Augment

Write = Callable[[str, Any], Path]
SPEC = ArcData(select=ArcSelect(max_side=6, limit=8), canvas="auto", check_demos=1, augment=Augment(copies=4))


def build(folder: Path, spec: ArcData = SPEC, base: str = ".", facts: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    section = spec.model_dump(mode="json")
    for stage, kind in ((BuildDataset(), "arc"), (BuildAnswers(), "arc_answers")):
        out = folder / kind
        out.mkdir()
        node = StageNode(name="d", kind=kind, version=1, produces="dataset", spec=section, facts=facts or {})
        stage.run(node, {}, cast(StageContext, SimpleNamespace(out=out, base=Path(base), notes={})))
    return folder


def test_dataset_comes_back_as_it_was_read(tmp_path: Path) -> None:
    folder = build(tmp_path / "a")
    source = read_arc(SPEC, Path())
    dataset = load_dataset(folder / "arc")
    assert tasks_digest(dataset.tasks) == tasks_digest(source.tasks) == dataset.digest
    assert [task.check for task in dataset.tasks] == [task.check for task in source.tasks]
    assert (dataset.canvas, dataset.version, dataset.augment) == (source.canvas, source.version, SPEC.augment)
    answers = load_answers(folder / "arc_answers")
    assert answers.keys() == source.answers.keys()
    assert all(np.array_equal(a, b) for key in answers for a, b in zip(answers[key], source.answers[key], strict=True))


def test_artifacts_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    files = sorted(path.relative_to(first) for path in first.rglob("*.json"))
    assert [str(path) for path in files] == ["arc/meta.json", "arc/tasks.json", "arc_answers/answers.json"]
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)


def test_noise_for_answers_leaves_the_dataset_byte_identical(write: Write, tmp_path: Path) -> None:
    task = task_json(demos=3, tests=2)
    write("one/x.json", task)
    task["test"][0]["output"] = [[7] * 29] * 3
    write("two/x.json", task)
    spec = SPEC.model_copy(update={"source": ".", "subsets": ("tasks",), "holdout": ("tasks",), "select": ArcSelect()})
    one, two = (build(tmp_path / f"out-{n}", spec, base=str(tmp_path / n)) for n in ("one", "two"))
    for name in ("tasks.json", "meta.json"):
        assert (one / "arc" / name).read_bytes() == (two / "arc" / name).read_bytes()
    assert (one / "arc_answers/answers.json").read_bytes() != (two / "arc_answers/answers.json").read_bytes()


@given(st.lists(grids(), max_size=4))
def test_fast_json_writer_and_reader_are_the_plain_ones(some: list[Grid]) -> None:
    value = {"b": some, "a": {"id": "x", "none": None}, "c": [{"input": grid} for grid in some]}
    plain = {"b": [g.tolist() for g in some], "a": value["a"], "c": [{"input": g.tolist()} for g in some]}
    text = dumps_with_grids(value)
    assert text == json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    back = loads_with_packed_grids(text)
    assert [packed.decode().tolist() for packed in back["b"]] == plain["b"]
    assert [packed.shape for packed in back["b"]] == [grid.shape for grid in some]


@pytest.mark.parametrize(
    "text", [b'{"a":"[[1]]"}', b'{"a":"NaN"}', b'{"a":NaN}', b"[[1,2", b"[[1]]]", b'["[[", [[1]]]']
)
def test_fast_reader_leaves_odd_text_to_the_plain_one(text: bytes) -> None:
    assert loads_with_packed_grids(text) is None


@pytest.mark.parametrize(
    "inner", [b"1,2],[3", b"12", b"1,,2", b"1, 2", b"a", b"1],[2,3", b"1,2];[3,4", b"-1", b"1.0", b""]
)
def test_packed_grids_decode_only_rows_of_single_digits(inner: bytes) -> None:
    assert PackedGrid(inner).decode() is None


def test_files_changed_after_compiling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"changed since the spec was compiled \(digest 000000000000 ->"):
        build(tmp_path / "a", facts={"digest": "0" * 64})
    facts = LocalFacts().data(SPEC, ".")
    build(tmp_path / "b", facts={"digest": facts.digest, "answers_digest": facts.answers_digest})


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("arc/tasks.json", lambda text: text[:-20], "not valid JSON"),
        ("arc/tasks.json", lambda text: text.replace("[[", "[[11,", 1), "is not a colour|cells, but row 1"),
        ("arc/tasks.json", lambda text: text.replace('"check":[]', '"check":[0]', 1), "does not match meta.json"),
        ("arc/tasks.json", lambda text: text.replace('"demos"', '"demo"', 1), "not a dataset artifact"),
        ("arc/meta.json", lambda text: text.replace('"format_version":1', '"format_version":2'), "data format 2"),
        ("arc/meta.json", lambda text: "[]", "data format None"),
        ("arc_answers/answers.json", lambda text: text.replace("[[", "[[[", 1), "not valid JSON"),
        ("arc_answers/answers.json", lambda text: text.replace('"answers":{', '"answers":{"x":[[[1]]],'), "digest"),
    ],
)
def test_damaged_artifacts_are_refused(tmp_path: Path, name: str, change: Callable[[str], str], said: str) -> None:
    folder = build(tmp_path / "a")
    path = folder / name
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    with pytest.raises(DataError, match=said):
        load_answers(path.parent) if "answers" in name else load_dataset(path.parent)


def test_missing_artifact_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meta\.json: cannot be read: No such file"):
        load_dataset(tmp_path)


def test_facts_are_those_of_the_reader_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = LocalFacts()
    found = facts.data(SPEC, ".")
    source = read_arc(SPEC, Path())
    assert (found.digest, found.answers_digest) == (source.digest, source.answers_digest)
    assert (found.num_tasks, found.num_held_out, found.max_side, found.canvas) == (8, len(source.answers), 6, 7)
    assert found.subsets == ("training", "evaluation")
    assert found.num_check_demos == sum(len(task.check) for task in source.tasks) > 0
    assert found.task_ids == tuple(task.task_id for task in source.tasks)
    monkeypatch.setattr("gridloom.runtime.data.arc.read.read_arc", lambda *_: pytest.fail("read twice"))
    assert facts.data(SPEC, ".") is found


def test_dataset_folder_holds_no_answer(tmp_path: Path) -> None:
    folder = build(tmp_path / "a")
    source = read_arc(SPEC, Path())
    told = (folder / "arc/tasks.json").read_text()
    entries = {entry["id"]: entry for entry in json.loads(told)}
    for task_id, answers in source.answers.items():
        visible = [pair["output"] for pair in entries[task_id]["demos"]] + entries[task_id]["tests"]
        visible += [pair["input"] for pair in entries[task_id]["demos"]]
        assert entries[task_id]["known"] == []
        assert all(grid.tolist() not in visible for grid in answers)
