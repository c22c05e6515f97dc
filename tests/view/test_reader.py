"""Bounds of the viewer's queries, and the connection that is kept between pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import attempt, small_run
from view_support import fill

from gridloom.errors import StoreError
from gridloom.stores.keeping.runs import remove_runs
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace
from gridloom.view.held import Memo
from gridloom.view.reader import Reader, Session


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(fill(Workspace(tmp_path / "gridloom")))
    yield made
    made.close()


def test_a_query_is_bounded_in_time_and_rows(reader: Reader) -> None:
    with reader.session() as session:
        with pytest.raises(StoreError, match=r"stopped after 0\.1 s"):
            session.query("select count(*) from range(100000000000)", seconds=0.1)
        found = session.query("select range as n from range(5000)", most=10)
        assert (len(found.rows), found.is_cut, found.names) == (10, True, ["n"])
        assert session.query("select 1 as a, 2 as a").names == ["a", "a_1"]


def test_settings_cannot_be_changed_and_files_not_reached(reader: Reader) -> None:
    with reader.session() as session:
        for sql in ("select * from '/etc/passwd'", "from glob('/etc/*')", "from read_text('/etc/passwd')"):
            with pytest.raises(StoreError):
                session.query(sql)
        for name, most in (("memory_limit", "953"), ("threads", "2")):
            assert most in str(session.query(f"select current_setting('{name}')").rows[0][0])


def test_pages_share_a_connection_until_something_new_is_recorded(reader: Reader) -> None:
    held = reader._held
    with reader.session() as session:
        first = held._kept
        assert session.query("select count(*) from attempts").rows == [(11,)]
    with reader.session():
        assert held._kept is first
    with LedgerWriter(reader.workspace, "run-1") as writer:
        writer.append(attempt("dddd0004", 1))
    with reader.session() as session:
        assert held._kept is not first
        assert session.query("select count(*) from attempts").rows == [(12,)]


def test_a_writer_waits_for_the_page_that_is_being_made_and_no_longer(reader: Reader) -> None:
    done = threading.Event()

    def ingest() -> None:
        Ledger(reader.workspace, timeout_s=20.0).ingest()
        done.set()

    with reader.session() as session:
        with LedgerWriter(reader.workspace, "run-1") as writer:
            writer.append(attempt("dddd0004", 1))
        later = threading.Thread(target=ingest)
        later.start()
        assert not done.wait(0.2)
        assert session.query("select count(*) from attempts").rows == [(11,)]
    later.join(timeout=20)
    assert done.is_set()


def test_a_reader_with_the_same_bounds_reads_beside_a_page(reader: Reader) -> None:
    """As the playback of an attempt does while the connection of its page is kept."""
    from gridloom.view.reader import reading_ledger

    with reader.session():
        ledger = reading_ledger(reader.workspace)
        assert ledger.attempt("aaaa0001.1", "run-1")["attempt"] == 1
        assert ledger.warnings == []


def test_what_was_computed_once_holds_until_something_is_recorded(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "gridloom")
    reader, calls = Reader(workspace), list[str]()

    def read(session: Session) -> int:
        calls.append("read")
        return len(session.rows("from attempts"))

    def count() -> int:
        with reader.session() as session:
            return session.once(("attempts",), lambda: read(session))

    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run("run-1"))
        assert (count(), count(), len(calls)) == (5, 5, 1)
        writer.append(attempt("dddd0004", 1))
        assert (count(), len(calls)) == (6, 2)
    reader.close()


def test_results_are_kept_while_nothing_changes_and_not_longer(reader: Reader) -> None:
    """Closing the connection, as after some seconds without a page, forgets nothing; a record or a removal does."""
    made: list[int] = []

    def asked() -> int:
        with reader.session() as session:
            return session.once(("n",), lambda: made.append(0) or len(made))  # type: ignore[func-returns-value]

    assert [asked(), asked()] == [1, 1]
    reader.close()
    assert asked() == 1
    with LedgerWriter(reader.workspace, "run-1") as writer:
        writer.append(attempt("dddd0004", 1))
    assert [asked(), asked()] == [2, 2]
    reader.close()
    remove_runs(reader.workspace, ["run-2"])
    assert asked() == 3


def test_only_the_last_results_are_kept() -> None:
    memo = Memo()
    for number in range(3 * Memo.MOST):
        assert memo.once((number,), lambda n=number: n) == number  # type: ignore[misc]
        assert memo.once((0,), lambda: -1) == 0  # asked again and again, it stays
    assert memo.once((1,), lambda: -1) == -1
