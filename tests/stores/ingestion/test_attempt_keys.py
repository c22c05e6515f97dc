"""Records of attempts that came before, in whatever journal, line or text of their key, are stored once."""

from __future__ import annotations

import random
import shutil

import duckdb
import pytest
from store_cases import attempt, call
from test_ingest_odd_lines import raw
from test_view_figures import assert_equal_views, step

from gridloom.stores import insertion
from gridloom.stores.attempt import KEY
from gridloom.stores.ingestion import attempt_keys, figures
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import CandidateRecord, Record, VerdictRecord
from gridloom.stores.schema import tables
from gridloom.stores.workspace import Workspace

TABLES = ("attempts", *figures.PARTS)


def candidate(number: int, rank: int = 0) -> CandidateRecord:
    return CandidateRecord(
        run_id="run-1",
        stage="solve",
        task_id="aaaa0001",
        attempt=number,
        test_index=0,
        rank=rank,
        source="trm",
        grid=[[rank]],
        votes=1,
        num_views=2,
    )


def verdict(number: int, verifier: str) -> VerdictRecord:
    return VerdictRecord(
        run_id="run-1", stage="solve", task_id="aaaa0001", attempt=number, verifier=verifier, score=0.5
    )


def whole(number: int) -> list[Record]:
    """An attempt and its parts, nine records."""
    steps = [step("aaaa0001", number, index, "run-1") for index in range(3)]
    verdicts = [verdict(number, "form"), verdict(number, "agreement")]
    return [attempt(number=number), call(number=number), candidate(number), candidate(number, 1), *verdicts, *steps]


def num_rows(workspace: Workspace) -> dict[str, int]:
    Ledger(workspace).ingest()
    with duckdb.connect(str(workspace.ledger_path), read_only=True) as connection:
        return {name: connection.sql(f"FROM {name}").to_arrow_table().num_rows for name in TABLES}


def rows_of(attempts: int) -> dict[str, int]:
    return dict(zip(TABLES, (attempts, attempts, 3 * attempts, 2 * attempts, 2 * attempts), strict=True))


@pytest.fixture
def shortcuts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch was found to have new keys only, without a look at the tables of parts."""
    found: list[bool] = []
    asked = attempt_keys.have_new_keys

    def noted(*arguments: object) -> bool:
        found.append(asked(*arguments))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(insertion.attempt_keys, "have_new_keys", noted)
    return found


def test_the_tables_of_attempts_and_parts_are_those_with_their_key() -> None:
    assert {name for name, table in tables().items() if table.key[: len(KEY)] == KEY} == attempt_keys.KEYED


def test_a_journal_copied_under_another_name_adds_nothing(workspace: Workspace, shortcuts: list[bool]) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        for number in range(1, 6):
            writer.append(*whole(number))
        path = writer.journal_path
    assert path is not None
    shutil.copy(path, path.with_name("2" + path.name))  # in the same batch
    assert num_rows(workspace) == rows_of(5)
    shutil.copy(path, path.with_name("3" + path.name))  # in a later one
    assert num_rows(workspace) == rows_of(5)
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*whole(6))
    assert num_rows(workspace) == rows_of(6)
    assert shortcuts == [False, False, True]
    assert_equal_views(workspace)


@pytest.mark.parametrize("part", [candidate(1), verdict(1, "form"), call(), step("aaaa0001", 1, 2, "run-1")])
def test_a_part_that_came_before_its_attempt_is_stored_once(
    workspace: Workspace, shortcuts: list[bool], part: Record
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(part)
        Ledger(workspace).ingest()
        writer.append(*whole(1))
    assert num_rows(workspace) == rows_of(1)
    assert shortcuts == [True, False]  # the attempt alone is new: that its part is not, `early_parts` says
    assert_equal_views(workspace)


@pytest.mark.parametrize("part", [candidate(1), verdict(1, "form"), call(), step("aaaa0001", 1, 2, "run-1")])
def test_a_part_twice_in_one_batch_is_stored_once(workspace: Workspace, shortcuts: list[bool], part: Record) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*whole(1), part)
        writer.append(*whole(2))
    assert num_rows(workspace) == rows_of(2)
    assert shortcuts == [False]


def test_a_key_written_in_another_way_is_the_same_key(workspace: Workspace, shortcuts: list[bool]) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*whole(1))
        path = writer.journal_path
    assert path is not None
    body = path.read_text().splitlines()[1][9:].replace('"s":1', '"s":2')
    assert '"run_id":"run-1"' in body
    with path.open("ab") as file:
        file.write(raw(body.replace('"run_id":"run-1"', '"run_id":"run-\\u0031"')))
    assert num_rows(workspace) == rows_of(1)
    assert shortcuts == [False]


def test_a_ledger_of_a_version_that_kept_fewer_early_parts_is_counted_anew(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(candidate(1), verdict(1, "form"))
        Ledger(workspace).ingest()
        with duckdb.connect(str(workspace.ledger_path)) as connection:
            connection.execute("DELETE FROM early_parts")
            connection.execute("UPDATE meta SET layout = 'of an older gridloom'")
        writer.append(*whole(1))
    assert num_rows(workspace) == rows_of(1)


@pytest.mark.parametrize("seed", range(3))
def test_records_in_any_lines_journals_and_copies_are_stored_once(workspace: Workspace, seed: int) -> None:
    rng = random.Random(seed)
    expected: dict[str, set[tuple[object, ...]]] = {name: set() for name in TABLES}
    writers = [LedgerWriter(workspace, "run-1") for _ in range(2)]
    for _ in range(40):
        records = whole(rng.randint(1, 12))
        if rng.random() < 0.5:
            records = rng.sample(records, rng.randint(1, 4)) + rng.sample(whole(rng.randint(1, 12)), rng.randint(0, 2))
        writer = rng.choice(writers)
        writer.append(*records)
        for record in records:
            expected[record.TABLE].add(tuple(getattr(record, name) for name in record.KEY))
        if rng.random() < 0.1:
            Ledger(workspace).ingest()
        if rng.random() < 0.1 and writer.journal_path is not None:
            shutil.copy(writer.journal_path, writer.journal_path.with_name(f"{rng.getrandbits(32):08x}.jsonl"))
    for writer in writers:
        writer.close()
    assert num_rows(workspace) == {name: len(keys) for name, keys in expected.items()}
    assert_equal_views(workspace)
