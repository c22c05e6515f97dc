"""Locks between processes: who holds one, for how long, and what others get."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest
from store_cases import start

from gridloom.stores.files import locks

HOLD = """
from gridloom.stores.files import locks
path = Path({path!r})
{held}
print(os.getpid(), flush=True)
time.sleep(60)
"""
CREATED = "fd = locks.create_held(path)"
SHARED = "fd = os.open(path, os.O_RDONLY)\nassert locks.take(fd, shared=True)"
FOLDER = "assert locks.hold_folder(path) is not None"


def holding(path: Path, held: str) -> subprocess.Popen[str]:
    """Start a process that holds `path`; it is there when this returns."""
    process = start(path.parent, HOLD.format(path=str(path), held=held))
    assert process.stdout is not None
    assert process.stdout.readline().strip() == str(process.pid)
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


def opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)


def test_a_lock_of_another_process_refuses_at_once_and_is_free_when_that_process_is_killed(path: Path) -> None:
    process = holding(path, CREATED)
    fd = opened(path)
    began = time.monotonic()
    assert not locks.take(fd)
    assert not locks.take(fd, shared=True)
    assert time.monotonic() - began < 1
    assert locks.is_held(path)
    assert locks.holders(fd) == [str(process.pid)]
    kill(process)
    assert not locks.is_held(path)
    assert locks.take(fd)
    assert locks.holders(fd) == [str(os.getpid())]
    os.close(fd)
    assert not locks.is_held(path)


def test_waiting_ends_after_the_time_or_when_the_holder_dies(path: Path) -> None:
    process = holding(path, CREATED)
    fd = opened(path)
    began = time.monotonic()
    assert not locks.take(fd, timeout_s=0.2)
    assert 0.2 <= time.monotonic() - began < 5
    os.kill(process.pid, 0)  # still there
    killer = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {process.pid}"])
    assert locks.take(fd, timeout_s=None)
    assert process.wait(5) == -9
    killer.wait()
    os.close(fd)


def test_sharers_share_and_keep_out_who_wants_it_alone(path: Path) -> None:
    path.touch()
    process = holding(path, SHARED)
    fd = opened(path)
    assert locks.take(fd, shared=True)
    other = opened(path)
    assert not locks.take(other)
    assert not locks.is_held(path), "shared holders are none of those that a probe looks for"
    os.close(fd)
    assert not locks.take(other), "the other process still shares it"
    kill(process)
    assert locks.take(other)
    os.close(other)


def test_a_held_file_is_new_and_is_held_against_this_process_too(path: Path) -> None:
    fd = locks.create_held(path)
    assert locks.is_held(path)
    assert path.stat().st_mode & 0o777 & ~0o644 == 0
    assert not os.get_inheritable(fd)
    with pytest.raises(FileExistsError):
        locks.create_held(path)
    assert os.write(fd, b"a") == os.write(fd, b"b") == 1
    os.close(fd)
    assert not locks.is_held(path)
    assert path.read_bytes() == b"ab"


def test_a_folder_is_held_until_its_descriptor_is_closed_or_the_process_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    process = holding(folder, FOLDER)
    assert locks.hold_folder(folder) is None
    kill(process)
    held = locks.hold_folder(folder)
    assert held is not None
    assert locks.hold_folder(folder) is None
    os.close(held)
    with pytest.raises(NotADirectoryError):
        locks.hold_folder(Path(__file__))


@pytest.mark.parametrize("code", [errno.EWOULDBLOCK, errno.EACCES, errno.ENOLCK])
def test_only_an_error_that_means_held_counts_as_held(path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(_fd: int, _mode: int) -> None:
        raise OSError(code, os.strerror(code))

    path.touch()
    monkeypatch.setattr(fcntl, "flock", refuse)
    if code == errno.ENOLCK:
        with pytest.raises(OSError, match=os.strerror(code)):
            locks.is_held(path)
    else:
        assert locks.is_held(path)
    assert locks.hold_folder(path.parent) is None
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match=os.strerror(code)):
        locks.create_held(path.with_name("new"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "a refused lock leaves no descriptor open"
