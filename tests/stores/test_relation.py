"""Answers as relations: usable after the ledger is closed, with the ledger's types, whatever the columns are called."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import attempt, scores, small_run

from gridloom.errors import StoreError
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.relation import distinct
from gridloom.stores.workspace import Workspace


def recorded(workspace: Workspace) -> Ledger:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run(), *scores())
    return Ledger(workspace)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A small run, for tests that only read."""
    return recorded(Workspace(tmp_path_factory.mktemp("relation")))


TYPES = {
    "TINYINT": "-1",
    "HUGEINT": "170141183460469231731687303715884105727",
    "UHUGEINT": "340282366920938463463374607431768211455",
    "DOUBLE": "'nan'",
    "DECIMAL(4,1)": "1.5",
    "BOOLEAN": "true",
    "VARCHAR": "'é\"'",
    "BLOB": "'a'",
    "BIT": "'101'",
    "UUID": "'6f1b2c1e-1111-2222-3333-444455556666'",
    "JSON": "'{\"a\": [1]}'",
    "DATE": "'2026-11-21'",
    "TIME": "'10:00:01.5'",
    "TIME WITH TIME ZONE": "'10:00:01.5+02'",
    "TIMESTAMP": "'2026-11-21 10:00:01.5'",
    "TIMESTAMP_NS": "'2026-11-21 10:00:01.123456789'",
    "TIMESTAMP WITH TIME ZONE": "'2026-11-21 10:00:01.5+02'",
    "INTERVAL": "'3 months 2 days'",
    "ENUM('x', 'y')": "'y'",
    "INTEGER[][]": "[[1, 2], [3]]",
    "INTEGER[2]": "[1, 2]",
    "MAP(VARCHAR, UUID)": "map {'k': '6f1b2c1e-1111-2222-3333-444455556666'}",
    'STRUCT("a b" INTEGER, c JSON)': "{'a b': 1, 'c': '[2]'}",
}


@pytest.mark.parametrize("name", TYPES)
def test_type_and_value_of_a_column_are_kept(filled: Ledger, name: str) -> None:
    """The text of the value is made in the ledger and in memory: both write the same."""
    sql = f"SELECT CAST({TYPES[name]} AS {name}) AS x, CAST(x AS VARCHAR) AS shown, NULL::{name} AS missing"
    relation = filled.relation(sql)
    assert [str(found) for found in relation.types] == [name, "VARCHAR", name]
    now, before, missing = relation.project("CAST(x AS VARCHAR), shown, missing IS NULL").fetchall()[0]
    assert now == before
    assert missing


def test_a_view_of_the_ledger_has_its_types_and_rows(filled: Ledger) -> None:
    relation = filled.relation("FROM v_attempts ORDER BY attempt_id DESC")
    assert (
        dict(zip(relation.columns, map(str, relation.types), strict=True)).items()
        >= {
            "attempt_id": "VARCHAR",
            "started_at": "TIMESTAMP",
            "solved": "BOOLEAN",
        }.items()
    )
    assert [row[0] for row in relation.project("attempt_id").fetchall()] == [
        row["attempt_id"] for row in filled.rows("FROM v_attempts ORDER BY attempt_id DESC")
    ]


def test_a_relation_outlives_its_ledger_and_lets_others_write(workspace: Workspace) -> None:
    ledger = recorded(workspace)
    relation = ledger.relation("FROM attempts")
    before = relation.aggregate("count(*)").fetchall()[0][0]
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt("dddd0004", 1))
    assert Ledger(workspace, timeout_s=0.5).query("FROM attempts").num_rows == before + 1
    workspace.ledger_path.unlink()
    del ledger
    gc.collect()
    assert relation.aggregate("count(*)").fetchall() == [(before,)]
    assert relation.filter("verdict = 'rejected'").to_arrow_table().num_rows <= before


def test_equal_names_are_numbered(filled: Ledger) -> None:
    relation = filled.relation('SELECT 1 AS a, 2 AS A, 3 AS a, 4 AS a_1, 5 AS "q"""')
    assert relation.columns == ["a", "A_2", "a_3", "a_1", 'q"']
    assert relation.fetchall() == [(1, 2, 3, 4, 5)]


@given(st.lists(st.sampled_from(["a", "A", "a_1", "A_1", "a_2", "b"]), max_size=8))
def test_numbered_names_are_all_different_and_keep_the_first(names: list[str]) -> None:
    found = distinct(names)
    assert len({name.casefold() for name in found}) == len(names)
    firsts = {name.casefold(): name for name in reversed(names)}
    assert set(firsts.values()) <= set(found)


def test_parameters_and_statements_that_are_no_select(filled: Ledger) -> None:
    assert filled.relation("SELECT ? + 1 AS x", [41]).fetchall() == [(42,)]
    assert filled.relation("SELECT $a AS x", {"a": 1}).fetchall() == [(1,)]
    assert filled.relation("EXPLAIN FROM runs").columns == ["explain_key", "explain_value"]
    assert "runs" in {row[0] for row in filled.relation("SHOW TABLES").fetchall()}


@pytest.mark.parametrize("sql", ["DROP TABLE runs", "SELECT 1; SELECT 2", "FROM nowhere", "FROM 'file.csv'"])
def test_what_a_query_may_not_do_a_relation_may_not_either(filled: Ledger, sql: str) -> None:
    with pytest.raises(StoreError):
        filled.relation(sql)


def test_attempts_by_their_score(filled: Ledger) -> None:
    every = filled.attempts("run-1")
    assert {row["solved"] for row in every} >= {True, False}
    for wanted in (True, False):
        found = filled.attempts("run-1", solved=wanted)
        assert found == [row for row in every if row["solved"] is wanted]


def test_an_attempt_of_one_stage_where_two_have_its_id(workspace: Workspace) -> None:
    ledger = recorded(workspace)
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt("aaaa0001", 1, stage="other", text="of the other stage"))
    assert ledger.attempt("aaaa0001.1", "run-1", "other")["text"] == "of the other stage"
    assert ledger.attempt("aaaa0001.1", "run-1", "solve")["stage"] == "solve"
