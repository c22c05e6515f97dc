"""Journals: one whole line an append, torn tails cut, errors of the disk in plain words."""

from __future__ import annotations

import errno
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_cases import attempt, call, finish, start

from gridloom.errors import StoreError
from gridloom.stores.journal import (
    JournalWriter,
    decode_bytes,
    decode_line,
    encode_line,
    has_whole_line,
    is_live,
    read_header,
    read_lines,
)
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace


def journal_of(writer: LedgerWriter) -> Path:
    assert writer.journal_path is not None
    return writer.journal_path


def test_nothing_is_written_before_the_first_append(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append()
        assert writer.journal_path is None
    assert not workspace.root.exists()


def test_an_append_of_several_records_is_one_checksummed_line(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt(), call())
        writer.append(call(number=2))
    header, first, second = journal_of(writer).read_bytes().splitlines()
    checksum, _, body = first.partition(b" ")
    assert int(checksum, 16) == zlib.crc32(body)
    assert json.loads(header.partition(b" ")[2])["h"]["run_id"] == "run-1"
    assert [unit["t"] for unit in json.loads(body)["r"]] == ["attempts", "llm_calls"]
    assert [json.loads(line.partition(b" ")[2])["s"] for line in (header, first, second)] == [0, 1, 2]


def test_bytes_and_numpy_values_are_written(workspace: Workspace) -> None:
    grid = np.array([[1, 2]], dtype=np.uint8)
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt(grids=[grid], score=np.float32(0.5), latent=b"\x00\x80\xff"))
    *_, line = read_lines(journal_of(writer))
    assert line.payload is not None
    columns = line.payload["r"][0]["r"]
    assert columns["grids"] == [[[1, 2]]]
    assert columns["score"] == 0.5
    assert decode_bytes(columns["latent"]) == b"\x00\x80\xff"


def test_a_value_with_no_form_in_json_is_refused_before_anything_is_written(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call())
        with pytest.raises(TypeError, match="a record cannot hold a object"):
            writer.append(attempt(plan={"view": object()}))
        writer.append(call(number=2))
    assert [line.payload is not None for line in read_lines(journal_of(writer))] == [True] * 3


@pytest.mark.parametrize("cut", [1, 2, 50])
def test_a_torn_tail_is_left_and_all_lines_before_it_are_read(workspace: Workspace, cut: int) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        for number in range(1, 4):
            writer.append(call(number=number))
    path = journal_of(writer)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    lines = [*read_lines(path)]
    assert len(lines) == 3
    assert all(line.payload for line in lines)
    assert not has_whole_line(path, lines[-1].end)


@pytest.mark.parametrize("damage", [b"X", b"\xff", b"\n", b"\x00"])
def test_a_damaged_line_is_seen_and_the_lines_after_it_are_read(workspace: Workspace, damage: bytes) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        for number in range(1, 4):
            writer.append(call(number=number))
    path = journal_of(writer)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:40] + damage + lines[2][41:]
    path.write_bytes(b"".join(lines))
    payloads = [line.payload for line in read_lines(path)]
    assert None in payloads
    assert [payload["s"] for payload in payloads if payload] == [0, 1, 3]


@pytest.mark.parametrize("line", [b"", b"short", b"0000000 {}", b"zzzzzzzz {}", b"00000000 not json"])
def test_a_line_that_is_no_journal_line_is_damaged(line: bytes) -> None:
    assert decode_line(line) is None


def test_a_line_with_a_right_checksum_that_holds_no_object_is_damaged() -> None:
    assert decode_line(b"%08x [1]" % zlib.crc32(b"[1]")) is None
    assert decode_line(encode_line({"s": 1})[:-1]) == {"s": 1}


def test_a_living_writer_is_told_from_a_dead_one(workspace: Workspace) -> None:
    code = "w = LedgerWriter(workspace, 'r'); w.append(call()); print('on', flush=True); time.sleep(60)"
    process = start(workspace.root, code)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    (path,) = workspace.journal_dir.iterdir()
    assert is_live(path)
    process.kill()
    process.wait()
    assert not is_live(path)


def test_a_forked_child_writes_a_file_of_its_own(workspace: Workspace) -> None:
    out = finish(
        start(
            workspace.root,
            """
w = LedgerWriter(workspace, 'r')
w.append(call(number=1))
if os.fork() == 0:
    w.append(call(number=2))
    os._exit(0)
os.wait()
w.append(call(number=3))
w.close()
print([row['attempt'] for row in Ledger(workspace).rows('from llm_calls order by attempt')])
""",
        )
    )
    assert out == "[1, 2, 3]\n"
    assert len([*workspace.journal_dir.iterdir()]) == 2


