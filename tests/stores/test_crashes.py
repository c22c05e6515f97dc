"""Crashes and company: real processes killed with SIGKILL, writers and readers at once, files held by others."""

from __future__ import annotations

import random
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from big_ledger import write_journals
from store_cases import attempt, call, finish, small_run, start

from gridloom.errors import StoreError
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord
from gridloom.stores.workspace import Workspace

APPEND_FOR_EVER = """
with LedgerWriter(workspace, 'run-1') as writer:
    for number in range({first}, 100_000):
        writer.append(attempt(number=number), call(number=number))
        print(number, flush=True)
"""
APPEND_SLOWLY = """
with LedgerWriter(workspace, 'run-1') as writer:
    for number in range(1, 100_000):
        writer.append(attempt(number=number))
        time.sleep(0.005)
        if number == 1:
            print(number, flush=True)
"""
COUNTS = "count(*) AS n, count(DISTINCT attempt) AS d"
INGEST_FOR_EVER = """
import gridloom.stores.ingest as ingest
ingest.BATCH_BYTES = 2_000
print('on', flush=True)
while True:
    Ledger(workspace).ingest()
"""


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def kill(process: subprocess.Popen[str]) -> list[str]:
    """Kill a process with SIGKILL; return the whole lines that it had printed and nobody had read."""
    process.kill()
    assert process.stdout is not None
    out = process.stdout.read()  # `communicate` passes over the lines that came with the first one
    process.wait()
    return [line for line in out.splitlines(keepends=True) if line.endswith("\n")]


def test_a_writer_killed_again_and_again_loses_nothing_it_acknowledged_and_repeats_nothing(
    workspace: Workspace, ledger: Ledger
) -> None:
    first = 1
    for seed in range(3):
        process = start(workspace.root, APPEND_FOR_EVER.format(first=first))
        acknowledged = int(read_line(process))
        time.sleep(random.Random(seed).uniform(0.01, 0.1))
        acknowledged = int((kill(process) or [str(acknowledged)])[-1])
        for _ in range(2):
            (row,) = ledger.rows(f"SELECT {COUNTS}, max(attempt) AS last FROM attempts")
            assert row["n"] == row["d"] == row["last"]
            assert acknowledged <= row["last"] <= acknowledged + 1  # the write in flight may have been whole
        # records of one append stay together
        assert ledger.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": row["n"]}]
        first = row["last"] + 1
    assert first > 20
    assert ledger.warnings == []


def test_an_ingestion_killed_at_any_instant_repeats_and_loses_nothing(workspace: Workspace, ledger: Ledger) -> None:
    total = 0
    with LedgerWriter(workspace, "run-1") as writer:
        for seed in range(5):
            for _ in range(60):
                total += 1
                writer.append(attempt(number=total), call(number=total))
            process = start(workspace.root, INGEST_FOR_EVER)
            assert read_line(process) == "on\n"
            time.sleep(random.Random(seed).uniform(0.0, 0.15))
            kill(process)
    (row,) = ledger.rows(f"SELECT {COUNTS} FROM attempts")
    assert row == {"n": total, "d": total}
    assert ledger.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": total}]
    assert len(ledger.read(AttemptRecord)) == total


def test_readers_answer_while_a_writer_writes_and_other_readers_read(workspace: Workspace) -> None:
    writer = start(workspace.root, APPEND_SLOWLY)
    assert read_line(writer) == "1\n"
    ask = """
ledger, seen = Ledger(workspace), []
for _ in range(5):
    seen.append(ledger.rows('SELECT count(*) AS n, max(attempt) AS last FROM v_attempts')[0])
assert ledger.warnings == []
assert all(row['n'] == row['last'] for row in seen), seen
counts = [row['n'] for row in seen]
assert counts == sorted(counts), counts
assert counts[-1] > counts[0], counts
print('ok')
"""
    readers = [start(workspace.root, ask) for _ in range(2)]
    outputs = [finish(reader) for reader in readers]
    assert writer.poll() is None
    kill(writer)
    assert outputs == ["ok\n", "ok\n"]


def test_readers_of_one_process_answer_in_threads(workspace: Workspace, ledger: Ledger) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())

        def ask(number: int) -> int:
            writer.append(call("dddd0004", number + 1))
            return int(ledger.rows("SELECT count(*) AS n FROM attempts")[0]["n"])

        with ThreadPoolExecutor(4) as pool:
            assert [*pool.map(ask, range(12))] == [5] * 12
    assert ledger.rows("SELECT count(*) AS n FROM llm_calls WHERE task_id = 'dddd0004'") == [{"n": 12}]


