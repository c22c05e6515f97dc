"""Files and folders that appear under their name whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from store_cases import start

from gridloom.stores.files.write_aside import empty_folder, move, replacing, sync_files, write_durably


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(folder: Path, code: str) -> None:
    """Run code with `folder` at hand; kill it where it calls `hang`."""
    setup = f"""
from gridloom.stores.files.write_aside import *
from gridloom.stores.files import write_aside
folder = Path({str(folder)!r})
def hang(*args, **kwargs):
    print('hanging', flush=True)
    time.sleep(60)
"""
    process = start(folder, setup + code)
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.kill()
    process.wait()


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(
    "code",
    [
        "Path.replace = hang\nwrite_durably(folder / 'x.json', b'new')",
        "os.fsync = hang\nwrite_durably(folder / 'x.json', b'new')",
        "with replacing(folder / 'x.json') as aside:\n    aside.write_bytes(b'new')\n    hang()",
    ],
    ids=["before the rename", "before the sync", "while written"],
)
def test_a_process_killed_before_the_rename_leaves_the_old_file_and_one_aside(
    tmp_path: Path, code: str, old: bytes | None
) -> None:
    path = tmp_path / "x.json"
    if old is not None:
        path.write_bytes(old)
    killed(tmp_path, code)
    assert (path.read_bytes() if path.exists() else None) == old
    (aside,) = set(names(tmp_path)) - {"x.json"}
    assert aside.startswith(".x.json.")
    write_durably(path, b"next")
    assert path.read_bytes() == b"next"


def test_a_process_killed_after_the_rename_leaves_the_new_file_whole(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"old")
    killed(tmp_path, "write_aside.sync_folder = hang\nwrite_durably(folder / 'x.json', b'new')")
    assert (tmp_path / "x.json").read_bytes() == b"new"
    assert names(tmp_path) == ["x.json"]


def test_a_durable_file_is_synced_then_renamed_then_its_name_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(fd: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        real_sync(fd)

    def replace(self: Path, target: Path) -> Path:
        done.append(f"{self.name} -> {target.name} with {self.read_text()}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    write_durably(tmp_path / "x", b"new")
    aside = f".x.{os.getpid()}"
    assert done == [f"sync {aside}", f"{aside} -> x with new", f"sync {tmp_path.name}"]


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), ValueError("x")])
def test_a_body_that_fails_leaves_the_old_file_and_nothing_aside(tmp_path: Path, problem: BaseException) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as aside:
            aside.write_text("half")
            raise problem

    with pytest.raises(type(problem)) as caught:
        fail()
    assert caught.value is problem
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x"]


def test_a_folder_that_cannot_hold_the_file_is_what_the_error_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError), replacing(tmp_path / "file" / "x") as aside:
        aside.write_text("new")
    with pytest.raises(FileNotFoundError) as caught:
        write_durably(tmp_path / "absent" / "x", b"new")
    assert caught.value.filename == str(tmp_path / "absent" / f".x.{os.getpid()}")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        write_durably(tmp_path / "folder", b"new")
    assert names(tmp_path) == ["file", "folder"]


def test_a_named_aside_is_used_and_what_lies_there_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.tmp").write_text("of a killed process, and longer")
    with replacing(tmp_path / "x", aside=tmp_path / "x.tmp") as aside:
        aside.write_text("new")
        assert names(tmp_path) == ["x.tmp"]
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "new"


def test_a_link_is_replaced_and_what_it_points_to_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "far").write_text("far")
    (tmp_path / "x").symlink_to("far")
    write_durably(tmp_path / "x", b"new")
    assert not (tmp_path / "x").is_symlink()
    assert [(tmp_path / name).read_text() for name in ("far", "x")] == ["far", "new"]


def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_durably(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("code", "target_is"),
    [
        ("with empty_folder(folder / 'x.tmp') as aside:\n    (aside / 'half').touch()\n    hang()", ["old"]),
        (
            "Path.rename = hang\nwith empty_folder(folder / 'x.tmp') as aside:\n"
            "    (aside / 'half').touch()\n    move(aside, folder / 'x')",
            ["old"],
        ),
        (
            "Path.rename = hang\nwith empty_folder(folder / 'x.tmp') as aside:\n"
            "    (aside / 'half').touch()\n    move(aside, folder / 'x', replace=True)",
            None,
        ),
    ],
    ids=["while filled", "before the rename", "the old one removed"],
)
def test_a_process_killed_before_the_rename_leaves_no_half_folder_under_the_name(
    tmp_path: Path, code: str, target_is: list[str] | None
) -> None:
    target = tmp_path / "x"
    target.mkdir()
    (target / "old").touch()
    killed(tmp_path, code)
    assert (names(target) if target.exists() else None) == target_is
    assert names(tmp_path / "x.tmp") == ["half"]
    with empty_folder(tmp_path / "x.tmp") as aside:
        assert names(aside) == []
        (aside / "new").touch()
        move(aside, target, replace=True, durable=True)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["x"]


def test_a_folder_in_the_way_refuses_unless_it_is_to_be_replaced_and_an_empty_one_is_none(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.mkdir()
    for keep in ("first", "second"):
        with empty_folder(tmp_path / "aside") as aside:
            (aside / keep).touch()
            if keep == "first":
                move(aside, target)
            else:
                with pytest.raises(FileExistsError, match=r"Directory not empty: .*aside' -> .*x'"):
                    move(aside, target)
                assert names(aside) == ["second"]
    assert names(target) == ["first"]
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_does_not_take_the_place_of_a_file_or_link(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "x"
    if kind == "file":
        target.write_text("mine")
    else:
        (tmp_path / "far").mkdir()
        target.symlink_to("far")
    with pytest.raises(NotADirectoryError), empty_folder(tmp_path / "aside") as aside:
        move(aside, target)
    assert "aside" not in names(tmp_path)
    assert target.is_symlink() or target.read_text() == "mine"


@pytest.mark.parametrize("problem", [KeyboardInterrupt, OSError])
def test_a_folder_that_is_not_moved_is_removed(tmp_path: Path, problem: type[BaseException]) -> None:
    with pytest.raises(problem), empty_folder(tmp_path / "new" / "aside") as aside:
        raise problem((aside / "half").write_text("half"))
    assert names(tmp_path) == ["new"]
    assert names(tmp_path / "new") == []


def test_the_files_of_a_folder_are_synced_with_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    sync_files(tmp_path)
    assert sorted(synced[:2]) == ["a", "b"]
    assert synced[2:] == [tmp_path.name]
    with empty_folder(tmp_path / "aside") as aside:
        move(aside, tmp_path / "c", durable=True)
    assert synced[3:] == [tmp_path.name]