@pytest.mark.parametrize(
    ("code", "says", "remedy"),
    [
        (errno.ENOSPC, "no space left", "free some space"),
        (errno.EDQUOT, "quota is used up", "free some space"),
        (errno.EROFS, "read-only", "GRIDLOOM_HOME"),
        (errno.EIO, "disk reports an error", "check the disk"),
    ],
)
def test_a_refused_write_names_folder_and_remedy_and_keeps_what_was_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, code: int, says: str, remedy: str
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call(number=1))
        whole = journal_of(writer).read_bytes()
        real_write = os.write
        calls = []

        def failing_write(fd: int, data: bytes) -> int:
            calls.append(len(data))
            if len(calls) == 1:
                return real_write(fd, bytes(data)[:30])
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr("gridloom.stores.journal.os.write", failing_write)
            with pytest.raises(StoreError) as caught:
                writer.append(call(number=2))
        assert says in caught.value.message
        assert str(workspace.journal_dir) in caught.value.message
        assert remedy in caught.value.remedy
        assert journal_of(writer).read_bytes() == whole
        writer.append(call(number=3))
    assert [line.payload["s"] for line in read_lines(journal_of(writer)) if line.payload] == [0, 1, 2]


def test_a_tail_that_could_not_be_cut_is_cut_by_the_next_append(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(call(number=1))
        real_write = os.write
        state = {"full": False}

        def failing_write(fd: int, data: bytes) -> int:
            if state["full"]:
                raise OSError(errno.EIO, "io")
            state["full"] = True
            return real_write(fd, bytes(data)[:30])

        def failing_truncate(fd: int, size: int) -> None:
            raise OSError(errno.EIO, "io")

        with monkeypatch.context() as patch:
            patch.setattr("gridloom.stores.journal.os.write", failing_write)
            patch.setattr("gridloom.stores.journal.os.ftruncate", failing_truncate)
            with pytest.raises(StoreError):
                writer.append(call(number=2))
        writer.append(call(number=3))
    payloads = [line.payload for line in read_lines(journal_of(writer))]
    assert [payload["r"][0]["r"]["attempt"] for payload in payloads[1:] if payload] == [1, 3]


def test_a_real_file_size_limit_stops_an_append_cleanly(workspace: Workspace) -> None:
    out = finish(
        start(
            workspace.root,
            """
import resource
from gridloom.errors import StoreError
w = LedgerWriter(workspace, 'r')
w.append(call(number=1))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
number = 2
try:
    while True:
        w.append(attempt(number=number))
        number += 1
except StoreError as error:
    print(error.message)
size = w.journal_path.stat().st_size
assert w.journal_path.read_bytes().endswith(b'\\n')
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
w.append(attempt(number=number))
w.close()
print(number, Ledger(workspace).rows('select count(*) n from attempts')[0]['n'])
""",
        )
    )
    message, counts = out.splitlines()
    assert message == f"cannot append to the journal in {workspace.journal_dir}: the file size limit is reached"
    number, rows = counts.split()
    assert int(rows) == int(number) - 1 > 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o755)
    out = finish(
        start(
            folder / "home",
            """
from gridloom.errors import StoreError
if os.geteuid() == 0:
    os.seteuid(65534)
else:
    os.chmod(workspace.root.parent, 0o555)
try:
    LedgerWriter(workspace, 'r').append(call())
except StoreError as error:
    print(error)
""",
        )
    )
    folder.chmod(0o755)
    assert out.startswith(f"cannot create the workspace in {folder / 'home' / 'journal'}: permission denied")
    assert "GRIDLOOM_HOME" in out


def test_a_file_in_the_place_of_the_workspace_is_named(workspace: Workspace) -> None:
    workspace.root.write_text("not a folder")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        LedgerWriter(workspace, "run-1").append(call())


def test_a_journal_of_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="journal format 99") as caught:
        read_header({"s": 0, "h": {"format": 99, "gridloom_version": "7.0"}}, tmp_path / "x.jsonl")
    assert "upgrade" in caught.value.remedy


def test_two_writers_of_one_process_do_not_share_a_file(tmp_path: Path) -> None:
    first, second = JournalWriter(tmp_path, "a"), JournalWriter(tmp_path, "b")
    first.append([call()])
    second.append([call()])
    assert first.path != second.path
    first.close()
    second.close()


def test_sync_and_close_may_be_repeated_and_an_append_after_close_goes_to_a_new_file(workspace: Workspace) -> None:
    writer = LedgerWriter(workspace, "run-1")
    writer.sync()
    writer.close()
    writer.append(call())
    before = writer.journal_path
    writer.sync()
    writer.close()
    writer.close()
    writer.append(call(number=2))
    writer.close()
    assert writer.journal_path != before


def test_journals_begun_within_a_millisecond_are_read_in_their_order(workspace: Workspace) -> None:
    paths = []
    for number in range(1, 51):
        with LedgerWriter(workspace, "run-1") as writer:
            writer.append(call(number=number))
            paths.append(writer.journal_path)
    assert sorted(paths) == paths


@given(
    payload=st.dictionaries(
        st.text(),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters())
            | st.binary(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_both_encoders_write_what_is_read_as_the_same(payload: dict[str, Any]) -> None:
    assert decode_line(encode_line(payload, finite=True)[:-1]) == decode_line(encode_line(payload)[:-1])
