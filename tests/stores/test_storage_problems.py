"""Folders that cannot be used: one message that names the path, from the process of a user without rights."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridloom.cli.main import main
from gridloom.errors import StoreError
from gridloom.runtime.machine.speeds import load_speeds
from gridloom.runtime.planning.starter import write_starter
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.connect import _open_error
from gridloom.stores.workspace import Workspace

NOBODY = 65534


def as_nobody(work: Callable[[], object]) -> str:
    """Fork, give up the rights of root, and return what `work` printed, or the message of its error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = os.fdopen(write, "w")
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            work()
        except SystemExit:
            pass
        except StoreError as error:
            print(f"StoreError: {error}")
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as out:
        text = out.read()
    os.waitpid(child, 0)
    return text


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can reach; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link", "?", "no UTF-8", "too long", "unknown user"])
def test_a_path_that_is_no_workspace_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    path = {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "deep",
        "dangling link": tmp_path / "link",
        "?": tmp_path / "what?",
        "no UTF-8": Path(os.fsdecode(bytes(tmp_path) + b"/\xff")),
        "too long": tmp_path / ("n" * 300),
        "unknown user": Path("~no-such-user-here/x"),
    }[kind]
    with pytest.raises(StoreError) as caught:
        Workspace.find(path)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["a b", "größe", "h#x", "p%20x", "x;y", "'q\""])
def test_other_names_make_a_workspace(tmp_path: Path, name: str) -> None:
    workspace = Workspace.find(tmp_path / name)
    assert workspace.ensure(workspace.journal_dir).is_dir()
    assert (workspace.root / ".gitignore").read_text() == "*\n"
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("folder", ["artifacts", "artifacts/.writing", "work", "artifacts/gl1-9f3c/manifest.json"])
@pytest.mark.parametrize("rights", [0o000, 0o400])
def test_a_store_without_rights_is_one_message(open_folder: Path, folder: str, rights: int) -> None:
    workspace = Workspace(open_folder / "w")
    store = ArtifactStore(workspace)
    with store.writing("gl1:9f3c") as tmp:
        store.publish(tmp, key="gl1:9f3c", type="t", kind="k", producer={}, inputs={})
    store.work_dir("gl1:9f3c")
    (workspace.root / folder).chmod(rights)

    def look() -> None:
        store.find("gl1:9f3c")
        store.published()
        store.has_work("gl1:9f3c")
        store.aborted()
        with store.writing("gl1:aa"):
            pass
        store.work_dir("gl1:aa")

    message = as_nobody(look)
    (workspace.root / folder).chmod(0o755)
    assert message.startswith("StoreError: cannot "), message
    assert str(workspace.root) in message


def test_a_store_that_cannot_publish_says_so_before_the_work(open_folder: Path) -> None:
    workspace = Workspace(open_folder / "w")
    store = ArtifactStore(workspace)
    with store.writing("gl1:9f3c"):
        pass
    workspace.artifact_dir.chmod(0o555)
    (workspace.artifact_dir / ".writing").chmod(0o777)

    def work() -> None:
        with store.writing("gl1:aa"):
            print("worked")

    message = as_nobody(work)
    workspace.artifact_dir.chmod(0o755)
    assert message.startswith(f"StoreError: cannot publish artifacts in {workspace.artifact_dir}"), message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format_version": 1, "device": 3}', "\xff"])
def test_a_damaged_calibration_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("GRIDLOOM_CACHE", str(tmp_path))
    (tmp_path / "calibration").mkdir()
    (tmp_path / "calibration" / "cpu.json").write_bytes(text.encode("latin-1"))
    speeds = load_speeds()
    assert "cpu" not in speeds.known
    assert "is not readable by this gridloom" in speeds.unused["cpu"]


def test_an_unreadable_cache_and_a_read_only_folder_are_no_traceback(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDLOOM_CACHE", str(open_folder / "cache"))
    (open_folder / "cache").mkdir(mode=0o000)
    assert as_nobody(lambda: print(load_speeds().known)) == "{}\n"
    (open_folder / "cache").chmod(0o700)
    (open_folder / "closed").mkdir(mode=0o555)
    # read now what the command line imports late: the environment may lie where nobody else can read
    importlib.import_module("typer._click.decorators")

    def init() -> None:
        sys.argv = ["gridloom", "init", "mine"]
        os.chdir(open_folder / "closed")
        main()

    message = as_nobody(init)
    assert message.startswith("cannot write "), message
    assert "run it in a folder that can be written" in message
    assert "mine.yaml" in str(write_starter("mine", open_folder)[0])


def test_a_ledger_without_rights_is_not_to_be_moved_away(tmp_path: Path) -> None:
    text = f'IO Error: Cannot open file "{tmp_path}/ledger.duckdb": Permission denied'
    refused = _open_error(tmp_path / "ledger.duckdb", text, busy=False, waited_s=0)
    assert refused.remedy == "make it readable and writable for this user"
    damaged = _open_error(tmp_path / "ledger.duckdb", "IO Error: not a valid DuckDB file", busy=False, waited_s=0)
    assert "mv ledger.duckdb ledger.duckdb.damaged" in (damaged.remedy or "")
