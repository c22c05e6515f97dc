"""Tasks as other collections have them: grids over 30, one task a line, further lists, ids that are no names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gridloom.errors import DataError
from gridloom.plain_names import check_plain, file_named, why_not_plain
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sources import open_source
from gridloom.runtime.data.files.arrays import read_split
from gridloom.runtime.data.files.json_files import load_json
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.planning.local import task_overrides
from gridloom.runtime.quick.task_source import MANY, source_spec
from gridloom.runtime.show.look import read_subsets
from gridloom.specs.data import ArcData, ArcSelect


def task(columns: int, rows: int = 1, **others: Any) -> dict[str, Any]:
    """Return a task of one demonstration and one test of this size."""
    grid = [[1] * columns for _ in range(rows)]
    return {"train": [{"input": grid, "output": grid}], "test": [{"input": grid, "output": grid}], **others}


def write(folder: Path, **tasks: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in tasks.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def spec(source: str, **fields: Any) -> ArcData:
    return ArcData(source=source, subsets=("tasks",), holdout=(), **fields)


def test_all_tasks_over_30_are_named_in_one_message(tmp_path: Path) -> None:
    write(tmp_path / "t", **{f"large{i:02d}": task(31 + i) for i in range(20)}, tall=task(2, 45), small=task(5))
    for read in (
        lambda: read_arc(spec("t"), tmp_path),
        lambda: read_subsets("t", tmp_path),
    ):
        with pytest.raises(DataError) as caught:
            read()
        message = caught.value.message
        assert "21 of 22 tasks have a grid of more than 30 rows or columns" in message
        assert "large00 (31 columns), large01 (32 columns)" in message
        assert "(21 in all)" in message
        assert "max_side: 30" in caught.value.remedy
    assert caught.value.remedy.startswith("correct or remove the pairs; in a spec, select:")  # the second reads no spec


def test_max_side_leaves_tasks_over_30_out_and_counts_them(tmp_path: Path) -> None:
    write(tmp_path / "t", large=task(31), tall=task(2, 45), small=task(5), middle=task(30))
    found = read_arc(spec("t", select=ArcSelect(max_side=30)), tmp_path)
    assert [one.task_id for one in found.tasks] == ["middle", "small"]
    assert found.left_out == 2
    assert read_arc(spec("t", select=ArcSelect(ids=("small",))), tmp_path).left_out == 0


def test_a_held_out_answer_over_30_is_left_out_and_counted_like_other_grids(tmp_path: Path) -> None:
    large = task(5)
    large["test"][0]["output"] = [[1] * 31]
    write(tmp_path / "t", large=large, small=task(5))
    held_out = ArcData(source="t", subsets=("tasks",), holdout=("tasks",))
    with pytest.raises(DataError, match="1 of 2 tasks have a grid of more than 30"):
        read_arc(held_out, tmp_path)
    found = read_arc(held_out.model_copy(update={"select": ArcSelect(max_side=30)}), tmp_path)
    assert [one.task_id for one in found.tasks] == ["small"]
    assert found.left_out == 1
    assert [*found.answers] == ["small"]


def test_a_task_left_out_must_still_be_a_task(tmp_path: Path) -> None:
    broken = task(31)
    broken["train"][0]["output"] = [[10]]
    write(tmp_path / "t", broken=broken, small=task(5))
    with pytest.raises(DataError, match="10 is not a colour"):
        read_arc(spec("t", select=ArcSelect(max_side=30)), tmp_path)


def test_lists_that_are_not_read_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "t", a=task(3, **{"arc-gen": [{}] * 250, "name": "a"}), b=task(3, **{"arc-gen": [{}] * 12}))
    assert read_arc(spec("t"), tmp_path).unread == {"arc-gen": 262}


GRID = [[0, 1], [2, 3]]


def test_one_task_a_line(tmp_path: Path) -> None:
    """ARC-Heavy of BARC: a line has `examples` as [input, output], and `seeds` and `source`."""
    lines = [
        {"examples": [[GRID, GRID], [GRID, [[5]]]], "seeds": ["a.py"], "source": "def f(): pass"},
        {"examples": [[GRID, GRID]]},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n\n" + json.dumps(task(4))
    (tmp_path / "heavy.jsonl").write_text(text)
    found = read_arc(spec("heavy.jsonl"), tmp_path)
    assert [one.task_id for one in found.tasks] == ["heavy-0000001", "heavy-0000002", "heavy-0000004"]
    assert [pair.output.tolist() for pair in found.tasks[0].demos] == [GRID, [[5]]]
    assert found.tasks[0].tests == ()
    assert found.unread == {"seeds": 1}
    assert [len(one.known) for one in found.tasks] == [0, 0, 1]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "heavy.jsonl").write_text(text)
    assert open_source("folder", tmp_path).subsets == ("heavy",)
    (tmp_path / "one.json").write_text(json.dumps(lines[0]))
    assert len(read_arc(spec("one.json"), tmp_path).tasks[0].demos) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "heavy.jsonl:2:1:2: not valid JSON"),
        ('{"examples": [[1, 2, 3]]}', "train pair 1 has no 'input'"),
        ('{"examples": [[[[0]], [[11]]]]}', "11 is not a colour"),
        ("[" * 100_000, "not usable JSON"),
        ("\xff", "not UTF-8"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    good = json.dumps({"examples": [[GRID, GRID]]})
    (tmp_path / "heavy.jsonl").write_bytes(f"{good}\n{line}\n".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_arc(spec("heavy.jsonl"), tmp_path)
    assert problem in caught.value.message


BAD_IDS = [
    "/abs/path", "../../up", "a/b", "a\\b", "", ".", "..", ".hidden", "a\0b", "a\nb", "a\x1b[31mb",
    "x" * 201, "é" * 101,
    "con", "NUL", "com1", "Lpt9.txt", "trailing.", " lead", "\ud800", "a\u202eb", "a|||b",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_IDS)
def test_ids_that_are_no_plain_names_are_refused_when_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "x_test_challenges.json").write_text(json.dumps({name: task(3), "fine": task(3)}))
    source = ArcData(source="x", subsets=("test",), holdout=())
    with pytest.raises(DataError) as caught:
        read_arc(source, tmp_path)
    assert "task id" in caught.value.message
    assert caught.value.message.isprintable()
    only = source.model_copy(update={"select": ArcSelect(ids=("fine",))})
    assert len(read_arc(only, tmp_path).tasks) == 1


@pytest.mark.parametrize("name", [name for name in BAD_IDS if name != "a|||b"])
def test_writers_of_files_check_ids_again(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        file_named(tmp_path, name, ".json")


@pytest.mark.parametrize(
    "name", ["00d62c1b", "AboveBelow1", "1d_denoising_1c_0", "a: b", "a[b]", "é", "コン", "x" * 200]
)
def test_names_of_real_collections_are_plain(tmp_path: Path, name: str) -> None:
    assert why_not_plain(name) == ""
    assert check_plain(name, "task id", "here") == name
    file_named(tmp_path, name, ".json").write_text("{}")


@pytest.mark.parametrize("place", ["../x.json", "link.json", "absolute", "~/x.json", "inner/../../x.json"])
def test_one_rule_for_paths_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Relative paths start from the base folder; `..`, links, `~` and absolute paths lead where they lead."""
    base = tmp_path / "specs"
    (base / "inner").mkdir(parents=True)
    write(tmp_path, x=task(3))
    (base / "link.json").symlink_to(tmp_path / "x.json")
    monkeypatch.setenv("HOME", str(tmp_path))
    source = str(tmp_path / "x.json") if place == "absolute" else place
    assert len(read_arc(spec(source), base).tasks) == 1
    assert LocalFacts().data(spec(source), str(base)).num_tasks == 1


