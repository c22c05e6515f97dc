"""Queries: read-only whatever is tried, mistakes answered with names that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from store_cases import small_run

from gridloom.errors import StoreError
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace


@pytest.fixture
def filled(workspace: Workspace, ledger: Ledger) -> Ledger:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
    return ledger


def test_a_query_before_anything_is_recorded_says_what_to_run(workspace: Workspace, ledger: Ledger) -> None:
    with pytest.raises(StoreError) as caught:
        ledger.query("FROM runs")
    assert caught.value.message == f"nothing is recorded in {workspace.root} yet"
    assert "gridloom run" in caught.value.remedy
    assert not workspace.root.exists()


def test_reading_statements_answer(filled: Ledger) -> None:
    assert filled.query("SELECT count(*) AS n FROM attempts").to_pydict() == {"n": [5]}
    assert filled.query("FROM runs SELECT run_id;").to_pydict() == {"run_id": ["run-1"]}
    assert filled.query("WITH x AS (SELECT 1 AS a) FROM x").num_rows == 1
    assert {"v_attempts", "runs"} <= {row["name"] for row in filled.rows("SHOW TABLES")}
    assert filled.query("DESCRIBE attempts").num_rows > 10
    assert filled.query("PRAGMA table_info('runs')").num_rows > 5
    assert filled.query("EXPLAIN FROM runs").num_rows == 1


def test_parameters_go_by_position_or_by_name(filled: Ledger) -> None:
    assert filled.rows("SELECT ? + 1 AS x", [41]) == [{"x": 42}]
    assert filled.rows("SELECT $a AS x", {"a": "'; DROP TABLE runs"}) == [{"x": "'; DROP TABLE runs"}]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO meta VALUES (1, 'x')",
        "UPDATE runs SET name = 'x'",
        "DELETE FROM runs",
        "DROP TABLE runs",
        "CREATE TABLE mine (a INT)",
        "CREATE TEMP TABLE mine (a INT)",
        "ALTER TABLE runs ADD COLUMN a INT",
        "COPY runs TO 'runs.csv'",
        "EXPORT DATABASE 'folder'",
        "ATTACH 'other.duckdb'",
        "DETACH ledger",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1",
        "RESET threads",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE DELETE FROM runs",
    ],
)
def test_a_statement_that_does_not_read_is_refused(filled: Ledger, sql: str) -> None:
    with pytest.raises(StoreError, match="queries of the ledger are read-only"):
        filled.query(sql)
    assert len(filled.rows("FROM runs")) == 1


def test_a_deletion_hidden_in_a_select_is_refused(filled: Ledger) -> None:
    with pytest.raises(StoreError):  # DuckDB 1.5 cannot parse it, 2.0 refuses it for the read-only file
        filled.query("WITH gone AS (DELETE FROM runs RETURNING *) FROM gone")
    assert len(filled.rows("FROM runs")) == 1


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1; SELECT 2", "", "  -- nothing", "FROM runs; DROP TABLE runs"],
    ids=["two", "empty", "comment", "hidden"],
)
def test_a_query_is_one_statement(filled: Ledger, sql: str) -> None:
    with pytest.raises(StoreError, match="one SQL statement"):
        filled.query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_csv('/etc/passwd')",
        "FROM '/etc/passwd.csv'",
        "SELECT * FROM read_text('{home}/secret')",
        "SELECT * FROM glob('/etc/*')",
    ],
)
def test_files_are_out_of_reach(filled: Ledger, workspace: Workspace, sql: str) -> None:
    (workspace.root / "secret").write_text("secret")
    with pytest.raises(StoreError) as caught:
        filled.query(sql.format(home=workspace.root))
    assert "cannot reach files" in caught.value.message
    assert "--csv" in caught.value.remedy


def test_variables_of_the_program_are_out_of_reach(filled: Ledger) -> None:
    import pyarrow as pa

    secret_table = pa.table({"a": [1]})
    assert secret_table.num_rows == 1
    with pytest.raises(StoreError, match="secret_table does not exist"):
        filled.query("FROM secret_table")


def test_an_unknown_table_is_answered_with_the_nearest_names(filled: Ledger) -> None:
    with pytest.raises(StoreError, match="v_atempts does not exist") as caught:
        filled.query("FROM v_atempts")
    assert caught.value.remedy.startswith("did you mean v_attempts")
    with pytest.raises(StoreError) as caught:
        filled.query("FROM zzz")
    assert "v_failed" in caught.value.remedy


def test_an_unknown_column_keeps_the_candidates_of_duckdb(filled: Ledger) -> None:
    with pytest.raises(StoreError, match='column "verdikt" not found') as caught:
        filled.query("SELECT verdikt FROM v_attempts")
    assert "Candidate bindings" in caught.value.message
    assert '"verdict"' in caught.value.message


def test_a_syntax_error_keeps_the_place(filled: Ledger) -> None:
    with pytest.raises(StoreError, match=r"syntax error at or near") as caught:
        filled.query("SELEC 1")
    assert "LINE 1" in caught.value.message


def test_importing_the_stores_loads_neither_duckdb_nor_pyarrow() -> None:
    names = [path.stem for path in (Path(__file__).parents[2] / "gridloom" / "stores").glob("*.py")]
    light = sorted({*names} - {"__init__", "checkpointer", "graph_threads"})
    code = "import sys\n" + "\n".join(f"import gridloom.stores.{name}" for name in light)
    code += "\nprint([name for name in ('duckdb', 'pyarrow', 'langgraph', 'numpy', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
