"""Rows of queries: nothing lost between DuckDB and Python, whatever the type, and every name once."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from store_cases import small_run

from gridloom.errors import StoreError
from gridloom.stores.answers import jsonable, read_dicts
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    workspace = Workspace(tmp_path_factory.mktemp("answers"))
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
    return Ledger(workspace)


def test_equal_names_keep_every_value(filled: Ledger) -> None:
    sql = "SELECT 1 AS a, 2 AS a, 3 AS A"
    assert filled.rows(sql) == [{"a": 1, "a_1": 2, "A_2": 3}]
    assert filled.query(sql).to_pylist() == [{"a": 1, "a_1": 2, "A_2": 3}]
    joined = "SELECT a.attempt_id, b.attempt_id FROM attempts a, attempts b WHERE a.attempt = 1 AND b.attempt = 2"
    assert all(row["attempt_id"] != row["attempt_id_1"] for row in filled.rows(joined))


BIG = 170141183460469231731687303715884105727
VALUES: dict[str, Any] = {
    "'infinity'::timestamp": "infinity",
    "'-infinity'::date": "-infinity",
    "'294247-01-10 04:00:54'::timestamp": "294247-01-10 04:00:54",
    "'0044-03-15 (BC)'::date": "0044-03-15 (BC)",
    "'290000-01-01'::timestamptz": "290000-01-01 00:00:00+00",
    "'290000-11-21 10:00:01'::timestamp_s": "290000-11-21 10:00:01",
    "'2026-11-21 10:00:01.5'::timestamp": datetime(2026, 11, 21, 10, 0, 1, 500_000),
    "'2026-11-21 10:00:01.123456789'::timestamp_ns": "2026-11-21 10:00:01.123456789",
    "'2026-11-21'::date": date(2026, 11, 21),
    "'10:00:01.5'::time": time(10, 0, 1, 500_000),
    "interval '3 months 2 days 1 second'": "3 months 2 days 00:00:01",
    "interval '-178000000 years'": "-178000000 years",
    f"{BIG}::hugeint": BIG,
    f"{2 * BIG + 1}::uhugeint": 2 * BIG + 1,
    f"[{BIG}::hugeint]": [BIG],
    f"{10**60}::varint": 10**60,
    "sum(2)": 2,
    "1.50::decimal(10,2)": Decimal("1.50"),
    "'\\x00\\xff'::blob": b"\x00\xff",
    "'6f1b2c1e-1111-2222-3333-444455556666'::uuid": "6f1b2c1e-1111-2222-3333-444455556666",
    "map {'a': 1}": {"a": 1},
    "union_value(k := 5)": {"k": 5},
    "'x'::enum('x','y')": "x",
    "'101'::bit": "101",
    "['290000-01-01'::timestamp, '2026-01-01']": ["290000-01-01 00:00:00", "2026-01-01 00:00:00"],
    "{'a': {'b': [date '2020-01-01', 'infinity']}}": {"a": {"b": ["2020-01-01", "infinity"]}},
    "{'a': interval '1 month', 'd': 0.1::double}": {"a": "1 month", "d": 0.1},
    "[interval '1 month', NULL]": ["1 month", None],
    "[1,2]::int[2]": [1, 2],
    "row(1, 2)": [1, 2],
    "NULL": None,
    "NULL::timestamp": None,
    "'[1]'::json": "[1]",
    "[[1, 2], [3, NULL]]": [[1, 2], [3, None]],
    "[[1, 2]::int[2]]": [[1, 2]],
    "{'a': [1, 2]::int[2]}": {"a": [1, 2]},
    "[{'a': [0.5::float]}]": [{"a": [0.5]}],
    "0.1::float": 0.10000000149011612,
    "['x'::enum('x','y')]": ["x"],
    "DATE '9999-12-31'": date(9999, 12, 31),
}


@pytest.mark.parametrize("sql", VALUES)
def test_a_value_of_any_type_arrives(filled: Ledger, sql: str, tmp_path: Path) -> None:
    (row,) = filled.rows(f"SELECT {sql} AS x")
    assert row["x"] == VALUES[sql]
    assert type(row["x"]) is type(VALUES[sql])
    with filled.reading() as connection:
        fetched = read_dicts(connection, f"SELECT {sql} AS x, 1 AS x", None)
        assert connection.execute("SELECT 1").fetchall() == [(1,)]  # nothing is left behind
    assert fetched == [row | {"x_1": 1}]
    assert type(fetched[0]["x"]) is type(VALUES[sql])
    json.loads(json.dumps(jsonable(row), allow_nan=False))
    pyarrow.parquet.write_table(filled.query(f"SELECT {sql} AS x"), tmp_path / "x.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "x.parquet").num_rows == 1


def test_values_without_a_form_in_json_are_text_or_numbers_that_are_equal() -> None:
    given = {"a": math.nan, "b": [math.inf, 0.5], "c": b"\x00\xff", "d": Decimal("1.50"), "e": Decimal("0." + "1" * 30)}
    assert jsonable(given) == {"a": "nan", "b": ["inf", 0.5], "c": "b'\\x00\\xff'", "d": 1.5, "e": "0." + "1" * 30}


@pytest.mark.parametrize(
    "sql",
    [
        "PIVOT attempts ON verdict USING count(*) GROUP BY task_id",
        "FROM (PIVOT attempts ON verdict USING count(*) GROUP BY task_id)",
        "/* why */ -- not\n(PIVOT attempts ON verdict USING count(*) GROUP BY task_id)",
        "WITH x AS (PIVOT attempts ON verdict USING count(*) GROUP BY task_id) FROM x",
    ],
)
def test_a_pivot_reads(filled: Ledger, sql: str) -> None:
    rows = filled.rows(sql)
    assert {*rows[0]} == {"task_id", "accepted", "rejected"}
    assert len(filled.relation(sql).fetchall()) == len(rows) == 3


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TEMP TABLE mine AS PIVOT attempts ON verdict USING count(*)",
        "CREATE TABLE mine AS PIVOT attempts ON verdict USING count(*)",
        "COPY (PIVOT attempts ON verdict USING count(*)) TO '{file}'",
        "INSERT INTO meta FROM (PIVOT attempts ON verdict USING count(*))",
        "WITH x AS (PIVOT attempts ON verdict USING count(*)) INSERT INTO meta FROM x",
        "EXPLAIN ANALYZE COPY (PIVOT attempts ON verdict USING count(*)) TO '{file}'",
        "FROM (PIVOT read_csv('/etc/passwd') ON column0)",
    ],
)
def test_a_pivot_that_does_more_than_read_is_refused(filled: Ledger, sql: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        filled.query(sql.format(file=tmp_path / "out.csv"))
    with pytest.raises(StoreError):
        filled.answer(sql.format(file=tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()
    assert "mine" not in {row["name"] for row in filled.rows("SHOW TABLES")}