@pytest.mark.parametrize("name", ["~nosuchuser/x", "a\0b", "n" * 300, "p/" * 3000, "\ud800"])
def test_paths_that_can_be_none_are_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot read the data source"):
        LocalFacts().data(spec(name), str(tmp_path))


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    os.mkfifo(tmp_path / "x_test_challenges.json")
    (tmp_path / "locked").mkdir()
    for name, reason in (("pipe.json", "named pipe"), ("/dev/zero", "device")):
        with pytest.raises(DataError, match=reason):
            read_arc(spec(name), tmp_path)
    with pytest.raises(DataError, match="named pipe"):
        load_json(tmp_path / "pipe.json")
    assert task_overrides(str(tmp_path / "pipe.json"), None)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "dataset.json").write_text('{"seq_len": 4, "vocab_size": 6}')
    os.mkfifo(tmp_path / "train" / "all__inputs.npy")
    with pytest.raises(DataError, match="named pipe"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize(
    "name", ["task #1.json", "a: b.json", "~t.json", "a=b.json", "it's.json", "[x].json", "{.json"]
)
def test_a_task_file_of_any_name_is_solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from gridloom.runtime.planning.local import compile_local

    monkeypatch.chdir(tmp_path)
    Path(name).write_text(json.dumps(task(3)))
    compiled = compile_local("solve-task", task_overrides(name, "60s"))
    assert compiled.spec.data["task"].model_dump()["source"] == f"./{name}"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("answers", [True, False])
def test_a_byte_order_mark_changes_nothing(tmp_path: Path, mark: bytes, answers: bool) -> None:
    content = task(3)
    if not answers:
        del content["test"][0]["output"]
    path = tmp_path / "t.json"
    path.write_bytes(mark + json.dumps(content).encode())
    assert ("stages.score=null" in task_overrides(str(path), None)) is not answers


def test_a_task_file_that_is_no_task_is_left_to_the_compiler(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for raw in (b"[" * 100_000, b"\xff\xfe", b"[]", b"1", b'{"test": 1}', b""):
        path.write_bytes(raw)
        assert "stages.score=null" not in task_overrides(str(path), None)


def test_a_file_of_tasks_by_id_is_known_by_its_content(tmp_path: Path) -> None:
    """Kaggle's form under another name: several tasks, not one without demonstrations."""
    examples = [[[[1]], [[2]]], [[[2]], [[3]]]]
    write(tmp_path / "t", mine={"first": task(2), "second": task(3), "third": {"examples": examples}})
    found = read_arc(spec("t/mine.json"), tmp_path)
    assert [one.task_id for one in found.tasks] == ["first", "second", "third"]
    assert len(found.tasks[2].demos) == 2
    chosen = source_spec(str(tmp_path / "t" / "mine.json"), None, None, None)
    assert chosen.recipe == MANY


@pytest.mark.parametrize("content", [{}, {"train": []}, {"a": task(1), "b": 3}, [1], {"a": {"test": []}}])
def test_an_object_that_is_not_all_tasks_stays_one_task(tmp_path: Path, content: Any) -> None:
    write(tmp_path / "t", odd=content)
    subset = open_source("t/odd.json", tmp_path).readers["tasks"]()
    assert list(subset.files) == ["odd"]
