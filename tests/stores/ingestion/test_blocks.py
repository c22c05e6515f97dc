"""Blocks of lines: what Arrow reads equals what is read line by line, value by value, whatever stands in the lines."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from big_ledger import write_journals
from store_cases import attempt, call, small_run
from test_ingest_odd_lines import LINES, raw

from gridloom.stores import ingest
from gridloom.stores.ingestion.blocks import read_block
from gridloom.stores.journal import as_columns, encode_line, whole_lines
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import MetricRecord
from gridloom.stores.workspace import Workspace

METRIC = MetricRecord(run_id="r", stage="s", step=1, name="n", value=0.5, recorded_at=1.0)
ODD_VALUES = (
    None,
    True,
    -1,
    1.5,
    256,
    2**31,
    2**63,
    10**400,
    1e-7,
    float("nan"),
    float("inf"),
    "5",
    "half \ud83d",
    "\u2192 \x00",
    '}},{"t":"',
    [],
    [[]],
    [[300]],
    {},
    {"$b64": "AAE="},
    {"a": {"b": [{"t": "runs", "r": {}}, {"t": "x"}]}},
    9.3e12,
)


def stored(folder: Path) -> dict[str, Any]:
    """Every row of every table that holds what was recorded, and the warnings."""
    ledger = Ledger(Workspace(folder))
    ledger.ingest()
    with duckdb.connect(str(ledger.workspace.ledger_path), read_only=True) as connection:
        names = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        kept: dict[str, Any] = {}
        for name in sorted({*names} - {"meta"}):
            columns = "* EXCLUDE (ingested_at)" if name == "journals" else "*"
            columns = "* EXCLUDE (rejected_at)" if name == "rejected" else columns
            kept[name] = str(connection.execute(f"SELECT {columns} FROM {name} ORDER BY ALL").fetchall())
    return kept | {"warnings": [text.replace(str(folder), "") for text in ledger.warnings]}


def assert_equal_to_line_by_line(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of blocks that were read as blocks."""
    counts: list[bool] = []

    def counted(lines: list[bytes], next_sequence: int) -> Any:
        block = read_block(lines, next_sequence)
        counts.append(block is not None)
        return block

    copied = tmp_path / "copied"
    shutil.copytree(workspace.root, copied)
    monkeypatch.setattr(ingest, "read_block", counted)
    as_blocks = stored(workspace.root)
    monkeypatch.setattr(ingest, "read_block", lambda lines, next_sequence: None)
    assert stored(copied) == as_blocks
    return sum(counts)


def test_lines_as_gridloom_writes_them_are_read_as_blocks(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_journals(workspace.root, 60, 3)
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
        writer.append(attempt(text="half \u2192", number=7), call(number=7))
    assert assert_equal_to_line_by_line(workspace, tmp_path, monkeypatch) == 2  # of each journal all but its header


def test_values_of_any_kind_are_stored_as_line_by_line(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "BLOCK_BYTES", 1)  # a line a block, so that one does not decide for the others
    rng = random.Random(4)
    rows = {record.TABLE: as_columns(record) for record in (*small_run(), call(), METRIC) if record.TABLE != "runs"}
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
        path = writer.journal_path
    assert path is not None
    with path.open("ab") as file:
        for sequence in range(2, 260):
            table, columns = rng.choice([*rows.items()])
            changed = columns | {rng.choice([*columns]): rng.choice(ODD_VALUES)}
            file.write(encode_line({"s": sequence, "r": [{"t": table, "r": changed}]}))
    assert assert_equal_to_line_by_line(workspace, tmp_path, monkeypatch) > 20


PIECES = [
    '{"s":2,"r":[{"t":"llm_calls","r":{"run_id":"x}},{\\"t\\":\\"y"}}]}',
    '{"s":2,"r":[{"t":"stages","r":{"run_id":"r","stage":"s","notes":{"a":[{"b":{}},{"t":"x","r":{}}]}}}]}',
    '{"s":2,"r":[{"t":"metrics","r":{"run_id":"r"}{"run_id":"r"}}]}',
    '{"s":2,"r":[{"t":"metrics","r":{"run_id":"a","run_id":"b"}}]}',
    '{"s":2,"r":[{"t":"metrics","r":{},"z":1}}]}',
    '{"s":2,"r":[{"t":"metrics","r":{}}},{"t":"metrics","r":{}}]}',
    '{"s":2,"r":[{"t":"metrics"}]}',
    '{"s":2,"r":[{"t":"runs","r":[{"a":1}}]}',
    '{"s":2,"r":[{"t":"stages","r":{"run_id":"r","stage":"s"}},{"t":"stages","r":5}}]}',
    '{"s":02,"r":[{"t":"runs","r":{"run_id":"r"}}]}',
    '{"s":3,"r":[{"t":"runs","r":{"run_id":"r"}}]}',
    '{"s":1,"r":[{"t":"runs","r":{"run_id":"r"}}]}',
    # as many objects as records where the pieces are joined, none of them a record
    '{"s":2,"r":[{"t":"estimates","r":{"run_id":"a"},{"run_id":"b"}},{"t":"estimates","r":{"x":[{}},'
    '{"t":"estimates","r":{"y":1}]}}]}',
    *LINES,
]


def test_lines_of_another_form_are_never_taken_for_others(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, line in enumerate(PIECES):
        with LedgerWriter(workspace, f"run-{number}") as writer:
            writer.append(METRIC)
            path = writer.journal_path
            assert path is not None
            with path.open("ab") as file:
                file.write(raw(line))
            writer.append(call(number=number, run_id=f"run-{number}"))
    assert_equal_to_line_by_line(workspace, tmp_path, monkeypatch)


def test_text_that_is_no_utf8_and_changed_bytes_are_damage(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
        writer.append(call(number=2))
        path = writer.journal_path
    assert path is not None
    header = whole_lines(path, 0, 1)
    lines = whole_lines(path, len(header[0]), 1 << 20)
    assert len(header) == 1
    block = read_block(lines, 1)
    assert block is not None
    assert block.arrow["llm_calls"].num_rows == 2
    assert read_block(lines, 2) is None
    assert read_block([lines[0].replace(b"smollm2", b"smollm3"), lines[1]], 1) is None
    assert read_block([raw_bytes(lines[0][9:-1].replace(b"smollm2", b"smoll\xff2"))], 1) is None


def raw_bytes(body: bytes) -> bytes:
    import zlib

    return b"%08x %b\n" % (zlib.crc32(body), body)
