"""Lines that no gridloom wrote: whatever stands in them, a warning names the file and everything else is read."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from store_cases import attempt, call, small_run

from gridloom.stores.graph_records import GraphBlobRecord
from gridloom.stores.journal import decode_line, encode_line
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, MetricRecord, RunRecord
from gridloom.stores.workspace import Workspace


def raw(payload: str) -> bytes:
    """The line of a payload that is given as text."""
    import zlib

    body = payload.encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


LINES = [
    "{}",
    '{"s":"a"}',
    '{"s":true,"r":[]}',
    '{"s":-1,"r":[]}',
    '{"s":1e3,"r":[]}',
    '{"s":1}',
    '{"s":1,"r":[1]}',
    '{"s":1,"r":{"t":"runs","r":{}}}',
    '{"s":1,"r":[{"t":"runs"}]}',
    '{"s":1,"r":[{"t":"runs","r":[]}]}',
    '{"s":1,"r":[{"t":["runs"],"r":{}}]}',
    '{"s":1,"h":5}',
    '{"s":1,"h":{"format":1}}',
    '{"s":1,"h":{"format":true}}',
    '{"s":1,"h":{"format":1,"run_id":1,"host":"","gridloom_version":"","pid":1,"started_at":0}}',
    '{"s":1,"h":{"format":1,"run_id":"","host":"","gridloom_version":"","pid":1,"started_at":1e300}}',
    '{"s":1,"h":{"format":1,"run_id":"","host":"","gridloom_version":"","pid":1,"started_at":NaN}}',
    '{"s":99999999999999999999999,"r":[]}',
    '{"s":4000000000000000000,"r":[]}',
    '{"s":1,"r":' + "[" * 5000 + "]" * 5000 + "}",
    '{"s":1,"r":[{"t":"runs","r":{"run_id":' + '{"a":' * 3000 + "1" + "}" * 3000 + "}}]}",
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_line_of_another_form_is_damaged_and_the_rest_is_read(
    workspace: Workspace, ledger: Ledger, line: str
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call(number=1))
        path = writer.journal_path
        assert path is not None
        with path.open("ab") as file:
            file.write(raw(line))
        writer.append(call(number=2))
    assert [row["attempt"] for row in ledger.rows("FROM llm_calls ORDER BY attempt")] == [1, 2]
    (warning,) = ledger.warnings
    assert f"journal {path}: 1 damaged line(s)" in warning


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("graph_changes", {"thread_id": 5}),
        ("graph_changes", {}),
        ("graph_changes", {"thread_id": "t", "checkpoints": 5}),
        ("graph_changes", {"thread_id": "t", "checkpoints": [["a", {}]]}),
        ("graph_changes", {"thread_id": "t", "blobs": [["a"]]}),
        ("runs", {"run_id": None}),
        ("runs", {"run_id": ["x"]}),
        ("runs", {"run_id": "x", "started_at": 1e300}),
        ("runs", {"run_id": "x", "started_at": 9.3e12}),
        ("runs", {"run_id": "x", "pid": 2**64}),
        ("runs", {"run_id": "x", "pid": -(2**63) - 1}),
        ("runs", {"run_id": "x", "overrides": [1]}),
        ("stages", {"run_id": "x"}),
        ("llm_calls", {}),
        ("llm_calls", {"run_id": "x", "stage": "s", "task_id": "t", "attempt": {"a": 1}, "fork": 0}),
        ("llm_calls", {"run_id": "x", "stage": "s", "task_id": "t", "attempt": 1e40, "fork": 0}),
        ("attempts", {"run_id": "x", "stage": "s", "task_id": "t", "attempt": 1, "fork": 0, "latent": "text"}),
        ("attempts", {"run_id": "x", "stage": "s", "task_id": "t", "attempt": 1, "fork": 0, "latent": {"$b64": "?"}}),
        ("graph_writes", {"thread_id": "t", "checkpoint_ns": "", "checkpoint_id": "", "task_id": "", "idx": "a"}),
    ],
)
def test_a_record_of_another_form_is_set_aside(
    workspace: Workspace, ledger: Ledger, table: str, columns: dict[str, Any]
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
        path = writer.journal_path
        assert path is not None
        with path.open("ab") as file:
            file.write(encode_line({"s": 2, "r": [{"t": table, "r": columns}, {"t": table, "r": columns}]}))
    assert ledger.rows("SELECT count(*) AS n FROM attempts") == [{"n": 5}]
    assert {row["table_name"] for row in ledger.rows("FROM rejected")} == {table}
    assert path.name in ledger.warnings[0]


def test_a_graph_that_is_no_json_is_kept_as_text(workspace: Workspace, ledger: Ledger) -> None:
    texts = ["NaN", "{", '{"a": NaN}', '"\ud83d"', "[" * 5000]
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*(RunRecord(run_id=f"r{number}", graph=text) for number, text in enumerate(texts)))
    assert len(ledger.rows("SELECT graph FROM runs")) == len(texts)
    assert ledger.warnings == []


def test_values_that_json_cannot_hold_are_kept_as_text(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt(plan={"half \ud83d": ["\ud83d"], "n": 10**400, "m": 10**30, "f": 1e308}))
    (row,) = ledger.rows("SELECT plan FROM attempts")
    plan = json.loads(row["plan"])
    assert plan == {"half \\ud83d": ["\\ud83d"], "n": str(10**400), "m": 10**30, "f": 1e308}
    assert ledger.warnings == []


def test_a_damaged_record_of_a_run_leaves_its_earlier_ones(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(RunRecord(run_id="r", name="kept", status="started"))
        writer.append(RunRecord(run_id="r", status="done", pid=2**64))
    assert ledger.rows("SELECT name, status FROM runs") == [{"name": "kept", "status": "started"}]
    assert len(ledger.warnings) == 1


def test_integers_of_any_size_are_read_as_they_were_written() -> None:
    for number in (2**63, 2**64, -(2**63) - 1, 10**30, 12345678901234567890):
        payload = {"s": 1, "x": number, "y": 0.30000000000000004}
        assert decode_line(encode_line(payload)[:-1]) == payload


def test_a_warning_for_each_of_a_million_losses_ends_at_a_hundred(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        bad = [MetricRecord(run_id="r", stage="s", step=i, name="n", value="x", recorded_at=0.0) for i in range(300)]  # type: ignore[arg-type]
        writer.append(*bad)
    report = ledger.ingest()
    assert len(report.warnings) == 101
    assert report.warnings[-1].startswith("and 200 more")
    assert ledger.rows("SELECT count(*) AS n FROM rejected") == [{"n": 300}]


def test_equal_keys_of_texts_that_are_stored_alike_are_one_row(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt("half \ud83d", text="first"), attempt("half \\ud83d", text="second"))
    assert [record.text for record in ledger.read(AttemptRecord)] == ["first"]


def test_changes_of_a_thread_remove_what_came_before_and_keep_what_comes_after(
    workspace: Workspace, ledger: Ledger
) -> None:
    from gridloom.stores.graph_records import GraphChange

    def blob(thread: str, version: str) -> GraphBlobRecord:
        return GraphBlobRecord(
            run_id="r",
            thread_id=thread,
            checkpoint_ns="",
            channel="c",
            version=version,
            value_type="x",
            value_blob=version.encode(),
        )

    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*(blob(thread, version) for thread in "ab" for version in "12"))
        ledger.ingest()
        writer.append(
            blob("a", "3"), GraphChange(thread_id="a", blobs=[["", "c", "1"], ["", "c", "3"]]), blob("a", "1")
        )
        writer.append(GraphChange(thread_id="b"), blob("b", "9"))
    found = [(row["thread_id"], row["version"]) for row in ledger.rows("FROM graph_blobs ORDER BY ALL")]
    assert sorted(found) == [("a", "1"), ("a", "2"), ("b", "9")]


def test_a_clock_set_back_changes_nothing_of_a_rebuilt_ledger(
    workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time_ns()
    for step, status in ((0, "started"), (-(10**12), "interrupted"), (-2 * 10**12, "started"), (-3 * 10**12, "done")):
        monkeypatch.setattr(time, "time_ns", lambda now=clock + step: now)
        with LedgerWriter(workspace, "run-1") as writer:
            writer.append(RunRecord(run_id="run-1", status=status, started_at=1.0))
        live = ledger.query("FROM runs")
    assert live["status"].to_pylist() == ["done"]
    workspace.ledger_path.unlink()
    assert ledger.query("FROM runs").equals(live)


@pytest.mark.parametrize("last", ["99991231T235959.999999999", "20261121T161802.123", "20261121T161802.999"])
def test_a_new_journal_comes_after_all_that_are_there(workspace: Workspace, last: str) -> None:
    workspace.ensure(workspace.journal_dir)
    (workspace.journal_dir / f"{last}-box-1-aaaa.jsonl").touch()
    paths: list[Path] = []
    for _ in range(3):
        with LedgerWriter(workspace, "run-1") as writer:
            writer.append(call())
        paths += [writer.journal_path] if writer.journal_path else []
    names = sorted(path.name for path in workspace.journal_dir.iterdir())
    assert [path.name for path in paths] == names[1:]