HOLD = """
import duckdb
connection = duckdb.connect(str(workspace.ledger_path){mode})
print(os.getpid(), flush=True)
time.sleep({seconds})
connection.close()
"""


@pytest.mark.parametrize("mode", ["", ", read_only=True"], ids=["read-write", "read-only"])
def test_a_foreign_program_that_holds_the_file_is_named_and_answers_come_from_a_copy(
    workspace: Workspace, mode: str
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
        Ledger(workspace).ingest()
        writer.append(call(number=2))
    process = start(workspace.root, HOLD.format(seconds=60, mode=mode))
    pid = read_line(process).strip()
    ledger = Ledger(workspace, timeout_s=0.2)
    with pytest.raises(StoreError, match=rf"held by process {pid}") as caught:
        ledger.ingest()
    assert "close the program" in caught.value.remedy
    assert f"held by process {pid}" in ledger.ingest_if_free()
    before = workspace.ledger_path.read_bytes()
    assert ledger.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": 2}]
    assert "answered from a copy" in ledger.warnings[-1]
    assert workspace.ledger_path.read_bytes() == before
    kill(process)
    after = Ledger(workspace)
    assert after.ingest_if_free() == ""
    assert after.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": 2}]
    assert after.warnings == []


READ_FOR_EVER = """
ledger = Ledger(workspace)
print('on', flush=True)
while True:
    ledger.rows('FROM runs')
"""


def test_readers_that_never_stop_do_not_keep_a_writer_out(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
        Ledger(workspace).ingest()
        readers = [start(workspace.root, READ_FOR_EVER) for _ in range(4)]
        for reader in readers:
            read_line(reader)
        for number in range(10, 13):
            writer.append(call(number=number))
            assert Ledger(workspace).ingest_if_free() == ""
        for reader in readers:
            assert reader.poll() is None
            kill(reader)
    assert Ledger(workspace).rows("SELECT count(*) AS n FROM llm_calls WHERE attempt >= 10") == [{"n": 3}]


def test_a_long_ingestion_gives_way_after_each_transaction(
    workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gridloom.stores.ingest as ingest
    from gridloom.stores.connect import HeldLock

    monkeypatch.setattr(ingest, "BATCH_BYTES", 1)
    with LedgerWriter(workspace, "run-1") as writer:
        for number in range(1, 5):
            writer.append(call(number=number))
    asked: list[int] = []

    def is_wanted(lock: HeldLock) -> bool:
        asked.append(1)
        return True

    monkeypatch.setattr(HeldLock, "is_wanted", is_wanted)
    report = ledger.ingest()
    assert (report.num_records, len(asked)) == (4, 5)  # the header's line is one of five
    assert ledger.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": 4}]


def test_a_lock_is_wanted_while_another_waits_for_it(workspace: Workspace) -> None:
    from gridloom.stores.connect import ledger_lock

    workspace.ensure()
    with ledger_lock(workspace.lock_path, exclusive=True, timeout_s=1) as lock:
        assert not lock.is_wanted()
        waiter = start(
            workspace.root,
            """
from gridloom.stores.connect import ledger_lock
with ledger_lock(workspace.lock_path, exclusive=False, timeout_s=60):
    print('had', flush=True)
""",
        )
        deadline = time.monotonic() + 60
        while not lock.is_wanted():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert finish(waiter) == "had\n"


def test_an_interrupt_during_ingestion_is_an_interrupt(
    workspace: Workspace, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gridloom.stores.ingest as ingest

    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())

    def interrupted(*_: object) -> None:
        raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "insert_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ledger.ingest()
    assert ledger.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": 1}]


def test_a_foreign_program_that_lets_go_in_time_is_waited_for(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
        Ledger(workspace).ingest()
        process = start(workspace.root, HOLD.format(seconds=0.5, mode=""))
        read_line(process)
        writer.append(call(number=2))
        assert Ledger(workspace, timeout_s=30).rows("SELECT count(*) AS n FROM llm_calls") == [{"n": 2}]
    finish(process)


def test_a_gridloom_process_that_holds_the_lock_is_named(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
    process = start(
        workspace.root,
        """
from gridloom.stores.connect import ledger_lock
with ledger_lock(workspace.lock_path, exclusive=True, timeout_s=1):
    print(os.getpid(), flush=True)
    time.sleep(60)
""",
    )
    pid = read_line(process).strip()
    with pytest.raises(StoreError, match=f"is busy: process {pid}"):
        Ledger(workspace, timeout_s=0.2).ingest()
    kill(process)
    assert Ledger(workspace, timeout_s=5).ingest().num_records == 1


def test_a_read_only_workspace_answers_with_what_was_ingested_and_says_so(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call(number=1))
        Ledger(workspace).ingest()
        writer.append(call(number=2))
    out = finish(
        start(
            workspace.root,
            """
import shutil, tempfile, duckdb
from gridloom.errors import StoreError
duckdb.sql('SELECT 1').to_arrow_table().to_pylist()  # imports what another user may not read
if os.geteuid() == 0:
    folder = Path(tempfile.mkdtemp(dir='/tmp'))
    shutil.copytree(workspace.root, folder / 'home')
    os.chmod(folder, 0o755)
    workspace = Workspace(folder / 'home')
    os.setegid(65534), os.seteuid(65534)
else:
    for path in (workspace.root, *workspace.root.iterdir()):
        os.chmod(path, 0o555 if path.is_dir() else 0o444)
ledger = Ledger(workspace)
print(ledger.rows('SELECT count(*) AS n FROM llm_calls')[0]['n'])
print(*ledger.warnings)
try:
    ledger.ingest()
except StoreError as error:
    print(error.message)
if os.getuid() == 0:
    os.seteuid(0)
    shutil.rmtree(folder)
""",
        )
    )
    workspace.root.chmod(0o755)
    lines = out.splitlines()
    assert lines[0] == "1"
    assert "is read-only here" in lines[1]
    assert "permission denied (" in lines[2]


def test_a_read_only_ledger_of_an_earlier_version_answers_from_a_copy_with_every_view(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call(number=1))
        Ledger(workspace).ingest()
        writer.append(call(number=2))
    with duckdb.connect(str(workspace.ledger_path)) as connection:
        connection.execute("DROP VIEW v_tasks; DROP TABLE task_figures; UPDATE meta SET layout = 'earlier'")
    before = workspace.ledger_path.read_bytes()
    monkeypatch.setattr("gridloom.stores.ledger.is_writable", lambda path: False)  # root writes into every folder
    ledger = Ledger(workspace)
    assert ledger.rows("SELECT count(*) AS n FROM llm_calls") == [{"n": 2}]
    assert ledger.rows("SELECT count(*) AS n FROM v_tasks") == [{"n": 0}]
    assert "of an earlier version: answered from a copy" in ledger.warnings[0]
    assert workspace.ledger_path.read_bytes() == before


def test_a_ledger_of_a_newer_version_is_refused_and_untouched(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
    ledger.ingest()
    with duckdb.connect(str(workspace.ledger_path)) as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    before = workspace.ledger_path.read_bytes()
    for ask in (ledger.ingest, lambda: ledger.query("FROM runs")):
        with pytest.raises(StoreError, match="has schema version 99") as caught:
            ask()
        assert "upgrade gridloom" in caught.value.remedy
    assert workspace.ledger_path.read_bytes() == before


def test_a_ledger_without_the_newest_columns_and_views_gains_them_and_keeps_its_rows(
    workspace: Workspace, ledger: Ledger
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
    ledger.ingest()
    with duckdb.connect(str(workspace.ledger_path)) as connection:
        for view in ("v_failed", "v_leaderboard", "v_tasks", "v_attempts"):
            connection.execute(f"DROP VIEW {view}")
        connection.execute("ALTER TABLE attempts DROP COLUMN timings")
        connection.execute("DROP TABLE replays")
        connection.execute("UPDATE meta SET layout = 'of an older gridloom'")
    assert len(ledger.attempts()) == 5
    assert ledger.rows("SELECT DISTINCT timings FROM attempts") == [{"timings": None}]
    assert ledger.rows("FROM replays") == []


@pytest.mark.parametrize("share", [0.2, 0.4])  # the last blocks of the file may be free
def test_a_truncated_ledger_file_is_named_with_the_remedy(workspace: Workspace, ledger: Ledger, share: float) -> None:
    noise = random.Random(0)
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run(), *(attempt(number=n, latent=noise.randbytes(300_000)) for n in range(10, 20)))
    ledger.ingest()
    whole = workspace.ledger_path.read_bytes()
    workspace.ledger_path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StoreError) as caught:
        ledger.query("FROM attempts")
    assert str(workspace.ledger_path) in caught.value.message
    assert "mv ledger.duckdb ledger.duckdb.damaged" in caught.value.remedy
    for ask in (ledger.runs, ledger.attempts, lambda: ledger.attempt("aaaa0001.1"), ledger.ingest):
        with suppress(StoreError):  # or an answer from the part that is left
            ask()
    workspace.ledger_path.rename(workspace.ledger_path.with_suffix(".damaged"))
    assert len(ledger.attempts()) == 15


def test_a_damaged_block_is_named_by_the_question_that_reads_it(workspace: Workspace, ledger: Ledger) -> None:
    """Blocks of 256 KiB behind three headers of 4 KiB each have a checksum, which is looked at when one is read."""
    write_journals(workspace.root, 60, 1)
    ledger.ingest()
    name = str(ledger.rows("SELECT name FROM v_attempts LIMIT 1")[0]["name"])
    whole, errors = workspace.ledger_path.read_bytes(), []
    for at in range(3 * 4096, len(whole), 256 * 1024):
        workspace.ledger_path.write_bytes(whole[:at] + bytes(4096) + whole[at + 4096 :])
        try:
            ledger.attempt(name)
        except StoreError as error:
            errors.append((error.message, error.remedy))
    assert len(errors) > 3
    assert all("Corrupt database file" in message for message, _ in errors)
    assert all("mv ledger.duckdb ledger.duckdb.damaged" in remedy for _, remedy in errors)


@pytest.mark.parametrize("content", [b"not a database at all " * 500, b""], ids=["text", "empty"])
def test_a_damaged_ledger_file_is_named_and_moving_it_away_brings_everything_back(
    workspace: Workspace, ledger: Ledger, content: bytes
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
    ledger.ingest()
    workspace.ledger_path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        ledger.query("FROM runs")
    assert str(workspace.ledger_path) in caught.value.message
    assert "move it away" in caught.value.remedy
    workspace.ledger_path.rename(workspace.ledger_path.with_suffix(".damaged"))
    assert len(ledger.attempts()) == 5


def test_a_duckdb_file_that_is_no_ledger_is_not_touched(workspace: Workspace, ledger: Ledger) -> None:
    workspace.ensure()
    with duckdb.connect(str(workspace.ledger_path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 42 AS answer")
    with pytest.raises(StoreError, match="no gridloom ledger"):
        ledger.query("FROM runs")


def test_the_file_can_be_opened_by_the_oldest_supported_duckdb(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
    ledger.ingest()
    with duckdb.connect(str(workspace.ledger_path), read_only=True) as connection:
        (row,) = connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'ledger'").fetchall()
    assert row[0]["storage_version"].startswith("v1.5")


def test_leftovers_of_a_creation_that_was_killed_do_not_matter(workspace: Workspace, ledger: Ledger) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
    leftover: Path = workspace.root / "ledger.1234.new"
    leftover.write_bytes(b"half a database")
    assert len(ledger.rows("FROM llm_calls")) == 1
    assert not leftover.exists()


@pytest.mark.parametrize(
    "limit", [1_000, 100_000, 400_000, 1_200_000], ids=["when opened", "while made", "while filled", "late"]
)
def test_a_full_disk_while_ingesting_loses_nothing_and_the_next_try_gets_all(workspace: Workspace, limit: int) -> None:
    out = finish(
        start(
            workspace.root,
            f"""
import resource
from gridloom.errors import StoreError
with LedgerWriter(workspace, 'r') as writer:
    for number in range(1, 401):
        writer.append(attempt(number=number, prompt=os.urandom(2000).hex()))
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
try:
    Ledger(workspace).ingest()
except StoreError as error:
    print(error.message)
    print(error.remedy)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(Ledger(workspace).rows('SELECT count(*) AS n, count(DISTINCT attempt) AS d FROM attempts'))
""",
        )
    )
    message, remedy, rows = out.splitlines()
    assert str(workspace.ledger_path.parent) in message
    assert "File too large" in message
    assert "free some space" in remedy
    assert rows == "[{'n': 400, 'd': 400}]"
